"""Tests of the reader: python3 -m unittest discover readers/python"""

import os
import tempfile
import unittest

import rdmadoctor_profile as reader

SAMPLE = os.path.join(os.path.dirname(__file__), "../../tests/profile/sample.yaml")


class Reading(unittest.TestCase):
    def setUp(self):
        self.profile = reader.load(SAMPLE)

    def test_what_the_program_writes(self):
        self.assertEqual(self.profile.model, "e810")
        self.assertFalse(self.profile.validated)
        self.assertEqual([port["name"] for port in self.profile.ports()], ["irdma0", "irdma1"])
        self.assertEqual([port["name"] for port in self.profile.nics_of_gpu(1)], ["irdma1", "irdma0"])
        self.assertEqual(self.profile.ports("irdma0")[0]["qp"]["recommended"]["value"]["max_send_sge"], 4)
        self.assertRegex(self.profile.document["created"], r"^20\d\d-")

    def test_what_was_tried_and_measured(self):
        self.assertEqual(self.profile.gpu_path(0), "staged")
        self.assertEqual(self.profile.gpu_path(0, "irdma0"), "staged")
        self.assertIsNone(self.profile.gpu_path(0, "mlx5_9"))
        port = self.profile.ports("irdma0")[0]
        # A simulation's speed is none.
        self.assertIsNone(self.profile.bytes_per_second(port))
        port["measurements"] += [{"op": "write", "bytes_per_second": rate} for rate in (1e9, 2.5e9)]
        self.assertEqual(self.profile.bytes_per_second(port), 2.5e9)
        self.assertGreaterEqual(port["memory"]["registered_bytes"], 4096)

    def test_engines(self):
        self.assertEqual(self.profile.settings("mooncake"), {})
        with self.assertRaisesRegex(reader.ProfileError, "max_inline_data"):
            self.profile.settings("dlslime", "0.0.2.post1")
        with self.assertRaisesRegex(reader.ProfileError, "--engine dlslime@9"):
            self.profile.engine("dlslime", "9")
        with self.assertRaisesRegex(reader.ProfileError, "no GPU 8"):
            self.profile.nics_of_gpu(8)

    def test_the_gid_is_looked_up(self):
        port = self.profile.ports("irdma0")[0]
        with tempfile.TemporaryDirectory() as root:
            place = os.path.join(root, "sys/class/infiniband/irdma0/ports/1")
            os.makedirs(os.path.join(place, "gids"))
            os.makedirs(os.path.join(place, "gid_attrs/types"))
            for index, (gid, kind) in enumerate(
                [("fe80::1", "RoCE v2"), (port["gid"]["value"], "IB/RoCE v1"), (port["gid"]["value"], "RoCE v2")]
            ):
                for directory, text in (("gids", gid), ("gid_attrs/types", kind)):
                    with open(os.path.join(place, directory, str(index)), "w") as file:
                        file.write(text + "\n")
            self.assertEqual(self.profile.gid_index(port, root), 2)
            os.remove(os.path.join(place, "gids/2"))
            with self.assertRaisesRegex(reader.ProfileError, "write the profile again"):
                self.profile.gid_index(port, root)

    def test_damage_is_told(self):
        for data, expected in (
            (b"", "no profile"),
            (b"a: 1", "its schema is None"),
            (b"schema: rdmadoctor/profile/9", "write it again"),
            (b"schema: [", r"p:1:10|p:2:1|p:1"),
            (b"schema: rdmadoctor/profile/1\nhost: {}\ndevices: 5", "`devices` is no list"),
            (b"schema: rdmadoctor/profile/1\ndevices: []", "`host` is missing"),
            (b"a: &x [1]\nb: *x", "p:2:4: a profile has no aliases"),
            (b"a: !!python/object/apply:os.system [ls]", "p:1:4"),
            (b"[" * 100000, "p"),
            (b"\xff\xfe\x00", "p"),
        ):
            with self.assertRaisesRegex(reader.ProfileError, expected, msg=data[:40]):
                reader.parse(data, "p")

    def test_files_that_are_none(self):
        with tempfile.TemporaryDirectory() as directory:
            large = os.path.join(directory, "large")
            with open(large, "wb") as file:
                file.truncate(1 << 40)
            pipe = os.path.join(directory, "pipe")
            os.mkfifo(pipe)
            for path, expected in ((large, "larger than"), (pipe, "regular file"), ("/nowhere", "cannot read")):
                with self.assertRaisesRegex(reader.ProfileError, expected):
                    reader.load(path)


if __name__ == "__main__":
    unittest.main()
