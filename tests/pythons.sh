#!/usr/bin/env bash
# The library's numerical tests on another Python, in an environment of its own: bash tests/pythons.sh python3.12
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
if ! version=$("$python" -c 'import sys; print("{}.{}".format(*sys.version_info))' 2> /dev/null); then
  echo "skipped: $python is not at hand"
  exit 0
fi
environment=.venv-$version
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet -r envs/lock.txt
"$environment/bin/python" -m pip install --quiet -r envs/lock-test.txt
"$environment/bin/python" -m pip install --quiet --no-deps --editable . --editable executor
"$environment/bin/python" -m pytest -q -p no:cacheprovider -m "not slow and not long and not workflow and not gpu" \
  tests/gradients tests/statistics tests/training tests/measurements tests/test_gradients.py tests/test_fisher.py \
  tests/test_krylov.py
echo "passed on Python $version"
