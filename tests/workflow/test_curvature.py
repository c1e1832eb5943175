"""The Hessian, the true Fisher matrix and eigenvalue statistics in the workflow, of a run that has its spectrum."""

import pandas as pd
import pytest

from tests.workflow.project import TINY

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

NAMES = ("hessian", "true_fisher", "eigenvalue_statistics")


def test_they_take_eigenvectors_and_the_networks_rate_and_have_figures_and_panels(finished):
    options = {name: {"enabled": True, "checkpoints": [0, 2]} for name in NAMES}
    finished.write_grid(measurements=options)
    finished.run()
    run = finished.path / "results" / "runs" / "digits-fc" / "bs256" / "seed0"
    hessian = pd.concat(pd.read_csv(path, comment="#") for path in sorted(run.glob("*/hessian.csv")))
    rate = TINY["architectures"]["fc"]["learning_rate"]
    assert set(hessian["step"]) >= {0, 12}
    assert hessian["rate_times_eigenvalue"].to_numpy() == pytest.approx(rate * hessian["eigenvalue"].to_numpy())
    assert hessian["cosine"].between(0, 1).all()
    true = pd.concat(pd.read_csv(path, comment="#") for path in sorted(run.glob("*/true_fisher.csv")))
    assert true[["ratio", "angle"]].notna().all(axis=None)
    figures = {path.name for path in (finished.path / "results" / "figures").glob("*.svg")}
    assert {"edge_of_stability.svg", "true_fisher.svg", "rate_of_convergence.svg"} <= figures
    page = (finished.path / "results" / "report" / "index.html").read_text()
    assert all(title in page for title in ("sharpness", "lambda_1 of F_true", "2 / lambda_max"))
    assert not finished.rules_to_run()
