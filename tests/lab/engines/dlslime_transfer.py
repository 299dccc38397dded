"""Writes bytes from one DLSlime endpoint to another on the same device, and looks whether they arrived.

    PYTHONPATH=$(tests/lab/engines/install dlslime 0.0.2.post1) /usr/bin/python3 tests/lab/engines/dlslime_transfer.py DEVICE [--bytes N]

Prints "arrived N" and exits with 0; anything else is a failure, a crash of DLSlime's included.
"""

import argparse
import ctypes
import faulthandler
import mmap
import os
import random
import sys

DEADLINE = 40  # seconds; an emulated processor needs about 5

parser = argparse.ArgumentParser()
parser.add_argument("device")
parser.add_argument("--bytes", type=int, default=65536)
options = parser.parse_args()

# From a thread of its own that needs no interpreter: DLSlime waits in C++, where Python's signal handlers do not run.
faulthandler.dump_traceback_later(DEADLINE, exit=True)

import dlslime

# DLSlime takes the first device when it does not know the name.
if options.device not in dlslime.available_nic():
    sys.exit(f"DLSlime sees no device {options.device}, only {dlslime.available_nic()}")


class Side:
    """An endpoint with one registered buffer."""

    def __init__(self):
        self.endpoint = dlslime.RDMAEndpoint(device_name=options.device, ib_port=1, link_type="RoCE", num_qp=1)
        self.memory = mmap.mmap(-1, options.bytes)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        handle = self.endpoint.register_memory_region(self.address, self.address, 0, options.bytes)
        # 0.0.2 knows a region by the key given to it, the versions with a memory pool by the handle that registering returns.
        self.key = handle if hasattr(dlslime, "RDMAMemoryPool") else self.address


source, target = Side(), Side()
pattern = random.Random(1).randbytes(options.bytes)
source.memory[:] = pattern

# What each side says about itself includes its memory, which connecting makes known to the other.
told = source.endpoint.endpoint_info(), target.endpoint.endpoint_info()
source.endpoint.connect(told[1])
target.endpoint.connect(told[0])

# The library's own thread makes the progress.
source.endpoint.write([(source.key, target.key, 0, 0, options.bytes)]).wait()

# DLSlime's wait ends, without an error, on a failed transfer too.
if target.memory[:] != pattern:
    same = sum(a == b for a, b in zip(target.memory[:], pattern))
    sys.exit(f"{options.bytes} bytes written, {same} of them are right at the target")
print(f"arrived {options.bytes}", flush=True)
# Past the engine's destructors: its threads still run, and how it ends is not the question here.
os._exit(0)
