"""A Lightning training with the callback: what is measured, and that training does not notice."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fishertail
from fishertail.results import storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pl():
    pytest.importorskip("fishertail.integrations.lightning")
    return pytest.importorskip("pytorch_lightning")


def samples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 6, generator=generator), torch.arange(50) % 3


def module_of(pl):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3))

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    return Module()


def trained(pl, folder, *callbacks):
    """The module after two epochs of 7 batches, two of which make a step, and what the logger got."""
    pl.seed_everything(0, verbose=False)
    logger = pl.loggers.CSVLogger(folder)
    module = module_of(pl)
    trainer = pl.Trainer(
        max_epochs=2,
        accumulate_grad_batches=2,
        logger=logger,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, DataLoader(TensorDataset(*samples()), 8, shuffle=True))
    return module, trainer


@pytest.mark.parametrize("module", ["", "net"])
def test_training_is_bit_identical_and_its_tables_are_right(pl, tmp_path, module):
    from fishertail.integrations.lightning import FishertailCallback

    alone, _ = trained(pl, tmp_path / "alone")
    callback = FishertailCallback(tmp_path / "tables", module=module, schedule=[0, 3, 8])
    watched, trainer = trained(pl, tmp_path / "logs", callback)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(watched.state_dict()[name], tensor), name
    assert trainer.global_step == 8
    norms = storage.read_table(tmp_path / "tables" / "norms.parquet")
    assert norms["step"].unique().tolist() == [0, 3, 8]
    assert norms["epoch"].unique().tolist() == [0, 0.75, 2]
    expected = fishertail.gradient_norms(watched.net.eval(), *samples())
    assert np.allclose(norms.query("step == 8")["network"], expected.network, rtol=1e-6)
    assert list(norms)[-4:-1] == [f"{'' if module else 'net.'}{place}" for place in (0, 1, 4)]
    logged = pd.read_csv(f"{trainer.logger.log_dir}/metrics.csv").dropna(subset="lambda_1/network").set_index("step")
    assert list(logged.index) == [0, 3, 8]
    assert logged["train_loss"][8] == pytest.approx(expected.loss.mean())
    losses = storage.read_table(tmp_path / "tables" / "metrics.csv")["loss"]
    assert losses.isna().tolist() == [True, False, False]


def test_a_module_that_cannot_be_measured_is_an_error_when_training_starts(pl, tmp_path):
    from fishertail.integrations.lightning import FishertailCallback

    with pytest.raises(ValueError, match="layers: among"):
        trained(pl, tmp_path / "logs", FishertailCallback(tmp_path / "tables", layers=["fc4"]))
