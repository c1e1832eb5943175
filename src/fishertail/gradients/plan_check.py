"""Whether a batch runs as the plan has it, so that its tensors have the samples where the probe found them."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from fishertail.gradients.gradient_plan import GradientPlan
from fishertail.gradients.recording import Recording
from fishertail.gradients.sample_axis import SampleAxis


class PlanMismatchError(Exception):
    """The network does not run for this batch as the plan has it."""

    def __init__(self, reason: str = "it runs differently for these samples") -> None:
        super().__init__(reason)


def check_plan(
    plan: GradientPlan, recording: Recording, uses: Collection[int], watched: Collection[str], samples: int
) -> None:
    """Compare what a batch called, and with which shapes, with the plan.

    Args:
        uses: numbers of the uses whose rows are wanted.
        watched: modules that are run again.

    Raises:
        PlanMismatchError: it differs.
    """
    if plan.by_rule and not _same_uses(plan, recording):
        raise PlanMismatchError
    if any(len(recording.calls.get(path, ())) != len(plan.call_axes.get(path, ())) for path in watched):
        raise PlanMismatchError
    for number in uses:
        use, pair = recording.uses[number], plan.axes[number]
        if pair is not None and not _fit(pair, (use.input.shape, use.shape), samples):
            raise PlanMismatchError
    for path in watched:
        for call, (given, returned) in zip(recording.calls.get(path, ()), plan.call_axes[path], strict=True):
            if not (_fit(given, call.given_shapes, samples) and _fit(returned, call.shapes, samples)):
                raise PlanMismatchError


def resized(plan: GradientPlan, of_one: Recording) -> GradientPlan:
    """The plan for samples of another shape, by what one of them calls; as it is where that differs from the plan."""
    if not _same_uses(plan, of_one):
        return plan
    axes = tuple(
        None if pair is None else (pair[0].resized(use.input.shape), pair[1].resized(use.shape))
        for pair, use in zip(plan.axes, of_one.uses, strict=True)
    )
    call_axes = {
        path: tuple(
            (_resized(given, call.given_shapes), _resized(returned, call.shapes))
            for (given, returned), call in zip(calls, of_one.calls.get(path, ()), strict=False)
        )
        for path, calls in plan.call_axes.items()
    }
    return replace(plan, axes=axes, call_axes=call_axes)


def _same_uses(plan: GradientPlan, recording: Recording) -> bool:
    return tuple(use.signature for use in recording.uses) == plan.signatures


def _fit(axes: Sequence[SampleAxis], shapes: Sequence[torch.Size], samples: int) -> bool:
    return len(axes) == len(shapes) and all(axis.fits(shape, samples) for axis, shape in zip(axes, shapes, strict=True))


def _resized(axes: tuple[SampleAxis, ...], of_one: Sequence[torch.Size]) -> tuple[SampleAxis, ...]:
    return tuple(axis.resized(shape) for axis, shape in zip(axes, of_one, strict=False))
