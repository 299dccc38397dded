"""One side of a DLSlime transfer between two hosts: `source` writes bytes into the memory of `target`, which looks whether they arrived.

    /usr/bin/python3 tests/lab/engines/dlslime_side.py DEVICE source|target MINE THEIRS

Writes what the other side must know to the file MINE, and waits for the file THEIRS.
"""

import argparse
import ctypes
import faulthandler
import json
import mmap
import os
import random
import sys
import time

BYTES = 65536

parser = argparse.ArgumentParser()
parser.add_argument("device")
parser.add_argument("role", choices=["source", "target"])
parser.add_argument("mine")
parser.add_argument("theirs")
options = parser.parse_args()

# From a thread of its own that needs no interpreter: DLSlime waits in C++, where Python's signal handlers do not run.
faulthandler.dump_traceback_later(100, exit=True)

import dlslime

if options.device not in dlslime.available_nic():
    sys.exit(f"DLSlime sees no device {options.device}, only {dlslime.available_nic()}")

endpoint = dlslime.RDMAEndpoint(device_name=options.device, ib_port=1, link_type="RoCE", num_qp=1)
memory = mmap.mmap(-1, BYTES)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
# Both sides know the region by the same key, which 0.0.2 lets the caller choose.
endpoint.register_memory_region(1, address, 0, BYTES)

with open(options.mine + ".part", "w") as mine:
    json.dump(endpoint.endpoint_info(), mine)
os.rename(options.mine + ".part", options.mine)
while not os.path.exists(options.theirs):
    time.sleep(0.05)
with open(options.theirs) as theirs:
    endpoint.connect(json.load(theirs))

pattern = random.Random(1).randbytes(BYTES)
if options.role == "source":
    memory[:] = pattern
    # The other side may still be connecting.
    time.sleep(3)
    endpoint.write([(1, 1, 0, 0, BYTES)]).wait()
    print(f"sent {BYTES}", flush=True)
    time.sleep(5)
else:
    until = time.monotonic() + 60
    while memory[:] != pattern and time.monotonic() < until:
        time.sleep(0.05)
    if memory[:] != pattern:
        sys.exit("the bytes did not arrive")
    print(f"arrived {BYTES}", flush=True)
# Past the engine's destructors: its threads still run, and how it ends is not the question here.
os._exit(0)
