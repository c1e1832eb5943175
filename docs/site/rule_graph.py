"""The graph of the rules as a drawing in the page: Mermaid, which draws it on GitHub, is a script of 3 MB."""

import html
import itertools
import re
from collections import defaultdict

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

GRAPH = re.compile(r"^```mermaid\nflowchart LR\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHARACTER, LINE, ROW, GAP, MARGIN = 6.1, 13, 46, 30, 4  # pixels

Node = str | tuple[str, str, int]  # a rule, or where an arrow passes through a layer
Arrows = list[tuple[Node, Node]]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace each graph by its drawing."""
    return GRAPH.sub(lambda match: drawing(arrows_of(match[1])), markdown)


def arrows_of(text: str) -> Arrows:
    """The arrows of lines such as `train --> run_metrics & fim_eigen`."""
    lines = [line.strip().split(" --> ") for line in text.splitlines() if line.strip()]
    return [(source, target) for source, targets in lines for target in targets.split(" & ")]


def drawing(arrows: Arrows) -> str:
    """The rules in layers from left to right, as SVG."""
    layer = _layers(arrows)
    arrows = _through_each_layer(arrows, layer)
    columns = _ordered(arrows, layer)
    widths = [max(CHARACTER * max(map(len, _label(node))) + 16 for node in column) for column in columns]
    height = ROW * max(map(len, columns)) + 2 * MARGIN
    left, top = {}, {}
    x = float(MARGIN)
    for column, width in zip(columns, widths, strict=True):
        for place, node in enumerate(column):
            left[node] = (x, x + width)
            top[node] = height / 2 + ROW * (place - (len(column) - 1) / 2)
        x += width + GAP
    parts = []
    for source, target in arrows:
        (_, x0), (x1, _), y0, y1 = left[source], left[target], top[source], top[target]
        middle = (x0 + x1) / 2
        head = "" if isinstance(target, tuple) else f"M{x1 - 6},{y1 - 3.5}L{x1},{y1}L{x1 - 6},{y1 + 3.5}"
        through = f"M{left[source][0]},{y0}H{x0}" if isinstance(source, tuple) else f"M{x0},{y0}"
        parts.append(f'<path d="{through}C{middle},{y0} {middle},{y1} {x1},{y1}{head}"/>')
    for node in layer:
        (x0, x1), y, label = left[node], top[node], _label(node)
        parts.append(f'<rect x="{x0}" y="{y - 18}" width="{x1 - x0}" height="36" rx="4"/>')
        for number, words in enumerate(label):
            baseline = y + 4 + LINE * (number - (len(label) - 1) / 2)
            parts.append(f'<text x="{(x0 + x1) / 2}" y="{baseline}">{html.escape(words)}</text>')
    size = f'viewBox="0 0 {x - GAP + MARGIN:.0f} {height:.0f}" width="{x - GAP + MARGIN:.0f}"'
    drawn = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.1f}", "".join(parts))
    return f'<div class="rule-graph"><svg {size} role="img" aria-label="Rules and their order">{drawn}</svg></div>\n'


def _layers(arrows: Arrows) -> dict[Node, int]:
    """The layer of each rule: one more than the last of those that it reads from."""
    sources = defaultdict(list)
    for source, target in arrows:
        sources[target].append(source)

    def layer(node: Node) -> int:
        return max((layer(source) + 1 for source in sources[node]), default=0)

    return {node: layer(node) for arrow in arrows for node in arrow}


def _through_each_layer(arrows: Arrows, layer: dict[Node, int]) -> Arrows:
    found: Arrows = []
    for source, target in arrows:
        between: list[Node] = [(str(source), str(target), at) for at in range(layer[source] + 1, layer[target])]
        steps = [source, *between, target]
        found += itertools.pairwise(steps)
    return found


def _ordered(arrows: Arrows, layer: dict[Node, int]) -> list[list[Node]]:
    """The nodes of each layer, each near the mean place of its neighbours, so that few arrows cross."""
    columns: list[list[Node]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in dict.fromkeys(node for arrow in arrows for node in arrow):
        columns[node[2] if isinstance(node, tuple) else layer[node]].append(node)
    neighbours = defaultdict(list)
    for source, target in arrows:
        neighbours[source].append(target)
        neighbours[target].append(source)
    for sweep in range(24):
        for column in columns if sweep % 2 else reversed(columns):
            place = {node: at - (len(c) - 1) / 2 for c in columns for at, node in enumerate(c)}
            column.sort(key=lambda node: sum(place[other] for other in neighbours[node]) / len(neighbours[node]))
    return columns


def _label(node: Node) -> list[str]:
    """The name of a rule in one or two lines; nothing for an arrow that passes."""
    if isinstance(node, tuple):
        return [""]
    breaks = [match.end() for match in re.finditer("_", node)] if len(node) > 10 else []
    at = min(breaks, key=lambda place: abs(place - len(node) / 2), default=len(node))
    return [node[:at], node[at:]] if at < len(node) else [node]
