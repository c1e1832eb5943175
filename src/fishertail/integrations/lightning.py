"""A callback for Lightning's Trainer (packages `lightning` and `pytorch_lightning`)."""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fishertail.data.operators import declare_torchvision_operators
from fishertail.execution.live.watch import Watch

with suppress(ImportError):
    declare_torchvision_operators()  # Lightning imports torchvision where it is installed
try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback


class FishertailCallback(Callback):  # type: ignore[misc]
    """Measures a LightningModule while it is trained; what is measured goes to the trainer's loggers.

    Args:
        folder: see `fishertail.Watch`.
        images, labels: the training samples; by default those of the trainer's DataLoader.
        module: the name of the module that is the network, as `named_modules()` has it; by default the LightningModule
            itself, whose `forward` takes the inputs.
        options: more of `fishertail.Watch`; `steps_per_epoch` is the trainer's by default.

    Attributes:
        watch: the Watch, from the start of training on.

    Raises:
        FishertailError, ValueError, TypeError: when training starts, see `fishertail.Watch`.
    """

    def __init__(
        self, folder: str | Path, images: Any = None, labels: Any = None, *, module: str = "", **options: Any
    ) -> None:
        self.watch: Watch | None = None
        self._folder, self._images, self._labels = folder, images, labels
        self._module, self._options = module, options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the Watch, and measure the network as it is."""
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        steps = math.ceil(per_epoch) if math.isfinite(per_epoch) else None
        options: dict[str, Any] = {"steps_per_epoch": steps, **self._options}
        images = trainer.train_dataloader if self._images is None else self._images
        network = pl_module.get_submodule(self._module)
        self.watch = Watch(network, images, self._labels, folder=self._folder, **options)
        self._look(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure if the step is due."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self._look(trainer, **({} if loss is None else {"loss": loss}))

    def _look(self, trainer: Any, **scalars: Any) -> None:
        assert self.watch is not None  # made when training starts
        if found := self.watch(trainer.global_step, **scalars):
            for logger in trainer.loggers:
                logger.log_metrics(found, step=trainer.global_step)
