"""In a guest: processor time of `probe --level quick` beside `ibv_devinfo -v`, in turn, each with its child processes.

Processor time, as the guest's clock runs ahead while it waits for its disk.

    probe.py RDMADOCTOR
"""

import resource
import statistics
import subprocess
import sys

ROUNDS = 9


def seconds(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert ran.returncode in (0, 1), command
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
