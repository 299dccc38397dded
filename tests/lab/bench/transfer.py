"""In a guest: `bw` and `ping` beside perftest, in turn, on the same device. Prints Markdown.

    transfer.py RDMADOCTOR DEVICE GID_INDEX [to=DEVICE at=ADDRESS] [write_bw|read_bw|send_bw|read_lat|send_lat|write_lat ...] [rounds=N] [SIZE ...]

With `to` and `at` the other side is another device, and ours is a process of its own, `peer`, that listens at that address.

perftest is given several sets of options, of which the best one counts; rdmadoctor is given none that tune it. Both sides share the guest's
one processor, so bandwidth of reads and sends is measured in event mode too; of writes perftest has none.
"""

import json
import os
import statistics
import subprocess
import sys
import time

ROUNDS = 3
SIZES = [2, 64, 1024, 4096, 65536, 1 << 20, 8 << 20]
# A run of perftest moves about as much as one of ours.
BYTES, MOST, LEAST = 8 << 20, 4000, 5
PORT = 18600
# Soft-RoCE numbers its objects on and on, and finds them in a tree that branches 64 ways: beyond 64 each look-up takes a step more, 0.5 % of
# a rate. So that both programs have numbers of one length, as many are used up first.
NUMBERS = 80
TOKEN = "benchmark-on-a-wire"


def use_up_numbers(device):
    import pyverbs.enums as enums
    from pyverbs.cq import CQ
    from pyverbs.device import Context
    from pyverbs.mr import MR
    from pyverbs.pd import PD
    from pyverbs.qp import QP, QPCap, QPInitAttr

    context = Context(name=device)
    for _ in range(NUMBERS):
        with PD(context) as pd, MR(pd, 4096, enums.IBV_ACCESS_LOCAL_WRITE), CQ(context, 16) as cq:
            caps = QPCap(max_send_wr=1, max_recv_wr=1)
            QP(pd, QPInitAttr(qp_type=enums.IBV_QPT_RC, scq=cq, rcq=cq, cap=caps)).close()


def perftest(tool, ends, gid, arguments, figure):
    """What `figure` makes of the last row of results, or None."""
    global PORT
    PORT += 1
    command, other = ([tool, "-d", end, "-x", gid, "-F", "-p", str(PORT), *arguments] for end in (ends.near, ends.far))
    server = subprocess.Popen(other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(50):
            time.sleep(0.1)
            ran = subprocess.run([*command, "localhost"], capture_output=True, text=True)
            lines = [line.split() for line in ran.stdout.splitlines()]
            rows = [line for line in lines if len(line) > 4 and line[0].isdigit() and line[1].isdigit()]
            if ran.returncode == 0 and rows:
                return figure(rows[-1])
            if server.poll() is not None:
                return None
        return None
    finally:
        server.kill()
        server.wait()


class Ends:
    """One device that talks to itself, or two, and the address at which the second one's process listens."""

    def __init__(self, near, far, address):
        self.near, self.far, self.address = near, far or near, address


def ours(program, command, ends, arguments):
    # The guest's clock runs ahead while it waits for its disk.
    line = [program, "--format", "json", "-q", "--answer-within", "60s", command, ends.near, *arguments]
    if ends.address:
        line += ["--to", ends.far, "--peer", ends.address, "--token", TOKEN]
    ran = subprocess.run(line, capture_output=True, text=True)
    document = json.loads(ran.stdout)
    assert document["results"] and not document["results"][0]["failure"], ran.stdout
    return document["results"][0]


def serve(program, address):
    """Starts our other side, which ends with the guest."""
    line = [program, "--answer-within", "60s", "peer", "--listen", address]
    peer = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"RDMADOCTOR_TOKEN": TOKEN})
    for told in peer.stdout:
        if "listening" in told:
            return
    raise RuntimeError("the peer did not come up")


def bytes_per_second(row):
    """Of a row of bandwidths: size, iterations, peak and average in MiB/s to two places, messages in millions a second to six. Of the last two
    the one with more digits counts: of 2 bytes at 40000 a second the average says 0.08, which is anything from 0.075 to 0.085."""
    size, average, messages = int(row[0]), float(row[3]), float(row[4])
    return average * (1 << 20) if average * 100 > messages * 1e6 else messages * 1e6 * size


def bandwidth(program, ends, gid, operation, size):
    count = max(LEAST, min(MOST, BYTES // size))
    # perftest wants more messages than its queue has places.
    count = max(count, 256) if size <= 65536 else count
    depth = [] if count >= 128 else ["-t", str(count)]
    sets = {"as it is": depth}
    if not depth:
        sets["-l 16 -Q 16"] = ["-l", "16", "-Q", "16"]
    if operation != "write":
        sets |= {f"{name}, -e": [*options, "-e"] for name, options in sets.items()}
    best = {}
    for name, options in sets.items():
        rate = perftest(f"ib_{operation}_bw", ends, gid, ["-s", str(size), "-n", str(count), *options], bytes_per_second)
        if rate is not None:
            best[name] = rate
    name = max(best, key=best.get)
    own, theirs, figures = [], [best[name]], None
    for index in range(ROUNDS):
        figures = ours(program, "bw", ends, ["--op", operation, "--sizes", str(size), "--buffer", "hot", "--repeats", "1"])
        own.append(figures["bytes_per_second"]["median"])
        if index:
            rate = perftest(f"ib_{operation}_bw", ends, gid, ["-s", str(size), "-n", str(count), *sets[name]], bytes_per_second)
            theirs += [rate] if rate else []
    return own, theirs, name, chosen(figures)


def chosen(figures):
    """What a run of ours took without being told."""
    return f"{figures['depth']} x {figures['batch']}{', inline' if figures['inline'] else ''}{', events' if figures['completion'] == 'event' else ''}"


def latency(program, ends, gid, operation, size):
    count = max(100, min(1000, BYTES // size // 4))
    event = ["-e"] if operation == "send" else []
    own, theirs = [], []
    for _ in range(ROUNDS):
        how = ["--completion", "event"] if event else []
        own.append(ours(program, "ping", ends, ["--op", operation, "--sizes", str(size), "--duration", "100ms", "--repeats", "1", *how])["p50_us"]["median"])
        typical = perftest(f"ib_{operation}_lat", ends, gid, ["-s", str(size), "-n", str(count), *event], lambda row: float(row[4]))
        theirs += [typical] if typical else []
    return own, theirs, " ".join(event) or "as it is", "event mode" if event else "as it is"


def row(name, size, own, theirs, options, way, better_is_more, unit):
    ratios = [left / right for left in own for right in theirs]
    ratio = statistics.median(own) / statistics.median(theirs)
    good = ratio >= 0.995 if better_is_more else ratio <= 1.005
    scale = 1e6 if unit == "MB/s" else 1
    print(
        f"| {name} | {size} | {statistics.median(own) / scale:.3f} | {statistics.median(theirs) / scale:.3f} | {ratio:.3f} "
        f"| {min(ratios):.3f} to {max(ratios):.3f} | {'yes' if good else 'no'} | {options} | {way} |",
        flush=True,
    )


def main():
    global ROUNDS
    program, device, gid = sys.argv[1:4]
    named = dict(word.split("=", 1) for word in sys.argv[4:] if "=" in word)
    words = [word for word in sys.argv[4:] if "=" not in word]
    sizes = [int(word) for word in words if word.isdigit()] or SIZES
    ROUNDS = int(named.get("rounds", ROUNDS))
    only = [word for word in words if not word.isdigit()]
    ends = Ends(device, named.get("to"), named.get("at"))
    for end in {ends.near, ends.far}:
        use_up_numbers(end)
    if ends.address:
        serve(program, ends.address)
    wanted = lambda name: not only or name in only
    head = "| operation | bytes | rdmadoctor | perftest | ratio | spread | goal met | perftest's options | rdmadoctor chose |\n|---|---|---|---|---|---|---|---|---|"
    print("Bandwidth in MB/s (10^6), ratio at least 1:\n\n" + head, flush=True)
    for operation in filter(lambda operation: wanted(f"{operation}_bw"), ("write", "read", "send")):
        for size in sizes:
            row(operation, size, *bandwidth(program, ends, gid, operation, size), True, "MB/s")
    print("\nMedian latency in us, ratio at most 1:\n\n" + head, flush=True)
    # Both sides of perftest's spin; on one processor that measures the scheduler, so it is measured where it is named only.
    latencies = ("read", "send", "write") if "write_lat" in only else ("read", "send")
    for operation in filter(lambda operation: wanted(f"{operation}_lat"), latencies):
        for size in sizes:
            row(operation, size, *latency(program, ends, gid, operation, size), False, "us")


if __name__ == "__main__":
    main()
