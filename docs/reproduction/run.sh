#!/usr/bin/env bash
# The paper's grid on this machine, cheapest runs first; after each stage all tables, figures and the page of what is
# finished. It can be stopped and started again: bash docs/reproduction/run.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
stages=(
  "*-fc/bs16/seed0"
  "*-fc/bs256/seed0"
  "*-conv/bs16/seed0"
  "*-conv/bs256/seed0"
  "*-fc/bs16/seed[12]"
  "*-fc/bs256/seed[12]"
)
only=""
for stage in "${stages[@]}"; do
  only+="${only:+, }\"$stage\""
  echo "$(date '+%F %T') $stage"
  snakemake --profile profiles/local --configfile docs/reproduction/grid.yaml --config "only=[$only]" \
    --set-threads per_sample_gradients=1 fim_eigen=1 fim_eigen_at_landmarks=1 trimmed_eigenvalues_at_landmarks=1 train=1 \
    || exit 1
done
