#!/bin/bash
# What tests/schedulers needs, on Debian: the schedulers' own packages, whose services stay stopped.
set -euo pipefail
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "make schedulers: needs root and apt-get; without it the tests on real schedulers are skipped" >&2
  exit 0
fi
if command -v slurmctld munged slurmdbd mariadbd >/dev/null && [ -x /usr/sbin/sge_qmaster ]; then
  exit 0
fi
debconf-set-selections "$(dirname "$0")/gridengine/preseed.txt"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends slurm-wlm slurmdbd mariadb-server munge gridengine-master gridengine-exec gridengine-client >/dev/null
