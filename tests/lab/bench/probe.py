"""In a guest: time of `probe --level quick` beside `ibv_devinfo -v`, in turn, each from its start to its end.

    probe.py RDMADOCTOR
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 9


def seconds(*command):
    start = time.monotonic()
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert ran.returncode in (0, 1), command
    return time.monotonic() - start


def main():
    doctor = [sys.argv[1], "--quiet", "probe", "--level", "quick"]
    ours, theirs = [], []
    for _ in range(ROUNDS + 1):
        theirs.append(seconds("ibv_devinfo", "-v"))
        ours.append(seconds(*doctor))
    # The first round reads both programs and their libraries into memory.
    ours, theirs = ours[1:], theirs[1:]
    ratios = [own / other for own, other in zip(ours, theirs)]
    print(f"one look at the host, {ROUNDS} rounds in turn")
    print(f"  rdmadoctor probe --level quick  {statistics.median(ours) * 1e3:8.1f} ms")
    print(f"  ibv_devinfo -v                  {statistics.median(theirs) * 1e3:8.1f} ms")
    print(f"  ratio                           {statistics.median(ratios):8.2f}     (from {min(ratios):.2f} to {max(ratios):.2f}; goal 2)")


main()
