"""Epochs spread over real submitit workers."""

import os
import signal
import sys
import time
from functools import partial

import pandas as pd
import psutil
import pytest
import torch

from fishertail import analysis, parallel
from fishertail.errors import ConfigError, FishertailError, WorkerError
from fishertail.gradient_table import gradient_table, merged
from tests.trained import digits_network


@pytest.fixture(scope="module")
def block(digits):
    """A model and its weights at five epochs."""
    model, _, _ = digits_network("fc", 1)
    weights = {e: {n: t.clone() for n, t in digits_network("fc", e)[0].state_dict().items()} for e in (1, 2, 3, 5, 25)}
    return model, weights, digits


@pytest.mark.slow
def test_results_are_identical_for_any_number_of_workers(block):
    model, weights, data = block
    norms = partial(gradient_table, model, dataset=data)
    tables = {n: merged(parallel.spread(norms, weights, workers=n)) for n in (1, 2, 4)}
    solve = partial(
        analysis.spectra, model, dataset=data, gradients=tables[1], layers=["fc2", "network"], k=2, rtol=1e-4
    )
    spectra = {n: analysis.merged(parallel.spread(solve, weights, workers=n)) for n in (1, 2, 4)}
    assert tables[1]["epoch"].unique().tolist() == [1, 2, 3, 5, 25]
    for workers in (2, 4):
        pd.testing.assert_frame_equal(tables[workers], tables[1], check_exact=True)
        pd.testing.assert_frame_equal(spectra[workers].spectrum, spectra[1].spectrum, check_exact=True)
        pd.testing.assert_frame_equal(spectra[workers].projections, spectra[1].projections, check_exact=True)
        assert list(spectra[workers].eigenvectors) == list(spectra[1].eigenvectors)
        for name, vectors in spectra[1].eigenvectors.items():
            assert torch.equal(spectra[workers].eigenvectors[name], vectors)


def where(share):
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), torch.get_num_threads(), list(share)


def test_every_worker_is_a_process_with_its_own_gpu_and_threads():
    found = parallel.spread(where, dict.fromkeys(range(5)), workers=2, gpus=["5", "GPU-7"], threads=2)
    (first, *of_first), (second, *of_second) = found
    assert len({first, second, os.getpid()}) == 3
    assert of_first == ["5", 2, [0, 2, 4]]
    assert of_second == ["GPU-7", 2, [1, 3]]


@pytest.mark.parametrize(("workers", "items"), [(1, 3), (4, 1), (4, 0)])
def test_one_worker_or_item_needs_no_process(workers, items, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)  # importing it would fail
    [(process, *_)] = parallel.spread(where, dict.fromkeys(range(items)), workers=workers)
    assert process == os.getpid()


def dies(share):
    print("about to die, epochs", list(share), flush=True)
    if 1 in share:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def test_a_worker_that_dies_fails_the_job_with_its_log_and_stops_the_others():
    start, before = time.monotonic(), set(psutil.Process().children(recursive=True))  # those of other tests' fixtures
    with pytest.raises(WorkerError, match=r"worker 2 of 2 \(epochs 1, 3\) died; its log ends:\n(.|\n)*about to die"):
        parallel.spread(dies, dict.fromkeys(range(4)), workers=2)
    assert time.monotonic() - start < 60
    assert set(psutil.Process().children(recursive=True)) <= before


def raises(share, error):
    raise error


def test_an_error_in_a_worker_names_its_cause():
    with pytest.raises(WorkerError, match="ZeroDivisionError: of epoch"):
        parallel.spread(partial(raises, error=ZeroDivisionError("of epoch")), dict.fromkeys(range(2)), workers=2)


def test_a_fault_that_a_user_can_mend_keeps_its_message():
    fault = ConfigError("machine.device: it is off")
    with pytest.raises(FishertailError, match=r"^machine\.device: it is off$"):
        parallel.spread(partial(raises, error=fault), dict.fromkeys(range(2)), workers=2)


def test_visible_gpus_are_named_as_the_scheduler_named_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8")
    assert parallel.visible_gpus() == ["3", "GPU-8"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert parallel.visible_gpus() == ["0", "1"]
