#!/bin/sh
# Everything that GPU memory has to show, on a host with an NVIDIA GPU, over the simulated provider: what docs/gpu-validation.md keeps.
#
#	tests/gpu_validation.sh PROGRAM [COPY_LOOP]
#
# PROGRAM is a release build. COPY_LOOP is tests/gpu_libraries/copy_loop.c, compiled (cc -O2 -o copy_loop copy_loop.c -ldl); it is compiled
# here where a compiler is. Nothing else is needed, no network, and nothing is installed. The output is for people; what fails is counted.
set -u

program=${1:?usage: $0 PROGRAM [COPY_LOOP]}
loop=${2:-}
here=$(dirname "$0")
model=${MODEL:-h100x8-cx7}
failed=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

title() { printf '\n== %s\n' "$*"; }

# Runs the program, prints what it says, and counts another exit code than the one that is expected.
expect() {
	wanted=$1
	shift
	printf '\n$ rdmadoctor %s\n' "$*"
	began=$(date +%s.%N)
	"$program" -q --answer-within 60s "$@" >"$scratch/out" 2>&1
	got=$?
	cat "$scratch/out"
	echo "[exit $got in $(echo "$began $(date +%s.%N)" | awk '{ printf "%.2f", $2 - $1 }') s]"
	if [ "$got" != "$wanted" ]; then
		echo "[UNEXPECTED: exit $wanted was expected]"
		failed=$((failed + 1))
	fi
}

# The last output has to say something.
says() {
	if ! tr -s " \n" " " <"$scratch/out" | grep -q -- "$1"; then
		echo "[UNEXPECTED: \`$1\` was expected]"
		failed=$((failed + 1))
	fi
}

simulated() {
	wanted=$1
	shift
	expect "$wanted" --host-model "$model" "$@"
}

used() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | awk '{ sum += $1 } END { print sum }'; }

title "Host"
date -u
uname -r
nvidia-smi --query-gpu=name,pci.bus_id,driver_version,memory.total,memory.used,pcie.link.gen.current,pcie.link.width.current --format=csv
head -n 1 /proc/driver/nvidia/version
ls -l /dev/infiniband 2>/dev/null
"$program" --version
before=$(used)

title "Each kind of memory: allocated, filled, compared, exported, freed; copies beside a plain loop, in turn"
if [ -z "$loop" ] && cc -O2 -o "$scratch/copy_loop" "$here/gpu_libraries/copy_loop.c" -ldl 2>/dev/null; then
	loop=$scratch/copy_loop
fi
for _ in 1 2 3; do
	expect 0 gpu
	[ -z "$loop" ] || "$loop"
done

title "Transfers by each way, contents compared by the GPU"
for memory in host:pinned cuda:0 cuda:0:dmabuf cuda:0:peermem cuda:0:vmm:dmabuf cuda:0:vmm:peermem cuda:0:vmm-noflag:dmabuf \
	cuda:0:async:peermem cuda:0:async:staged cuda:0:managed:staged cuda:0:staged; do
	simulated 0 bw mlx5_0 --memory "$memory" --sizes 1000,64k,1M --buffer hot --duration 50ms --repeats 1
	says verified
	[ "$memory" = host:pinned ] || says "compared by the GPU"
done
simulated 0 ping mlx5_0 --memory cuda:0:dmabuf --duration 50ms --repeats 1
simulated 0 ping mlx5_0 --memory cuda:0:staged --duration 50ms --repeats 1

title "Without the driver's assembler: compared by copies, and why"
export CUDA_DISABLE_PTX_JIT=1
simulated 0 bw mlx5_0 --memory cuda:0:dmabuf --sizes 64k --buffer hot --duration 50ms --repeats 1
says "compared by copies"
unset CUDA_DISABLE_PTX_JIT

title "Wrong contents, found by the GPU"
simulated 1 --fault corrupt_payload:77 bw mlx5_0 --memory cuda:0:dmabuf --op write --sizes 64k --buffer hot --iterations 4 --repeats 1
says "offset 77"

title "Registrations that fail, each with its causes"
for errno in EOPNOTSUPP EINVAL ENOMEM EFAULT; do
	simulated 1 --fault "errno:ibv_reg_dmabuf_mr:$errno" bw mlx5_0 --memory cuda:0:dmabuf --op write --sizes 64k --iterations 4 --repeats 1
	says "$errno"
done
simulated 1 bw mlx5_0 --memory cuda:0:vmm-noflag:peermem --op write --sizes 64k --iterations 4 --repeats 1
says EFAULT

title "The order of writes"
for memory in host host:pinned cuda:0:dmabuf cuda:0:peermem cuda:0:staged; do
	simulated 0 ping mlx5_0 --memory "$memory" --op write --sizes 64,4k,64k --iterations 10 --repeats 1 --litmus=2000
done
title "The order of writes, broken on purpose: exit 1, and only a flush (or relaxed ordering, permitted) is without a complaint"
for memory in host cuda:0:dmabuf; do
	simulated 1 --fault late_writes ping mlx5_0 --memory "$memory" --op read --sizes 4k --iterations 10 --repeats 1 --no-verify --litmus=500
	says overtook
done

title "Staged, beside its ceilings in the same run"
for memory in cuda:0:staged host; do
	simulated 0 bw mlx5_0 --memory "$memory" --to-memory cuda:0:staged --op write,read --sizes 1M,16M,64M --buffer hot --duration 300ms --repeats 5
done

title "Nothing is left"
for signal in INT KILL; do
	"$program" -q --answer-within 60s --host-model "$model" bw mlx5_0 --memory cuda:0:dmabuf --sizes 1M --duration 60s >/dev/null 2>&1 &
	sleep 4
	echo "while it runs: $(used) MiB"
	kill -"$signal" $!
	wait $! 2>/dev/null
	sleep 3
	echo "after SIG$signal: $(used) MiB, before: $before MiB"
	[ "$(used)" = "$before" ] || failed=$((failed + 1))
done

title "Unexpected: $failed"
[ "$failed" = 0 ]
