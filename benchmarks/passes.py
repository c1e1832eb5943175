"""The unit of cost: the best plain pass over the same samples, a forward and a backward of the mean loss.

Which batch size and memory format are best depends on the network and on the machine, so they are measured first.
"""

import time
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from benchmarks.problems import Problem, mean_loss

BATCH_SIZES = [16, 32, 64, 128, 512, 2048]
MOST_SAMPLES = 4096  # on which passes are compared
SLOWER = 1.3  # than the best of the first round: not tried again
ROUNDS = 3


@dataclass(frozen=True)
class Pass:
    """How a plain forward and backward goes through the samples."""

    batch_size: int
    channels_last: bool = False

    def __str__(self) -> str:
        return f"batch size {self.batch_size}{', channels last' if self.channels_last else ''}"


def one_pass(problem: Problem, batch_size: int) -> None:
    """A plain forward and backward of the mean loss by all trained parameters, batch by batch."""
    parameters = [parameter for parameter in problem.model.parameters() if parameter.requires_grad]
    for x, y in problem.batches(batch_size):
        torch.autograd.grad(mean_loss(problem.model(x), y), parameters)


def in_format(problem: Problem, channels_last: bool) -> Problem:
    """The same problem with weights and images in one of PyTorch's memory formats."""
    if problem.images.ndim < 4:
        return problem
    kind = torch.channels_last if channels_last else torch.contiguous_format
    model = problem.copied_model().to(memory_format=kind)
    return replace(problem, model=model, images=problem.images.contiguous(memory_format=kind))


def formats(problem: Problem) -> list[bool]:
    """Whether channels come last, of the formats that make a difference."""
    return [False, True] if any(isinstance(module, nn.Conv2d) for module in problem.model.modules()) else [False]


def best_pass(problem: Problem, clock: "Clock") -> tuple[Pass, dict[str, float]]:
    """The fastest of all batch sizes and formats, and the seconds of each over the same samples."""
    count = min(len(problem.labels), MOST_SAMPLES)
    part = replace(problem, images=problem.images[:count], labels=problem.labels[:count])
    sizes = sorted({min(size, count) for size in BATCH_SIZES})
    by_format = {last: in_format(part, last) for last in formats(part)}
    seconds: dict[Pass, list[float]] = {Pass(size, last): [] for last in by_format for size in sizes}
    for formatted in by_format.values():
        one_pass(replace(formatted, images=formatted.images[:16], labels=formatted.labels[:16]), 16)
    tried = list(seconds)
    for _ in range(ROUNDS):
        for how in tried:
            seconds[how].append(clock.seconds(lambda how=how: one_pass(by_format[how.channels_last], how.batch_size)))
        fastest = {how: min(seconds[how]) for how in tried}
        tried = [how for how in tried if fastest[how] <= SLOWER * min(fastest.values())]
    best = min(tried, key=lambda how: sorted(seconds[how])[len(seconds[how]) // 2])
    return best, {str(how): min(times) for how, times in seconds.items()}


@dataclass(frozen=True)
class Clock:
    """Seconds of the processor where one thread computes, which other work delays less; of the wall elsewhere."""

    device: str
    threads: int

    @property
    def of_cpu(self) -> bool:
        return self.device == "cpu" and self.threads == 1

    def now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.process_time() if self.of_cpu else time.perf_counter()

    def timed(self, function) -> tuple[float, object]:
        """How long a call takes, and what it returns."""
        start = self.now()
        result = function()
        return self.now() - start, result

    def seconds(self, function) -> float:
        return self.timed(function)[0]


def as_task(how: Pass) -> dict:
    """What a task carries to the process that measures."""
    return {"pass": asdict(how)}
