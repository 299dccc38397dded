#!/bin/sh
# slurm.conf: Prolog=/etc/slurm/prolog.d/rdmadoctor.sh. slurmd runs it as root on each node before a job's first step; an exit code other
# than 0 drains the node and sends the job back into the queue. So only what the host fails at may drain it, never trouble of our own.
state=${RDMADOCTOR_STATE:-/var/lib/rdmadoctor}
policy=${RDMADOCTOR_POLICY:-/etc/rdmadoctor/policy.yaml}
profile=${RDMADOCTOR_PROFILE:-/etc/rdmadoctor/profile.yaml}
report=$state/preflight.${SLURM_JOB_ID:-manual}.json

mkdir -p "$state" || exit 0
rdmadoctor -q --format json preflight --policy "$policy" --time-budget 30s \
    --profile-out "$profile" --baseline "$state/last-good.json" > "$report" 2> "$report.log"
code=$?
case $code in
    0 | 4) rm -f "$report" "$report.log" ;;
    1) logger -t rdmadoctor "preflight failed before job ${SLURM_JOB_ID:-manual}: rdmadoctor report $report > report.html"; exit 1 ;;
    *) logger -t rdmadoctor "preflight could not be done (exit code $code), see $report.log" ;;
esac
exit 0
