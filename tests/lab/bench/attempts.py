"""In a guest: attempts a second of `qp-matrix --grid` beside the plain C loop, in turn; and attempts needed for each bound.

    attempts.py RDMADOCTOR LOOP DEVICE
"""

import json
import math
import statistics
import subprocess
import sys

COUNT, ROUNDS = 2500, 5


def doctor(program, *arguments):
    # The guest's clock runs ahead while it waits for its disk, so a deadline of seconds would pass at once.
    command = [program, "--format", "json", "--answer-within", "1h", "qp-matrix", "--deadline", "1h", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    document = json.loads(ran.stdout)
    assert document["devices"], document["problems"]
    return document["devices"][0]


def main():
    program, loop, device = sys.argv[1:]
    grid = "max_send_wr=" + ",".join(str(value) for value in range(1, COUNT + 1))
    ratios, ours, theirs = [], [], []
    for _ in range(ROUNDS + 1):
        granted, rate = subprocess.run([loop, device, str(COUNT)], capture_output=True, text=True, check=True).stdout.split()
        report = doctor(program, device, "--grid", grid, "--budget", "100000")
        cells = [cell["outcome"]["result"] for cell in report["grid"]["cells"]]
        assert cells.count("granted") == int(granted), "both grant the same"
        theirs.append(float(rate))
        ours.append(report["attempts_total"] / report["elapsed_us"] * 1e6)
        ratios.append(ours[-1] / theirs[-1])
    # The first round warms both up.
    ours, theirs, ratios = ours[1:], theirs[1:], ratios[1:]
    print(f"attempts a second, {COUNT} queue pairs, {ROUNDS} rounds in turn")
    print(f"  rdmadoctor, child process  {statistics.median(ours):9.0f}")
    print(f"  C loop, one process        {statistics.median(theirs):9.0f}")
    print(f"  ratio                      {statistics.median(ratios):9.3f}  (from {min(ratios):.3f} to {max(ratios):.3f}; goal 0.9)")
    report = doctor(program, device)
    print("attempts for an exact bound")
    for bound in report["bounds"]:
        most = 2 * math.ceil(math.log2(max(bound["accepted"], 1))) + 4
        print(f"  {bound['parameter']:16} {bound['accepted']:9}  {bound['attempts']:3} attempts, goal at most {most}, exact: {bound['exact']}")


main()
