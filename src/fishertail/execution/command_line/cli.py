"""The command `fishertail`: measure finished checkpoints, and make the page of a folder of tables."""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fishertail.errors import FishertailError, StorageError, UsageError
from fishertail.execution.command_line.parsing import Parser, positive, whole

FAILED, WRONG, INTERRUPTED = 1, 2, 130  # exit codes: something could not be measured; wrong use; Ctrl-C
_TABLES = (".csv", ".parquet")

_DESCRIPTION = """\
The gradient g_x of every training sample of a PyTorch model at its checkpoints, and the largest
eigenvalues of the empirical Fisher matrix: the mean of g_x g_x^T with the labels of the data, which is
neither the true Fisher matrix or GGN (measurement true_fisher) nor the Hessian (hessian).

  fishertail measure my_project.models:make_net --checkpoints runs/7 --data train.npz --out measured
  fishertail page measured

`fishertail COMMAND --help` has more examples."""

_MEASURE = """\
Measure finished checkpoints.

FACTORY is a function that makes the model, as package.module:function; modules of the working
directory are found. The tables are those of the workflow, and an interrupted command goes on where
it stopped: a step that the folder has is not measured again.

examples:
  # a folder of state dicts step0.pt, step100.pt, ...; images and labels in one .npz
  fishertail measure my_project.models:make_net --checkpoints runs/7 --data train.npz

  # Lightning's checkpoints: the step is read from inside, and the prefix `model.` is taken off
  fishertail measure my_project.models:make_net --kwargs '{"width": 64}' \\
      --checkpoints lightning_logs/version_0/checkpoints/epoch*.ckpt --data my_project.data:train_set

  # two layers and the network, five eigenvalues each, and what lambda_1 loses without the top tenth
  fishertail measure my_project.models:make_net --checkpoints runs/7 --data train.npz \\
      --layers head fc2 network --eigenpairs 5 --measurements spectrum outliers trimmed_eigenvalues

checkpoints: .safetensors; torch.save of a state dict, or of a mapping that holds one below model,
state_dict or model_state_dict; Lightning's .ckpt; Hugging Face's folders checkpoint-500. The prefixes
module., _orig_mod., model. and net. are taken off where names then fit. The SGD step is the
global_step, step or iteration inside, else the last number in the name; a number behind `epoch` is
multiplied by --steps-per-epoch.

data: .npz, .pt or .safetensors with images and labels (or train_images and train_labels);
package.module:function, which gives both, or a Dataset or DataLoader of pairs. Images of type uint8
become float32 in [0, 1] with the channel first; all others are taken as they are, so normalise them
as in training.

measurements, with their cost at a checkpoint in forward and backward passes over the data. These are
round numbers for 50,000 samples. With fewer most cost more, above all hessian and
eigenvalue_statistics, which take a fixed number of samples (docs/reference.md):
"""

_MEASURE_END = """

exit code: 0; 1 if something could not be measured, which failures.csv names, or not be written; 2 if the
command is wrong."""

_PAGE = """\
Make the page of a folder of tables, also of a run that is still going: one HTML file that fetches
nothing.

examples:
  fishertail page measured                                # writes measured/page.html
  fishertail page watched --out watched.html --follow     # and again whenever a table changes"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    try:
        options = _parser().parse_args(arguments)
        done: int = options.run(options)
    except FishertailError as error:
        print(f"fishertail: error: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("fishertail: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return done


def measure(options: argparse.Namespace) -> int:
    """`fishertail measure`."""
    import torch

    from fishertail.execution import checkpoint_files, run_summary
    from fishertail.execution.chosen import FAILURES
    from fishertail.execution.command_line import measure_checkpoints, sample_files
    from fishertail.execution.command_line.user_code import function
    from fishertail.execution.weight_names import listed

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    arguments = _arguments(options.kwargs)
    model = measure_checkpoints.made_by(options.factory, arguments)
    found = checkpoint_files.find(
        options.checkpoints, model, steps_per_epoch=options.steps_per_epoch, trusted=options.trust
    )
    for line in _notes(found):
        print(line)
    samples = sample_files.load(options.data, options.labels)
    validation = sample_files.load(options.validation, validation=True) if options.validation else None
    tables, lost = measure_checkpoints.measure(
        model,
        found,
        samples,
        options.out,
        validation=validation,
        measurements=options.measurements,
        options=_of_measurements(options.option),
        steps_per_epoch=options.steps_per_epoch,
        layers=options.layers,
        k=options.eigenpairs,
        rtol=options.tolerance,
        threshold=options.threshold,
        loss=function(options.loss, "--loss") if options.loss else None,
        learning_rate=options.learning_rate,
        device=options.device,
        made={"factory": options.factory, "kwargs": arguments},
        output=int(options.output) if (options.output or "").isdecimal() else options.output,
        memory_budget=None if options.memory_budget is None else options.memory_budget * 2**30,
        subset=options.subset,
        seed=options.seed,
    )
    kept, failures = len(found) - len(lost), len(tables[FAILURES.name])
    if kept:
        print(run_summary.as_text(run_summary.by_step(tables)))
        print(f"{options.out}: tables of {kept} checkpoints; `fishertail page {options.out}` makes a page of them")
    if failures:
        print(f"{failures} could not be measured: {Path(options.out) / FAILURES.file} says why", file=sys.stderr)
    if lost:
        steps = listed([f"{step:,}" for step in lost])
        print(f"{len(lost)} could not be written, steps {steps}; the same command measures them again", file=sys.stderr)
    return FAILED if failures or lost else 0


def page(options: argparse.Namespace) -> int:
    """`fishertail page`."""
    from fishertail.page import of_folder

    path = options.out or Path(options.folder) / "page.html"
    if not options.follow:
        of_folder.write(options.folder, path)
        print(path)
        return 0
    seen, said = None, None
    print(f"{path}: written whenever {options.folder} changes, until Ctrl-C")
    try:
        while True:
            if (state := _state(options.folder)) != seen:
                said = _renewed(options.folder, path, said)
                seen = state
            time.sleep(options.every)
    except KeyboardInterrupt:
        return 0


def _renewed(folder: str, path: Path, said: str | None) -> str | None:
    """Write the page; what is wrong with the tables, said once, may be right with the next step."""
    from fishertail.page import of_folder

    try:
        of_folder.write(folder, path)
    except StorageError as error:
        if str(error) != said:
            print(f"waiting: {error}", file=sys.stderr)
        return str(error)
    print(time.strftime("%H:%M:%S"), path)
    return None


def _state(folder: str) -> list[tuple[str, int, int]]:
    """What changes when a table does."""
    files = [path for path in Path(folder).rglob("*") if path.suffix in _TABLES and not path.name.startswith(".")]
    found = []
    for path in sorted(files):
        try:
            of_file = path.stat()
        except FileNotFoundError:  # of a step that is being written
            continue
        found.append((str(path), of_file.st_mtime_ns, of_file.st_size))
    return found


def _notes(found: Sequence[Any]) -> list[str]:
    """Which checkpoints were found, and what was taken off their names."""
    first, last = found[0], found[-1]
    lines = [f"{len(found)} checkpoints, steps {first.step:,} ({first.path.name}) to {last.step:,} ({last.path.name})"]
    if len(found) == 1:
        lines = [f"1 checkpoint, step {first.step:,} ({first.path.name})"]
    for prefix in sorted({each.stripped for each in found if each.stripped}):
        files = [each for each in found if each.stripped == prefix]
        left = sorted({name for each in files for name in each.left_out})
        lines.append(
            f"the prefix {prefix} was taken off the names of weights in {len(files)} of them"
            + (f"; left out: {', '.join(left[:5])}{' and more' if len(left) > 5 else ''}" if left else "")
        )
    return lines


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--kwargs: a JSON object expected, such as '{{\"width\": 64}}', found {text!r}") from error
    if not isinstance(found, dict):
        raise UsageError(f"--kwargs: a JSON object expected, such as '{{\"width\": 64}}', found {text!r}")
    return found


def _of_measurements(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By measurement and option, the values of MEASUREMENT.OPTION=VALUE: in JSON, or else words."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        measurement, dot, option = name.partition(".")
        if not (equals and dot):
            raise UsageError(
                f"--option: MEASUREMENT.OPTION=VALUE expected, such as hessian.samples=500, found {text!r}"
            )
        with suppress(ValueError):
            value = json.loads(value)
        found.setdefault(measurement, {})[option] = value
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fishertail", description=_DESCRIPTION, formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"fishertail {version('fishertail')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    one = commands.add_parser(
        "measure",
        help="measure finished checkpoints",
        description=_MEASURE + _measurements() + _MEASURE_END,
        formatter_class=_AsWritten,
    )
    _add_measure_options(one)
    one.set_defaults(run=measure)
    other = commands.add_parser(
        "page", help="make the page of a folder of tables", description=_PAGE, formatter_class=_AsWritten
    )
    other.add_argument("folder", metavar="FOLDER", help="what `fishertail measure`, Watch or the workflow wrote")
    other.add_argument("--out", type=Path, metavar="FILE", help="the page; FOLDER/page.html by default")
    other.add_argument("--follow", action="store_true", help="write it whenever a table changes, until Ctrl-C")
    other.add_argument(
        "--every", type=positive(), default=5, metavar="SECONDS", help="how often --follow looks (%(default)s)"
    )
    other.set_defaults(run=page)
    return parser


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("factory", metavar="FACTORY", help="package.module:function, which gives the model")
    add("--kwargs", default="{}", metavar="JSON", help="arguments of FACTORY, as a JSON object")
    add("--checkpoints", nargs="+", required=True, metavar="PATH", help="files, or folders of them")
    add("--data", required=True, metavar="FILE", help="the training samples; or package.module:function")
    add("--labels", metavar="FILE", help="the labels, if --data holds the images alone")
    add("--validation", metavar="FILE", help="like --data: samples for the validation loss and accuracy")
    add("--out", default="fishertail-run", metavar="FOLDER", help="where the tables are kept (%(default)s)")
    add("--measurements", nargs="+", default=["norms", "spectrum", "outliers"], metavar="NAME",
        help="what is measured, with what that needs (norms spectrum outliers)")  # fmt: skip
    add("--option", nargs="+", default=[], metavar="NAME.OPTION=VALUE",
        help="of a measurement, such as hessian.samples=500; lists as in JSON")  # fmt: skip
    add("--layers", nargs="+", metavar="NAME", help="of the spectrum, as named_modules() names them, or network (all)")
    add("--eigenpairs", type=whole(1), default=1, metavar="K", help="how many eigenvalues (%(default)s)")
    add(
        "--tolerance",
        type=positive(below=1),
        default=1e-4,
        metavar="X",
        help="relative error of an eigenvalue (%(default)s)",
    )
    add("--threshold", type=positive(), default=10, metavar="X", help="distance of an outlier, in MAD (%(default)s)")
    add("--loss", metavar="FUNCTION", help="package.module:function of outputs and label of one sample (cross entropy)")
    add("--output", metavar="NAME", help="which of several outputs the loss is of: a name, or a place in a tuple")
    add(
        "--learning-rate",
        type=positive(),
        metavar="X",
        help="of the run, with which the curvature is compared",
    )
    add("--steps-per-epoch", type=positive(), metavar="X", help="for the column epoch, and for names with epochs")
    add("--subset", type=whole(1), metavar="N", help="measure so many samples, drawn at random once")
    add("--seed", type=whole(0), default=0, metavar="N", help="with which --subset draws (%(default)s)")
    add("--device", default="auto", metavar="NAME", help="as torch names it; auto takes a GPU where there is one")
    add("--memory-budget", type=positive(), metavar="GIB", help="for gradients; half of what is free")
    add("--threads", type=whole(1), metavar="N", help="of torch")
    add("--trust", action="store_true", help="unpickle checkpoints that hold more than weights, which runs their code")


def _measurements() -> str:
    """Every measurement with its question and cost."""
    from fishertail.measurements.measurement import measurements

    rows = [(name, f"{each.passes:g}", each.question) for name, each in measurements().items()]
    width = max(len(name) for name, *_ in rows)
    hanging = " " * (width + 9)
    return "\n".join(
        textwrap.fill(f"  {name:{width}}  {passes:>4} {question}", 100, subsequent_indent=hanging)
        for name, passes, question in rows
    )


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """Options in a column that is wide enough for their names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)
