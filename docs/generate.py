"""What pages say of registered objects, between markers: python docs/generate.py [--check]

<!-- generated: NAME --> and <!-- /generated --> stand around text that nobody edits by hand. Without an option it is
written; with --check nothing is written, and what is out of date is named.
"""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

import kept_runs
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fishertail.data.source import sources
from fishertail.grid import config
from fishertail.measurements import measurement as measured
from fishertail.measurements.measurement import Measurement, measurements
from fishertail.paper import exhibits
from fishertail.paper.claims.claim import claims
from fishertail.results.exhibits import Figure
from fishertail.results.schema import RUN, Table
from fishertail.training.metrics import METRICS
from fishertail.training.networks.network import Architecture, networks

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md", "docs/reference.md", "docs/workflow.md", "docs/measurements.md", "results/README.md",
    "docs/reproduction/README.md",
]  # fmt: skip
SCHEMA = "workflow/schemas/config.schema.json"
SCOPES = {
    "gradients": "a checkpoint's gradients",
    "tables": "other measurements' tables",
    "pair": "a checkpoint and the one before it",
    "run": "other measurements' tables of a whole run",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def escaped(text: str) -> str:
    """Bars of absolute values as Markdown's tables take them."""
    return re.sub(r"\\?\|([^|]+?)\\?\|", r"abs(\1)", text)


def measurements_table() -> str:
    """Every measurement with its cost."""
    rows = [
        [f"[`{name}`](measurements.md#{name})", each.question, SCOPES[each.scope], f"`{each.rule}`", f"{each.passes:g}"]
        for name, each in measurements().items()
    ]
    return table(["measurement", "question", "computed from", "rule", "passes at a checkpoint"], rows)


def measurement_pages() -> str:
    """Every measurement's docstring, options and tables."""
    return "\n\n".join(_measurement_page(name, each) for name, each in measurements().items())


def _measurement_page(name: str, each: Measurement) -> str:
    text = inspect.cleandoc(import_module(f"fishertail.{measured.module(each)}").__doc__ or "")
    title, _, body = text.partition("\n\n")
    found = [f"## {name}", f"**{title}** {body}".replace("\n", " ").strip()]
    unit = "pass" if each.passes == 1 else "passes"
    cost = f"{each.passes:g} {unit} at a checkpoint" if each.passes else "no gradients, so next to nothing"
    takes = f" It takes the tables of {', '.join(f'`{need}`' for need in each.needs)}." if each.needs else ""
    off = "" if each.options().enabled else "off unless enabled; "
    found.append(f"Rule `{each.rule}`; {off}cost: {cost}.{takes}")
    found.append(table(["option", "default", "meaning"], options(each.options)))
    found += [f"Table `{one.file}`: {one.meaning}." for one in each.tables]
    return "\n\n".join(found)


def options(section: type[BaseModel], without: Iterable[str] = ("enabled",)) -> list[list[str]]:
    """The keys of a section of the configuration."""
    rows = []
    for key, field in section.model_fields.items():
        if key in without:
            continue
        default = "required" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"
        rows.append([f"`{key}`", default, field.description or ""])
    return rows


def figures_table() -> str:
    """Every figure."""
    return table(
        ["figure", "shows", "rule", "drawn from"],
        [
            [_title(name, each), escaped(each.caption), f"`{each.rule}`", ", ".join(f"`{need}`" for need in each.needs)]
            for name, each in exhibits.figures().items()
        ],
    )


def _title(name: str, figure: Figure) -> str:
    """Without the data set, and with the numbers that the paper's two give."""
    numbers = "" if figure.numbers is None else ", ".join(str(figure.numbers(each)) for each in ("cifar10", "mnist"))
    return figure.title.replace("{number}", numbers).replace(", {dataset}", "")


def gallery() -> str:
    """Figures and tables over runs, with their files."""
    rows = []
    for name, each in exhibits.figures().items():
        datasets = [None] if not each.by_dataset else ["DATASET"] if each.numbers is None else ["cifar10", "mnist"]
        files = ", ".join(f"`figures/{each.stem(dataset) if dataset else name}`" for dataset in datasets)
        needed = [f"`{one}`" for one in _off_by_default(each.needs)]
        when = f", with {' and '.join(needed)}" if needed else ""
        rows.append([_title(name, each) + when, f"`{each.rule}`", files])
    for name, over in exhibits.tables().items():
        files = ", ".join(f"`tables/{one.name}`" for one in over.tables)
        rows.append([over.title, f"`{name}`", files])
    return table(
        ["shows", "rule", "file in `results/`"], [*rows, ["all of it on one page", "`page`", "`report/index.html`"]]
    )


def _off_by_default(needs: Iterable[str]) -> list[str]:
    """The measurements behind these tables that are computed only if enabled."""
    found = {name: each for name, each in measurements().items() if not each.options().enabled}
    return [name for name, each in found.items() if {one.name for one in each.tables} & set(needs)]


def claims_table() -> str:
    """Every claim."""
    return table(["claim", "in the paper"], [[name, escaped(each.statement)] for name, each in claims().items()])


def datasets_table() -> str:
    """Every data set, and where others come from."""
    found = [
        [f"`{name}`", known.meaning, source.name]
        for source in sources().values()
        for name, known in source.built_in.items()
    ]
    others = [["any `NAME`", each.meaning, each.name] for each in sources().values() if not each.built_in]
    return table(["data set", "what it is", "source"], found + others)


def networks_table() -> str:
    """Every network with its options."""
    rows = []
    for name, each in networks().items():
        own = each.architecture.model_fields
        shown = [f"`{key}: {json.dumps(field.default)}`" for key, field in own.items()]
        rows.append([f"`{name}`", each.meaning, ", ".join(shown)])
    keys = ", ".join(f"`{key}`" for key in (*Architecture.model_fields, "factory", "arguments"))
    rows.append(["any other", "a function of your own, `package.module:function`", keys])
    return table(["network", "what it is", "keys and defaults"], rows)


def run_tables() -> str:
    """The files of a run: every table with its columns."""
    tables = [METRICS, *measured.tables().values()]
    return "\n\n".join(_table_of_results(each) for each in tables)


def tables_over_runs() -> str:
    """The tables over all runs with their columns."""
    return "\n\n".join(_table_of_results(one) for each in exhibits.tables().values() for one in each.tables)


def _table_of_results(each: Table) -> str:
    name = f"tables/{each.name}" if each.name in _over_runs() else each.file
    meaning = each.meaning.removesuffix(".")
    rows = [[f"`{column.name}`", column.meaning.replace("\\|", "|")] for column in each.columns]
    rows += [["a column for each layer, and `network`", each.of_layers]] if each.of_layers else []
    first = f" First come {', '.join(f'`{key}`' for key in RUN)}." if each.of_runs else ""
    kept = "" if each.kept else " Not kept with a finished run."
    head = f"**`{name}`**: {meaning}.{first}{kept}"
    return head + ("\n\n" + table(["column", "meaning"], rows) if rows else "")


def _over_runs() -> set[str]:
    return {one.name for each in exhibits.tables().values() for one in each.tables}


def rule_graph() -> str:
    """The rules and which files they read of each other, without transitive arrows."""
    command = [sys.executable, "-m", "snakemake", "-n", "--nolock", "--rulegraph"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', done.stdout, re.MULTILINE))
    pairs = re.findall(r"^\s*(\d+) -> (\d+)$", done.stdout, re.MULTILINE)
    arrows = {(names[a], names[b]) for a, b in pairs if names[a] != names[b] and names[b] != "all"}
    kept = {arrow for arrow in arrows if arrow[1] not in _reachable(arrow[0], arrows - {arrow})}
    lines = [f"    {a} --> {' & '.join(sorted(d for c, d in kept if c == a))}" for a in sorted({a for a, _ in kept})]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


def _reachable(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        current = pending.pop()
        new = {b for a, b in arrows if a == current} - found
        found |= new
        pending += new
    return found


PARTS = {
    "measurements": measurements_table,
    "measurement-pages": measurement_pages,
    "figures": figures_table,
    "gallery": gallery,
    "claims": claims_table,
    "verdicts": kept_runs.verdicts,
    "fig6": kept_runs.beside_the_paper,
    "datasets": datasets_table,
    "networks": networks_table,
    "run-tables": run_tables,
    "tables-over-runs": tables_over_runs,
    "rule-graph": rule_graph,
}
_MARKED = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(\n<!-- /generated -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    """What each file should hold."""
    found = {}
    for name in PAGES:
        text = (ROOT / name).read_text()
        found[ROOT / name] = _MARKED.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], text)
    return found | kept_runs.pages() | {ROOT / SCHEMA: json.dumps(config.schema(), indent=2) + "\n"}


def main() -> None:
    """The command."""
    stale = {path: text for path, text in generated().items() if not path.exists() or path.read_text() != text}
    if "--check" not in sys.argv:
        for path, text in stale.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    elif stale:
        raise SystemExit(
            f"out of date, renew with `make docs`: {', '.join(str(path.relative_to(ROOT)) for path in stale)}"
        )


if __name__ == "__main__":
    main()
