# Everything a person or CI needs; each target does its own set-up.

.PHONY: setup build demo demo-lab test test-lab ci mutants fuzz audit test-gpu lint bench schemas docs public completions screenshots install package test-package clean

PROGRAM := target/release/rdmadoctor

setup:
	@tools/setup

build: setup
	cargo build --release

# The incident's answer, on a model of its host. Exit code 1 says that something was refused, which is the point here.
# Built without optimisation, which takes a third of the time: a first look does not wait for more.
demo: setup
	cargo build
	target/debug/rdmadoctor --host-model erdma-a10x8 qp-matrix --engine dlslime@0.0.1.post7 || [ $$? = 1 ]

# The same on a real kernel: a Soft-RoCE device with eRDMA's limits, in a virtual machine.
demo-lab: build
	tests/lab/run --devices limited -- $(PROGRAM) qp-matrix --engine dlslime@0.0.1.post7 || [ $$? = 1 ]

lint: setup
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo check --quiet --package rdmadoctor-types
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

# All tests but most of the lab's, of which the first of each part runs. What a program of tests printed is in target/tests.
test: setup
	tools/test --lab one

# The whole lab: every test in its guests.
test-lab: setup
	cargo build
	cargo test --test lab

# What runs on every submission: everything, lint beside it.
ci: setup
	tools/test --lab all --lint

# Breaks the code on purpose and counts what no test notices: `make mutants` for what differs from main's last commit,
# `make mutants OF=src/qp` for a file or room, `make mutants SAMPLE=60 SEED=1` for a random sample. docs/testing.md says how to read it.
mutants: setup
	tools/mutants $(if $(OF),--of $(OF)) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

# A million inputs for each fuzz target; `make fuzz TARGETS="shown exports" RUNS=10000` for some, and fewer. fuzz/README.md has them.
fuzz: setup
	RUNS=$(RUNS) tools/fuzz $(TARGETS)

# Packages against RustSec's advisories, licences and sources against deny.toml. Fetches the advisories; without a network it fails and says so.
audit:
	[ -x target/tools/bin/cargo-deny ] || cargo install --quiet --locked --root target/tools cargo-deny
	target/tools/bin/cargo-deny --all-features check

# What needs a GPU, alone; without one it runs with a library that stands for CUDA, and says so.
test-gpu: setup
	cargo test --test gpu --test gpu_libraries -- --nocapture

bench: build
	tests/lab/bench/run $(PROGRAM)

# Writes the published JSON Schemas anew; a test fails when they differ from the program.
schemas:
	RDMADOCTOR_WRITE_SCHEMAS=1 cargo test --quiet --test schemas

# Writes docs/checks/README.md anew from the registry of checks; a test fails when it differs.
docs:
	RDMADOCTOR_WRITE_DOCS=1 cargo test --quiet --test docs

# Writes docs/public-items.txt anew from the sources; a test fails when it differs.
public:
	RDMADOCTOR_WRITE_PUBLIC=1 cargo test --quiet --test public

# Writes completions/ anew from the definitions of the commands; a test fails when it differs.
completions:
	RDMADOCTOR_WRITE_COMPLETIONS=1 cargo test --quiet --test completions the_files

# Takes the pictures of HTML reports in docs/ anew.
screenshots:
	RDMADOCTOR_WRITE_SCREENSHOTS=1 cargo test --quiet --test html

# PREFIX=/usr/local, and DESTDIR for packagers.
PREFIX ?= /usr/local
install: build
	tools/install $(PROGRAM) $(PREFIX)

# target/package: .deb, .rpm, archive and checksums, for glibc 2.28 and newer.
package: setup
	tools/package

# The packages in a bare Debian root; needs root, mmdebstrap, and rpm for the .rpm.
test-package: package
	tests/package/run

clean:
	cargo clean
