#!/usr/bin/env bash
# The reproduction on this machine, in the order of what decides: bash docs/reproduction/run.sh [STAGE ...]
#
# It can be stopped at any time and started again; a killed job loses four or ten epochs at most. Each stage ends with the
# tables, figures and page of its runs; those of all stages together are made from what keep.py keeps (README.md here).
# Stages: mnist, cifar10-16, curvature, cifar10-256, extensions (all by default).
set -uo pipefail
cd "$(dirname "$0")/../.."

grid() { # PATTERNS [OVERLAY ...]
  local only=$1
  shift
  snakemake --profile profiles/local --configfile docs/reproduction/grid.yaml "$@" --config "only=[$only]" \
    --set-threads train=1 per_sample_gradients=1 fim_eigen=1 fim_eigen_at_landmarks=1 trimmed_eigenvalues=1
}

[ $# -gt 0 ] || set -- mnist cifar10-16 curvature cifar10-256 extensions
for stage in "$@"; do
  echo "$(date '+%F %T') $stage"
  case $stage in
    mnist) grid '"mnist-fc/*"' docs/reproduction/every_checkpoint.yaml ;;
    cifar10-16) grid '"cifar10-conv/bs16/*"' ;;
    curvature)
      grid '"mnist-fc/*/seed0"' docs/reproduction/every_checkpoint.yaml docs/reproduction/curvature.yaml &&
        grid '"cifar10-conv/bs16/seed0"' docs/reproduction/curvature.yaml
      ;;
    cifar10-256) grid '"cifar10-conv/bs16/*", "cifar10-conv/bs256/seed0"' ;;
    extensions) grid '"cifar10-fc/*", "mnist-conv/*"' ;;
    *) echo "stage: mnist, cifar10-16, curvature, cifar10-256 or extensions expected, found $stage" >&2; exit 2 ;;
  esac || exit 1
done
