#!/bin/sh
# slurm.conf: Epilog=/etc/slurm/epilog.d/rdmadoctor.sh. slurmd runs it as root on each node after a job's last step; an exit code other
# than 0 drains the node. It asks no device: files tell of links that went down, GPUs that fell off the bus, and errors that were counted.
state=${RDMADOCTOR_STATE:-/var/lib/rdmadoctor}
policy=${RDMADOCTOR_POLICY:-/etc/rdmadoctor/policy.yaml}
report=$state/probe.${SLURM_JOB_ID:-manual}.json

mkdir -p "$state" || exit 0
rdmadoctor -q --format json probe --level quick --policy "$policy" > "$report" 2> "$report.log"
code=$?
case $code in
    0 | 4) rm -f "$report" "$report.log" ;;
    1) logger -t rdmadoctor "the host is not well after job ${SLURM_JOB_ID:-manual}: rdmadoctor report $report > report.html"; exit 1 ;;
    *) logger -t rdmadoctor "probe could not be done (exit code $code), see $report.log" ;;
esac
exit 0
