"""Everything that only a GPU can show: `make gpu`, or python -m benchmarks.gpu --help.

Its steps run one after the other until the time is up. The next call goes on where this one stopped, also inside a
step, since each keeps what it has finished. A table at the end says what is known so far. Logs, measurements, the
grid's results and this table lie in benchmarks/results/gpu.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path("benchmarks/results/gpu")
GRACE = 30.0  # seconds in which a step that is interrupted may end by itself
JOBS = 4  # of the grid at a time: a minibatch of 16 keeps no GPU busy


@dataclass(frozen=True)
class Step:
    """A command that goes on where it was interrupted by SIGINT."""

    name: str
    command: Sequence[str]
    after_kill: Sequence[str] = ()  # what must run first where it had to be killed the last time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=540, help="after which the call has ended")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where MNIST and CIFAR-10 lie")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="what is kept from call to call")
    options = parser.parse_args()
    started = time.monotonic()
    gpu = gpu_name()
    if gpu is None:
        print("make gpu: a GPU that torch finds expected, found none here; nothing was run.")
        return
    kept = Kept(options.folder, stamp(gpu))
    faults = drive(steps(options.folder, options.data_dir), kept, started + options.seconds)
    sys.exit(1 if faults else 0)


def steps(folder: Path, data_dir: Path) -> list[Step]:
    """In the order of what they say for the time they take."""

    def part(name: str) -> Step:
        arguments = ["--folder", str(folder), "--data-dir", str(data_dir)]
        return Step(name, [sys.executable, "-m", "benchmarks.gpu_parts", name, *arguments])

    overlay = folder / "grid.yaml"
    write_grid(overlay, folder, data_dir)
    snakemake = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--configfile", str(overlay)]
    return [
        Step("tests", [sys.executable, "-m", "pytest", "-m", "gpu", "-rs"]),
        part("checkpoints"),
        part("training"),
        part("bench"),
        Step("grid", [*snakemake, "--resources", f"gpus={JOBS}"], after_kill=[*snakemake, "--unlock"]),
    ]


def write_grid(path: Path, folder: Path, data_dir: Path) -> None:
    """The paper's grid on the GPU, its files below `folder`: an overlay of config.yaml."""
    places = {name: str(folder / "grid" / name) for name in ("results", "logs", "benchmarks")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"machine": {"device": "cuda", "data_dir": str(data_dir)}, "pathvars": places}))


class Kept:
    """What is known of the steps from call to call. That of other code, or another GPU, does not count."""

    def __init__(self, folder: Path, stamp: str):
        self.folder, self._stamp = folder, stamp
        self._path = folder / "state.json"
        self._all: dict[str, dict] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def state(self, step: Step) -> dict:
        """Its `state` (new, stopped, killed, failed, done), and `calls` and `seconds` so far."""
        found = self._all.get(step.name, {})
        return found if found.get("stamp") == self._stamp else {"state": "new", "calls": 0, "seconds": 0.0}

    def write(self, step: Step, state: str, seconds: float) -> None:
        before = self.state(step)
        numbers = {"calls": before["calls"] + 1, "seconds": round(before["seconds"] + seconds, 1)}
        self._all[step.name] = {"state": state, "stamp": self._stamp} | numbers
        half = self._path.with_suffix(".half")
        half.write_text(json.dumps(self._all, indent=2))
        half.rename(self._path)

    def log(self, step: Step) -> Path:
        return self.folder / "logs" / f"{step.name}.log"

    def last_words(self, step: Step) -> str:
        """The last line of its log that says something."""
        lines = self.log(step).read_text(errors="replace").splitlines() if self.log(step).exists() else []
        said = (re.sub(r"\x1b\[[0-9;]*m|[|=]+", "", line).strip() for line in reversed(lines))
        return next((line for line in said if line), "")[:120]


def drive(steps: Sequence[Step], kept: Kept, deadline: float, grace: float = GRACE) -> int:
    """Run what is not done until the time is up, those that failed before at the end; gives how many have failed.

    Args:
        deadline: by time.monotonic().
        grace: seconds before it, at which a step is interrupted.
    """
    kept.folder.joinpath("logs").mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, by the steps, too
    pending = [step for step in steps if kept.state(step)["state"] != "done"]
    for step in sorted(pending, key=lambda step: kept.state(step)["state"] == "failed"):
        seconds = deadline - grace - time.monotonic()
        if seconds <= 0:
            break
        print(f"{step.name}: {kept.log(step)}", flush=True)
        started = time.monotonic()
        if kept.state(step)["state"] == "killed" and step.after_kill:
            _run(step.after_kill, kept.log(step), seconds, grace)
        state = _run(step.command, kept.log(step), seconds - (time.monotonic() - started), grace)
        kept.write(step, state, time.monotonic() - started)
    text = summary(steps, kept)
    kept.folder.joinpath("summary.md").write_text(text)
    print(text, end="")
    return sum(kept.state(step)["state"] == "failed" for step in steps)


def summary(steps: Sequence[Step], kept: Kept) -> str:
    """What each step has come to, and what is left."""
    lines = ["| step | state | calls | seconds | its log ends |", "| --- | --- | --- | --- | --- |"]
    for step in steps:
        found = kept.state(step)
        words = kept.last_words(step) if found["calls"] else ""
        lines.append(f"| {step.name} | {found['state']} | {found['calls']} | {found['seconds']:.0f} | {words} |")
    left = [step.name for step in steps if kept.state(step)["state"] != "done"]
    note = f"Left: {', '.join(left)}; the same command goes on." if left else "Nothing is left."
    return "\n".join([*lines, "", note, ""])


def gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def stamp(gpu: str) -> str:
    """What a result depends on besides its step: GPU, torch and our code."""
    import torch

    from fishertail.results.provenance import code_hash

    code = code_hash("training.sgd", "execution.measuring", "fisher.eigenpairs")
    return f"{gpu}, torch {torch.__version__}, code {code}"


def _run(command: Sequence[str], log: Path, seconds: float, grace: float) -> str:
    """Run a command, interrupt it when its time is up, and kill it where that does not end it."""
    with log.open("a") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}: {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return "done" if process.wait(max(seconds, 0)) == 0 else "failed"
    except subprocess.TimeoutExpired:
        pass
    except KeyboardInterrupt:  # the user's
        _end(process, grace)
        raise
    return _end(process, grace)


def _end(process: subprocess.Popen, grace: float) -> str:
    """To the command alone, which ends its own: they might take a measurement that is cut off for one that failed."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(grace * 0.8)
        return "stopped"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "killed"


if __name__ == "__main__":
    main()
