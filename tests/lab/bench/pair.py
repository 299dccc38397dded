#!/usr/bin/env python3
"""Two guests on one wire: `bw --peer` and `ping --peer` beside perftest, in turn, on the same devices. Prints Markdown.

    pair.py RDMADOCTOR [write_bw|read_bw|send_bw|read_lat|send_lat ...] [rounds=N] [SIZE ...]

Each guest is one processor of so many instructions a second, in step with real time (`boot --paced`). What is slower than that is a processor of
the host that had something else to do: so run it on a machine with two processors that does nothing else. Figures repeat to some percent
then, without the pace only to a factor of two; ratios are medians.

Latencies are those of event mode: a guest that polls runs ahead of the other one by up to 3 ms. One that sleeps between messages does so in the long
run only: some messages are seen too early, and one in ten waits for the other guest to be let on. So the mean counts as well as the median, and best of
all what both guests' processors do for a packet, which repeats to a percent.
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
TESTS = ["write_bw", "read_bw", "send_bw", "read_lat", "send_lat"]
ROUNDS = 5
# A run of ours lasts this long, and one of perftest's moves about as much.
DURATION = "2s"
BYTES, MOST, LEAST = 16 << 20, 8000, 5
# Of latencies: so many messages, or so many bytes.
SAMPLES, LATENCY_BYTES = 2500, 32 << 20


class Guest:
    def __init__(self, folder, own, other, address):
        self.share = os.path.join(folder, f"share-{own}")
        control = os.path.join(folder, f"control-{own}")
        wires = [os.path.join(folder, f"wire-{end}") for end in (own, other)]
        options = ["--share", self.share, "--control", control, "--wire", *wires, "--address", f"{address}/24"]
        self.process = subprocess.Popen(
            [os.path.join(LAB, "boot"), *options, "--devices", "rxe", "--memory", "1500", "--paced"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self.control, self.lines, self.count = control, None, 0

    def ready(self):
        until = time.monotonic() + lab.BOOT_DEADLINE
        self.lines = lab.Lines(lab.connect(self.control, self.process, until))
        while self.lines.next(1.0) != "READY":
            if time.monotonic() > until:
                raise lab.NoGuest("not ready")

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
        if self.lines:
            self.lines.control.sendall(b"OFF\n")
        lab.end(self.process, 5.0)


def ours(here, program, command, operation, size, more):
    words = [program, "--format", "json", "-q", "--answer-within", "60s", command, "rxe0", "--peer", ADDRESS, "--to", "rxe0", "--token", TOKEN]
    words += ["--op", operation, "--sizes", str(size), "--repeats", "1", *more]
    code, out = here.run(shlex.join(words) + " 2>&1")
    assert code == 0, out
    result = json.loads(out)["results"][0]
    assert not result["failure"], out
    return result


def perftest(here, there, tool, size, options, figure):
    command = shlex.join([tool, "-d", "rxe0", "-x", "1", "-F", "-s", str(size), *options])
    there.run(f"(setsid {command} > /dev/null 2>&1 &)", 10)
    code, out = here.run(f"for i in $(seq 30); do {command} {ADDRESS} && exit 0; sleep 0.2; done; exit 1")
    # A guest that answers what is still under way comes to this late.
    there.run("pkill -x 'ib_.*_(bw|lat)'; true", 120)
    rows = [line.split() for line in out.splitlines()]
    rows = [row for row in rows if len(row) > 4 and row[0].isdigit() and row[1].isdigit()]
    return figure(rows[-1]) if code == 0 and rows else None


class Bandwidth:
    FIGURES = ["MB/s"]

    def __init__(self, here, there, program, operation, size):
        count = max(LEAST, min(MOST, BYTES // size))
        count = max(count, 256) if size <= 65536 else count
        depth = [] if count >= 128 else ["-t", str(count)]
        self.own = lambda: ours(here, program, "bw", operation, size, ["--buffer", "hot", "--duration", DURATION])
        self.given = lambda options: perftest(
            here, there, f"ib_{operation}_bw", size, ["-n", str(count), *depth, *options], lambda row: (transfer.bytes_per_second(row) / 1e6,)
        )
        sets = [[], ["-l", "16", "-Q", "16"]] if size <= 65536 else [[]]
        # Of writes perftest has no events.
        sets += [[*options, "-e"] for options in sets if operation != "write"]
        self.options = max(sets, key=lambda options: self.given(options) or (0,))

    def ours(self):
        result = self.own()
        return (result["bytes_per_second"]["median"] / 1e6,), transfer.chosen(result)

    def theirs(self):
        return self.given(self.options)


class Latency:
    # The last one is what the processors of both guests do.
    FIGURES = ["median us", "mean us", "busy us a packet"]

    def __init__(self, here, there, program, operation, size):
        self.options, self.guests = ["-e"], (here, there)
        self.count = max(LEAST, min(SAMPLES, LATENCY_BYTES // size))

        def own(count):
            result = ours(here, program, "ping", operation, size, ["--completion", "event", "--iterations", str(count)])["latencies"]
            return result["p50_us"], result["mean_us"]

        self.own = own
        self.given = lambda count: perftest(
            here, there, f"ib_{operation}_lat", size, ["-n", str(count), "-e"], lambda row: (float(row[4]), float(row[5]))
        )

    def work(self, run, count):
        """Busy seconds and packets of both guests, and what the run says."""
        before = [spent(guest) for guest in self.guests]
        said = run(count)
        after = [spent(guest) for guest in self.guests]
        return [sum(guest[part] for guest in after) - sum(guest[part] for guest in before) for part in (0, 1)], said

    def measure(self, run):
        """A short run and a long one: what they differ by is what messages take, without the start and the end of a program."""
        (few_s, few), short = self.work(run, self.count // 5)
        (many_s, many), said = self.work(run, self.count)
        return (*said, (many_s - few_s) / (many - few) * 1e6) if short and said else None

    def ours(self):
        return self.measure(self.own), "events"

    def theirs(self):
        return self.measure(self.given)


def spent(guest):
    """Seconds that the guest's processor was not idle, and packets that it has sent."""
    code, out = guest.run("cat /proc/uptime /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts", 20)
    up, idle, packets = out.split()
    return float(up) - float(idle), int(packets)


def compare(name, size, rounds, test):
    pairs, ways = [], []
    for index in range(rounds):
        # The first of a pair is now the one, now the other.
        own = test.ours() if index % 2 else None
        theirs = test.theirs()
        own, way = own or test.ours()
        print(f"{name} {size}: {own} beside {theirs}, {way}", file=sys.stderr, flush=True)
        if theirs:
            pairs.append((own, theirs))
            ways.append(way)
    if not pairs:
        print(f"| {name} | {size} | | | perftest gave no figure in {rounds} rounds | | | |", flush=True)
        return
    for index, figure in enumerate(test.FIGURES):
        column = [(own[index], theirs[index]) for own, theirs in pairs]
        ratios = sorted(own / theirs for own, theirs in column)
        own, theirs = (statistics.median(side) for side in zip(*column))
        told = f"{statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f}, {len(pairs)} rounds"
        way = f"{shlex.join(test.options) or 'default'} | {statistics.mode(ways)}"
        print(f"| {name}, {figure} | {size} | {own:.3f} | {theirs:.3f} | {told} | {way} |", flush=True)


def main():
    program, words = os.path.realpath(sys.argv[1]), sys.argv[2:]
    rounds = int(next((word.removeprefix("rounds=") for word in words if word.startswith("rounds=")), ROUNDS))
    sizes = [int(word) for word in words if word.isdigit()] or transfer.SIZES
    tests = [word for word in words if word in TESTS] or TESTS
    with tempfile.TemporaryDirectory(prefix="rd-pair-", dir="/tmp") as folder:
        here, there = Guest(folder, "a", "b", "10.79.0.1"), Guest(folder, "b", "a", ADDRESS)
        try:
            here.ready()
            there.ready()
            peer = f"RDMADOCTOR_TOKEN={TOKEN} setsid {program} --answer-within 60s peer --listen {ADDRESS} > /tmp/peer 2>&1 &"
            code, out = there.run(f"{peer}\nfor i in $(seq 600); do grep -q listening /tmp/peer && exit 0; sleep 0.1; done; cat /tmp/peer; exit 1", 90)
            assert code == 0, out
            print("Bandwidth in MB/s (10^6), ratio at least 1; latency and work in us, ratio at most 1:\n")
            print("| test | bytes | rdmadoctor | perftest | ratio | of rounds | perftest's options | rdmadoctor chose |\n|---|---|---|---|---|---|---|---|", flush=True)
            for name in tests:
                operation, what = name.split("_")
                for size in sizes:
                    compare(name, size, rounds, (Bandwidth if what == "bw" else Latency)(here, there, program, operation, size))
        finally:
            here.off()
            there.off()


if __name__ == "__main__":
    main()
