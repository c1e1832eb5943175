"""A callback for the Trainer of Hugging Face's transformers."""

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fishertail.data.operators import declare_torchvision_operators
from fishertail.execution.live.watch import Watch
from fishertail.integrations.own_loss import check_loss

with suppress(ImportError):
    declare_torchvision_operators()  # transformers imports torchvision where it is installed
from transformers import TrainerCallback


class FishertailCallback(TrainerCallback):  # type: ignore[misc]
    """Measures a model while it is trained.

    Args:
        folder: see `fishertail.Watch`.
        images, labels: the training samples; by default those of the trainer, as it collates them.
        log: called with what was measured, such as `trainer.log`, which passes it to TensorBoard and others; by default
            it is only added to the trainer's `state.log_history`.
        options: more of `fishertail.Watch`; `steps_per_epoch` is the trainer's by default.

    Attributes:
        watch: the Watch, from the start of training on.

    Raises:
        FishertailError, ValueError, TypeError: when training starts, see `fishertail.Watch`.
        ValueError: then, too, where the loss that the model itself gives is another one than that which is measured.
    """

    def __init__(
        self,
        folder: str | Path,
        images: Any = None,
        labels: Any = None,
        *,
        log: Callable[[dict[str, float]], Any] | None = None,
        **options: Any,
    ) -> None:
        self.watch: Watch | None = None
        self._folder, self._images, self._labels = folder, images, labels
        self._log, self._options = log, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Make the Watch, and measure the model as it is."""
        loader = given["train_dataloader"]
        per_epoch = math.ceil(len(loader) / args.gradient_accumulation_steps) if hasattr(loader, "__len__") else None
        images = loader if self._images is None else self._images
        options: dict[str, Any] = {"steps_per_epoch": per_epoch, **self._options}
        self.watch = Watch(given["model"], images, self._labels, folder=self._folder, **options)
        if "loss" not in options:
            check_loss(given["model"], images, self._labels, options.get("device"), options.get("output"))
        self._look(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure if the step is due."""
        self._look(state, control)

    def _look(self, state: Any, control: Any) -> None:
        assert self.watch is not None  # made when training starts
        if found := self.watch(state.global_step):
            if self._log is None:
                state.log_history.append({**found, "step": state.global_step})
            else:
                wanted = control.should_log
                self._log(found)
                control.should_log = wanted  # of the trainer's own loss, which a call of trainer.log would cancel
