"""`make gpu` with stand-ins for its steps: its time, going on in the next call, and what it says without a GPU."""

import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from benchmarks import gpu, gpu_parts

ROOT = Path(__file__).parents[1]

COUNTING = """
import pathlib, sys, time
place, until = pathlib.Path(sys.argv[1]), int(sys.argv[2])
while (done := len(place.read_text()) if place.exists() else 0) < until:
    time.sleep(0.1)
    place.open("a").write("x")
    print(done + 1, "of", until, flush=True)
"""
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)"


def counting(name: str, place: Path, until: int) -> gpu.Step:
    """A step of so many tenths of a second, which keeps each."""
    return gpu.Step(name, [sys.executable, "-c", COUNTING, str(place), str(until)])


def failing(name: str, place: Path) -> gpu.Step:
    return gpu.Step(name, [sys.executable, "-c", f"open({str(place)!r}, 'a').write('x'); raise SystemExit(3)"])


def call(steps: list[gpu.Step], folder: Path, seconds: float, stamp: str = "a GPU") -> tuple[gpu.Kept, int]:
    kept = gpu.Kept(folder, stamp)
    return kept, gpu.drive(steps, kept, time.monotonic() + seconds, grace=2)


def states(steps: list[gpu.Step], kept: gpu.Kept) -> list[str]:
    return [kept.state(step)["state"] for step in steps]


def test_a_call_ends_in_time_and_the_next_goes_on_inside_the_step(tmp_path, capsys):
    steps = [counting("short", tmp_path / "short", 1), counting("long", tmp_path / "long", 40)]
    steps.append(counting("last", tmp_path / "last", 1))
    calls = 0
    while not (tmp_path / "long").exists():  # a busy machine may start no process within the first call
        started, calls = time.monotonic(), calls + 1
        kept, faults = call(steps, tmp_path / "kept", 4.5)
        assert time.monotonic() - started < 30
        assert calls < 10
    assert states(steps, kept) == ["done", "stopped", "new"]
    assert "Left: long, last" in capsys.readouterr().out
    assert 1 <= len((tmp_path / "long").read_text()) < 40
    kept, faults = call(steps, tmp_path / "kept", 30)
    assert (states(steps, kept), faults) == (["done"] * 3, 0)
    assert "Nothing is left." in capsys.readouterr().out
    log = kept.log(steps[1]).read_text()
    assert 39 <= log.count(" of 40\n") <= 40  # none was done twice; an interrupt may come between doing and saying
    assert kept.state(steps[0])["calls"] <= calls
    assert f"| long | done | {kept.state(steps[1])['calls']} |" in (tmp_path / "kept/summary.md").read_text()


def test_what_failed_is_tried_again_at_the_end(tmp_path):
    steps = [failing("broken", tmp_path / "broken"), counting("long", tmp_path / "long", 1)]
    assert call(steps, tmp_path / "kept", 20)[1] == 1
    (tmp_path / "long").unlink()
    kept = gpu.Kept(tmp_path / "kept", "a GPU")
    kept.write(steps[1], "stopped", 0)
    kept, faults = call(steps, tmp_path / "kept", 20)
    assert (states(steps, kept), faults) == (["failed", "done"], 1)
    assert (tmp_path / "broken").read_text() == "xx"
    assert (tmp_path / "kept/logs/long.log").stat().st_mtime <= (tmp_path / "broken").stat().st_mtime


def test_a_step_that_does_not_end_is_killed_and_what_it_left_is_mended(tmp_path):
    mended = [sys.executable, "-c", "print('mended')"]
    step = gpu.Step("deaf", [sys.executable, "-c", DEAF], after_kill=mended)
    kept, _ = call([step], tmp_path, 10)
    assert states([step], kept) == ["killed"]
    kept, _ = call([gpu.Step("deaf", [sys.executable, "-c", "print('again')"], after_kill=mended)], tmp_path, 20)
    assert states([step], kept) == ["done"]
    lines = [line for line in kept.log(step).read_text().splitlines() if not line.startswith("---")]
    assert lines == ["begun", "mended", "again"]


def test_other_code_or_another_gpu_begins_anew(tmp_path):
    steps = [counting("short", tmp_path / "short", 1)]
    call(steps, tmp_path / "kept", 20)
    assert states(steps, gpu.Kept(tmp_path / "kept", "a GPU")) == ["done"]
    assert states(steps, gpu.Kept(tmp_path / "kept", "another GPU")) == ["new"]


def test_a_measurement_is_made_once(tmp_path):
    made = []

    def measure(task: dict, options: Namespace) -> dict:
        made.append(task)
        return {"seconds": len(made)}

    file, options = tmp_path / "kept/measurements.jsonl", Namespace(device="cuda", threads=1, limit=9)
    tasks = [{"model": "fc", "round": number} for number in range(3)]
    first = gpu_parts.remembered(measure, file, "a GPU")
    assert [first(task, options)["seconds"] for task in tasks[:2]] == [1, 2]
    with file.open("a") as half:
        half.write('\n{"key": "cut')  # by a kill
    second = gpu_parts.remembered(measure, file, "a GPU")
    assert [second(task, options)["seconds"] for task in tasks] == [1, 2, 3]
    assert [gpu_parts.remembered(measure, file, "a GPU")(task, options)["seconds"] for task in tasks] == [1, 2, 3]
    assert gpu_parts.remembered(measure, file, "another GPU")(tasks[0], options)["seconds"] == 4


def test_the_training_loops_are_among_the_benchmarks():
    chosen = [task for task in gpu_parts.run.tasks(gpu_parts.MODELS) if task["kind"] == "training"]
    methods = {task["method"] for task in chosen if task["batch_size"] == gpu_parts.BATCH_SIZE}
    assert {"fishertail", "bare loop"} <= methods


def test_a_result_depends_on_our_code():
    assert re.fullmatch(r"a GPU, torch \S+, code [0-9a-f]{16}", gpu.stamp("a GPU"))


def test_the_steps_are_there(tmp_path):
    steps = gpu.steps(tmp_path, tmp_path / "data")
    assert [step.name for step in steps] == ["tests", *gpu_parts.PARTS, "grid"]
    assert all(str(tmp_path) in step.command for step in steps if step.name in gpu_parts.PARTS)


def test_without_a_gpu_it_says_so():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "make gpu: a GPU that torch finds expected, found none here; nothing was run.\n"
