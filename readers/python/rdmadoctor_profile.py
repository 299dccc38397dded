"""Reads the transfer profile that `rdmadoctor profile write` leaves on a host. One file, to be copied into an engine.

    profile = rdmadoctor_profile.load()                     # /etc/rdmadoctor/profile.yaml
    for port in profile.nics_of_gpu(0):                     # nearest first
        index = profile.gid_index(port)                     # looked up now, by value and type
        depth = port["qp"]["recommended"]["value"]["max_send_wr"]
    os.environ.update(profile.settings("dlslime", "0.0.2.post1"))

Needs the standard library and PyYAML. The format is docs/profile.md, its schema profiles/schema/profile-1.json.

SPDX-License-Identifier: MIT OR Apache-2.0
"""

import os
import stat

import yaml

SCHEMA = "rdmadoctor/profile/1"
DEFAULT_FILE = "/etc/rdmadoctor/profile.yaml"

# As the program that writes it: no profile is larger.
_MOST_BYTES = 2 << 20


class ProfileError(Exception):
    """The file cannot be used; the message says which and why."""


class _Loader(yaml.SafeLoader):
    """Values only, and no aliases: a profile has none, and a small file full of them stands for gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "a profile has no aliases", mark)
        return super().compose_node(parent, index)


# Times stay text, as JSON has them.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path=DEFAULT_FILE):
    """Reads a profile; raises ProfileError where it is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ProfileError(f"{path}: it is no regular file")
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror}; `rdmadoctor profile write` writes it") from error
    if len(data) > _MOST_BYTES:
        raise ProfileError(f"{path}: it is larger than {_MOST_BYTES >> 20} MiB, which no profile is")
    return parse(data, path)


def parse(data, path="profile"):
    """Reads the bytes or the text of a profile; `path` is only named in errors."""
    try:
        document = yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ProfileError(f"{path}{place}: {problem}") from error
    if not isinstance(document, dict):
        raise ProfileError(f"{path}: it is no profile")
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ProfileError(f"{path}: its schema is {schema!r}, and this reader knows {SCHEMA!r}; write it again")
    for key in ("devices", "gpus", "engines", "unvalidated", "evidence"):
        rows = document.setdefault(key, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ProfileError(f"{path}: `{key}` is no list of entries")
    if not isinstance(document.get("host"), dict):
        raise ProfileError(f"{path}: `host` is missing")
    return Profile(document)


class Profile:
    """A profile; `document` is the whole of it as plain values."""

    def __init__(self, document):
        self.document = document

    @property
    def validated(self):
        """Whether every entry was attempted or measured on this host."""
        return self.document.get("validated") is True

    @property
    def model(self):
        """The modelled host that it is of; None where it is of a real one."""
        return self.document["host"].get("model")

    def ports(self, name=None):
        """Active ports, of one device or of all."""
        return [
            port
            for port in self.document["devices"]
            if port.get("state") == "active" and name in (None, port.get("name"))
        ]

    def nics_of_gpu(self, index):
        """Active ports in the order in which a GPU should use them; GPUs are counted as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
        for gpu in self.document["gpus"]:
            if gpu.get("index") == index:
                return [port for nic in gpu.get("nics", []) for port in self.ports(nic.get("name"))]
        raise ProfileError(f"the profile has no GPU {index}")

    def gpu_path(self, index, nic=None):
        """How a GPU's memory reaches a NIC, the nearest with a way where none is named: dmabuf, peermem, staged, or None where that is not known."""
        for gpu in self.document["gpus"]:
            if gpu.get("index") != index:
                continue
            if nic is None:
                return (gpu.get("path") or {}).get("kind")
            paths = [known.get("path") for known in gpu.get("nics", []) if known.get("name") == nic]
            return paths[0]["value"] if paths and paths[0] else None
        raise ProfileError(f"the profile has no GPU {index}")

    def bytes_per_second(self, port, op="write"):
        """The best throughput of a port with itself that was measured; None where none was."""
        rates = [
            row["bytes_per_second"]
            for row in port.get("measurements", [])
            if row.get("op") == op and row.get("bytes_per_second") is not None
        ]
        return max(rates, default=None)

    def gid_index(self, port, root="/"):
        """Where a port's GID stands now. The index differs between hosts and over time, so the profile does not keep it."""
        gid = port.get("gid")
        if not gid:
            return None
        place = os.path.join(root, "sys/class/infiniband", port["name"], "ports", str(port["port"]))
        try:
            entries = sorted(os.listdir(os.path.join(place, "gids")), key=int)
        except (OSError, ValueError) as error:
            raise ProfileError(f"{port['name']} port {port['port']}: its GIDs cannot be listed: {error}") from error
        for entry in entries:
            if _read(os.path.join(place, "gids", entry)) != gid["value"]:
                continue
            # The kernel answers EINVAL for the type of an entry that is empty, and some drivers keep no types.
            if _read(os.path.join(place, "gid_attrs/types", entry)) == gid.get("type"):
                return int(entry)
        raise ProfileError(f"{port['name']} port {port['port']} has no GID {gid['value']} now: write the profile again")

    def engine(self, name, version=None):
        """The entry of an engine's release; of the newest one where no version is named."""
        found = [entry for entry in self.document["engines"] if entry.get("name") == name]
        if version is not None:
            found = [entry for entry in found if entry.get("version") == version]
        if not found:
            wanted = name if version is None else f"{name}@{version}"
            raise ProfileError(f"the profile has no verdict on {wanted}: `rdmadoctor profile write --engine {wanted}`")
        return found[-1]

    def settings(self, name, version=None):
        """What the environment must hold for an engine's queue pairs to be granted; raises ProfileError where it fails here."""
        engine = self.engine(name, version)
        if engine.get("verdict") == "fails":
            reasons = [o["summary"] for device in engine.get("devices", []) for o in device.get("obstacles", [])]
            raise ProfileError(f"{name} {engine['version']} fails on this host: {'; '.join(reasons)}")
        return {s["name"]: s["value"] for s in engine.get("settings", []) if s.get("kind") == "env"}


def _read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None
