"""Write envs/conda.yaml from envs/lock.txt: conda copies the file elsewhere, so that it cannot refer to the lock."""

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """\
# For `snakemake --sdm conda`, and for conda users: the interpreter from conda-forge, the packages of envs/lock.txt.
# Written by `make envs`; tests/test_envs.py sees to it that they agree.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def text() -> str:
    lines = (line.strip() for line in (HERE / "lock.txt").read_text().splitlines())
    return HEAD + "".join(f"      - {line}\n" for line in lines if line and not line.startswith("#"))


if __name__ == "__main__":
    (HERE / "conda.yaml").write_text(text())
