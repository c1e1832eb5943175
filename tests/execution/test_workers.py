"""Checkpoints spread over real submitit workers."""

import os
import signal
import sys
import time
from functools import partial

import pandas as pd
import psutil
import pytest
import torch

from fishertail.errors import ConfigError, NodeError, WorkerError
from fishertail.execution import measuring, workers
from fishertail.measurements.measurement import measurements, options_given
from tests.trained import digits_network


@pytest.fixture(scope="module")
def run(digits):
    """A model and its weights at five checkpoints."""
    model, _, _ = digits_network("fc", 1)
    weights = {e: {n: t.clone() for n, t in digits_network("fc", e)[0].state_dict().items()} for e in (1, 2, 3, 5, 25)}
    return model, weights, digits


@pytest.mark.slow
def test_results_are_identical_for_any_number_of_workers(run):
    model, weights, data = run
    settings = {"spectrum": {"layers": ["fc2", "network"], "eigenpairs": 2}}
    sections = {name: each.options(**settings.get(name, {})) for name, each in measurements().items()}

    def measured(name: str, count: int, tables) -> dict:
        each = measurements()[name]
        measure = partial(
            measuring.by_gradients,
            each,
            options_given(each, sections),
            model=model,
            samples=data.training_data(),
            tables=tables,
            per_epoch=1,
        )
        return measuring.merged(each, workers.spread(measure, weights, workers=count))

    norms = {count: measured("norms", count, {}) for count in (1, 2, 4)}
    spectra = {count: measured("spectrum", count, norms[1]) for count in (1, 2, 4)}
    assert norms[1]["norms"]["step"].unique().tolist() == [1, 2, 3, 5, 25]
    for count in (2, 4):
        pd.testing.assert_frame_equal(norms[count]["norms"], norms[1]["norms"], check_exact=True)
        for name in ("spectrum", "projections"):
            pd.testing.assert_frame_equal(spectra[count][name], spectra[1][name], check_exact=True)
        assert list(spectra[count]["eigenvectors"]) == list(spectra[1]["eigenvectors"])
        for name, vectors in spectra[1]["eigenvectors"].items():
            assert torch.equal(spectra[count]["eigenvectors"][name], vectors)


def where(share):
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), torch.get_num_threads(), list(share)


def test_every_worker_is_a_process_with_its_own_gpu_and_threads():
    found = workers.spread(where, dict.fromkeys(range(5)), workers=2, gpus=["5", "GPU-7"], threads=2)
    (first, *of_first), (second, *of_second) = found
    assert len({first, second, os.getpid()}) == 3
    assert of_first == ["5", 2, [0, 2, 4]]
    assert of_second == ["GPU-7", 2, [1, 3]]


@pytest.mark.parametrize(("count", "items"), [(1, 3), (4, 1), (4, 0)])
def test_one_worker_or_item_needs_no_process(count, items, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)  # importing it would fail
    [(process, *_)] = workers.spread(where, dict.fromkeys(range(items)), workers=count)
    assert process == os.getpid()


def test_one_item_of_several_workers_has_the_threads_of_one():
    """A job that goes on after a kill may have one checkpoint left; with more threads its bits would differ."""
    before = torch.get_num_threads()
    try:
        [(_, _, threads, _)] = workers.spread(where, {7: None}, workers=2, threads=before + 1)
    finally:
        workers.prepare_process(before)
    assert threads == before + 1


def test_without_submitit_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(NodeError, match="submitit expected, which is not installed: pip install submitit"):
        workers.submit(where, [{0: None}, {1: None}], cluster="local", folder=tmp_path, parameters={})


def dies(share):
    print("about to die, steps", list(share), flush=True)
    if 1 in share:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@pytest.mark.slow
def test_a_worker_that_dies_fails_the_job_with_its_log_and_stops_the_others():
    start, before = time.monotonic(), set(psutil.Process().children(recursive=True))  # those of other tests' fixtures
    with pytest.raises(WorkerError, match=r"worker 2 of 2 \(steps 1, 3\) died; its log ends:\n(.|\n)*about to die"):
        workers.spread(dies, dict.fromkeys(range(4)), workers=2)
    assert time.monotonic() - start < 300
    assert set(psutil.Process().children(recursive=True)) <= before


def raises(share, error):
    raise error("it is off")


class Unpicklable(Exception):
    def __init__(self, step, why):
        super().__init__(f"step {step}: {why}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError, ConfigError),
        (NodeError, NodeError),
        (ZeroDivisionError, ZeroDivisionError),
        (partial(Unpicklable, 3), WorkerError),
    ],
)
def test_an_error_in_a_worker_is_what_it_was_there(error, kind, capfd):
    with pytest.raises(kind) as raised:
        workers.spread(partial(raises, error=error), dict.fromkeys(range(2)), workers=2)
    assert str(raised.value) == ("Unpicklable: step 3: it is off" if kind is WorkerError else "it is off")
    assert ("in raises" in capfd.readouterr().out) == (error not in (ConfigError, NodeError))  # the traceback


def test_visible_gpus_are_named_as_the_scheduler_named_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8")
    assert workers.visible_gpus() == ["3", "GPU-8"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert workers.visible_gpus() == ["0", "1"]
