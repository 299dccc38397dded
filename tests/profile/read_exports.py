"""Reads what tests/reader.rs has exported with a shell, by systemd's rules and with Python's YAML, and holds it against expected.json."""

import json, os, re, subprocess, sys, yaml
at = sys.argv[1]
def systemd(text):
    # No line here is quoted or continued, which is what the exports promise: then a value is what is behind the first `=`.
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith(("#", ";"))]
    assert not any(re.search(r"[\"'\\\s]", line) for line in lines), lines
    return dict(line.split("=", 1) for line in lines)
everything = json.load(open(at + "/expected.json"))
shell = "".join("(set -a; . %s/%d.env && env -0; printf '\\1')\n" % (at, i) for i in range(len(everything)))
told = subprocess.run(["env", "-i", "/bin/sh", "-c", "PATH=/usr/bin:/bin\n" + shell], capture_output=True, check=True).stdout.split(b"\1")
for index, expected in enumerate(everything):
    read = yaml.safe_load(open("%s/%d.yaml" % (at, index), encoding="utf-8", newline=""))
    assert read["metadata"]["annotations"]["rdmadoctor/host"] == expected["host"], (index, expected["host"])
    assert read["data"] == expected["data"], (index, read["data"], expected["data"])
    assert systemd(open("%s/%d.env" % (at, index), encoding="utf-8", newline="").read()) == expected["variables"], index
    seen = dict(entry.split("=", 1) for entry in told[index].decode().split("\0") if "=" in entry)
    for name, value in expected["variables"].items():
        assert seen.get(name) == value, (index, name, value, seen.get(name))
    assert set(seen) - set(expected["variables"]) <= {"PATH", "PWD", "OLDPWD", "_", "SHLVL"}, (index, seen)
