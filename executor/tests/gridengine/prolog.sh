#!/bin/bash
# Before each job: take the GPUs that it asked for, by lock folders, and name them in CUDA_VISIBLE_DEVICES.
wanted=$(/usr/bin/qstat -j "$JOB_ID" 2>/dev/null | sed -n 's/^hard resource_list: *//p' | tr ',' '\n' | sed -n 's/^gpu=//p')
taken=()
for number in 0 1 2 3; do
  [ "${#taken[@]}" -lt "${wanted:-0}" ] || break
  if mkdir "$1/gpu$number" 2>/dev/null; then
    echo "$JOB_ID" >"$1/gpu$number/job"
    taken+=("$number")
  fi
done
[ "${#taken[@]}" -eq "${wanted:-0}" ] || exit 99  # back into the queue
(IFS=,; echo "CUDA_VISIBLE_DEVICES=${taken[*]}") >>"$SGE_JOB_SPOOL_DIR/environment"
