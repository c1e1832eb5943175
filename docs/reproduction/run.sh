#!/usr/bin/env bash
# Compute the reproduction on one machine, what decides first: bash docs/reproduction/run.sh [STAGE ...]
#
# The environment must be active (source .venv/bin/activate). It can be stopped at any time and started again; a killed
# job loses half a minute, and the epoch or checkpoint that it was at. Runs that are kept in this folder are not computed
# again, but in the stages `curvature`, which trains seed 0 anew, and `again`, which trains all that vote, for what has
# been added to grid.yaml since. Each stage ends with the tables, figures and page of its runs; those of all stages
# together are made from what keep.py keeps (README.md here).
# Stages: mnist, cifar10-16, curvature, cifar10-256, other-networks, extensions, again (all by default).
set -uo pipefail
cd "$(dirname "$0")/../.."

grid() { # PATTERNS [OVERLAY ...]
  local only=$1
  shift
  snakemake --profile profiles/local --configfile docs/reproduction/grid.yaml "$@" --config "only=[$only]" \
    --set-threads train=1 per_sample_gradients=1 fim_eigen=1 fim_eigen_at_landmarks=1 trimmed_eigenvalues=1
}

extension() { # NAME
  snakemake --profile profiles/local --configfile "extensions/$1.yaml" && python docs/reproduction/extensions.py "$1"
}

stages=(mnist cifar10-16 curvature cifar10-256 other-networks extensions again)
[ $# -gt 0 ] || set -- "${stages[@]}"
for stage in "$@"; do
  if [[ " ${stages[*]} " != *" $stage "* ]]; then
    echo "stage: one of ${stages[*]} expected, found $stage" >&2
    exit 2
  fi
done
for stage in "$@"; do
  echo "$(date '+%F %T') $stage"
  case $stage in
    mnist) grid '"mnist-fc/*"' docs/reproduction/every_checkpoint.yaml ;;
    cifar10-16) grid '"cifar10-conv/bs16/*"' ;;
    curvature)
      grid '"mnist-fc/*/seed0"' docs/reproduction/every_checkpoint.yaml docs/reproduction/curvature.yaml &&
        grid '"cifar10-conv/bs16/seed0"' docs/reproduction/curvature.yaml &&
        grid '"cifar10-conv/bs256/seed0"' docs/reproduction/cifar10_256.yaml docs/reproduction/curvature.yaml
      ;;
    cifar10-256) grid '"cifar10-conv/*"' docs/reproduction/cifar10_256.yaml ;;
    other-networks) grid '"cifar10-fc/*", "mnist-conv/*"' ;;
    extensions)
      for name in mixed_precision number_of_classes regression rate_over_batch_size larger_networks larger_rate; do
        extension "$name" || exit 1
      done
      ;;
    again)
      grid '"mnist-fc/*"' docs/reproduction/every_checkpoint.yaml docs/reproduction/again.yaml &&
        grid '"cifar10-conv/bs16/*"' docs/reproduction/again.yaml
      ;;
  esac || exit 1
done
