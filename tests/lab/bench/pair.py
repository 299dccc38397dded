#!/usr/bin/env python3
"""Two guests on one wire: `bw --peer` beside perftest, in turn, on the same devices. Prints Markdown.

    pair.py RDMADOCTOR [write_bw|read_bw|send_bw ...] [rounds=N] [SIZE ...]

In real time, as the instruction counts of two guests have no moment in common: a guest that waits for the other one would let its clock run
ahead. So figures differ from round to round, and ratios are medians of many. Run it on a machine that does nothing else: each guest has one
processor, so that two of the machine's are enough.
"""

import importlib.machinery
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import transfer

LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def script(name, path):
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


# How guests are spoken to; the same for one of them.
lab = script("lab_run", os.path.join(LAB, "run"))

TOKEN = "benchmark-of-two-guests"
ADDRESS = "10.79.0.2"
OPERATIONS = ["write_bw", "read_bw", "send_bw"]
ROUNDS = 7
# A run of ours lasts this long, and one of perftest's moves about as much.
DURATION = "2s"
BYTES, MOST, LEAST = 16 << 20, 8000, 5


class Guest:
    def __init__(self, folder, own, other, address):
        self.share = os.path.join(folder, f"share-{own}")
        control = os.path.join(folder, f"control-{own}")
        wires = [os.path.join(folder, f"wire-{end}") for end in (own, other)]
        options = ["--share", self.share, "--control", control, "--wire", *wires, "--address", f"{address}/24"]
        self.process = subprocess.Popen(
            [os.path.join(LAB, "boot"), *options, "--devices", "rxe", "--memory", "1500", "--cpus", "1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + lab.BOOT_DEADLINE
        self.lines = lab.Lines(lab.connect(control, self.process, until))
        while self.lines.next(1.0) != "READY":
            if time.monotonic() > until:
                raise lab.NoGuest("not ready")
        self.count = 0

    def start(self, command, seconds):
        self.count += 1
        with open(os.path.join(self.share, f"r{self.count}.sh"), "w") as file:
            file.write(command + "\n")
        self.lines.control.sendall(f"RUN r{self.count} {seconds}\n".encode())
        return self.count

    def run(self, command, seconds=120):
        number = self.start(command, seconds)
        until = time.monotonic() + seconds + 30
        while time.monotonic() < until:
            line = self.lines.next(1.0)
            if line and line.startswith(f"DONE r{number} "):
                with open(os.path.join(self.share, f"r{number}.out"), errors="replace") as file:
                    return int(line.split()[2]), file.read()
        raise lab.NoGuest("the guest no longer answers")

    def off(self):
        self.lines.control.sendall(b"OFF\n")
        lab.end(self.process, 5.0)


def ours(here, program, operation, size):
    words = [program, "--format", "json", "-q", "--answer-within", "60s", "bw", "rxe0", "--peer", ADDRESS, "--to", "rxe0", "--token", TOKEN]
    words += ["--op", operation, "--sizes", str(size), "--buffer", "hot", "--repeats", "1", "--duration", DURATION]
    code, out = here.run(shlex.join(words) + " 2>&1")
    assert code == 0, out
    result = json.loads(out)["results"][0]
    assert not result["failure"], out
    return result["bytes_per_second"]["median"]


def perftest(here, there, operation, size, options):
    count = max(LEAST, min(MOST, BYTES // size))
    count = max(count, 256) if size <= 65536 else count
    depth = [] if count >= 128 else ["-t", str(count)]
    command = shlex.join([f"ib_{operation}_bw", "-d", "rxe0", "-x", "1", "-F", "-s", str(size), "-n", str(count), *depth, *options])
    there.run(f"(setsid {command} > /dev/null 2>&1 &)", 10)
    code, out = here.run(f"for i in $(seq 30); do {command} {ADDRESS} && exit 0; sleep 0.2; done; exit 1")
    there.run("pkill -x 'ib_.*_bw'; true", 10)
    rows = [line.split() for line in out.splitlines()]
    rows = [row for row in rows if len(row) > 4 and row[0].isdigit() and row[1].isdigit()]
    return transfer.bytes_per_second(rows[-1]) if code == 0 and rows else None


def main():
    program, words = os.path.realpath(sys.argv[1]), sys.argv[2:]
    rounds = int(next((word.removeprefix("rounds=") for word in words if word.startswith("rounds=")), ROUNDS))
    sizes = [int(word) for word in words if word.isdigit()] or transfer.SIZES
    operations = [word for word in words if word in OPERATIONS] or OPERATIONS
    with tempfile.TemporaryDirectory(prefix="rd-pair-", dir="/tmp") as folder:
        here, there = Guest(folder, "a", "b", "10.79.0.1"), Guest(folder, "b", "a", ADDRESS)
        try:
            peer = f"RDMADOCTOR_TOKEN={TOKEN} setsid {program} --answer-within 60s peer --listen {ADDRESS} > /tmp/peer 2>&1 &"
            code, out = there.run(f"{peer}\nfor i in $(seq 600); do grep -q listening /tmp/peer && exit 0; sleep 0.1; done; cat /tmp/peer; exit 1", 90)
            assert code == 0, out
            print("| operation | bytes | rdmadoctor | perftest | ratio | of rounds | perftest's options |\n|---|---|---|---|---|---|---|", flush=True)
            for operation in (word.removesuffix("_bw") for word in operations):
                for size in sizes:
                    sets = [[], ["-l", "16", "-Q", "16"]] if size <= 65536 else [[]]
                    # Of writes perftest has no events.
                    sets += [[*options, "-e"] for options in sets if operation != "write"]
                    tried = [(perftest(here, there, operation, size, options) or 0, options) for options in sets]
                    options = max(tried, key=lambda one: one[0])[1]
                    pairs = []
                    for index in range(rounds):
                        # The first of a pair is now the one, now the other.
                        own = ours(here, program, operation, size) if index % 2 else None
                        theirs = perftest(here, there, operation, size, options)
                        own = own or ours(here, program, operation, size)
                        if theirs:
                            pairs.append((own, theirs))
                    ratios = sorted(own / theirs for own, theirs in pairs)
                    own, theirs = (statistics.median(column) / 1e6 for column in zip(*pairs))
                    told = f"{statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f}, {len(pairs)} rounds"
                    print(f"| {operation} | {size} | {own:.3f} | {theirs:.3f} | {told} | {shlex.join(options) or 'default'} |", flush=True)
        finally:
            here.off()
            there.off()


if __name__ == "__main__":
    main()
