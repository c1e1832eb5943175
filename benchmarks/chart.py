"""The chart of the norms on today's networks: python -m benchmarks.chart docs/images/networks.csv draws it again."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import pandas as pd
from matplotlib import pyplot as plt

from fishertail.results.drawing import STYLE

COLOURS = {  # fishertail stands out, its peers are quiet
    "fishertail": "#D55E00",
    "Opacus ghost norms": "#31688E",
    "Opacus GradSampleModule": "#7FA8C9",
    "BackPACK BatchL2Grad": "#6B8F71",
    "torch.func vmap(grad)": "#A6A6A6",
}
TEXT = {"svg.fonttype": "none", "font.family": "sans-serif"}  # a quarter of the size of outlines
BAR = 0.16  # of a group's unit height
LONGEST = 12.0  # passes that the axis reaches; a longer bar is cut, and says how long it is


def write(table: pd.DataFrame, path: Path) -> None:
    """The table behind the chart, and the chart beside it as SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.round({"passes": 3}).to_csv(path, index=False)
    draw(path)


def draw(path: Path) -> None:
    """Draw the chart of a table with columns network, method, passes, note (why there is no bar)."""
    table = pd.read_csv(path, keep_default_na=False, na_values={"passes": [""]})
    networks = list(dict.fromkeys(table["network"]))
    methods = [method for method in COLOURS if method in set(table["method"])]
    longest = min(LONGEST, 1.12 * table["passes"].where(table["note"] == "").max())
    with plt.style.context([STYLE, TEXT]):
        figure, axes = plt.subplots(figsize=(7.4, 0.5 + len(networks) * (0.16 * len(methods) + 0.12)))
        for position, method in enumerate(methods):
            offset = (position - (len(methods) - 1) / 2) * BAR
            for row in table[table["method"] == method].itertuples():
                y = networks.index(row.network) + offset
                _bar(axes, y, row.passes, row.note, longest, method)
            axes.barh(0, 0, color=COLOURS[method], label=method)
        axes.axvline(1, color="#444444", linewidth=0.9, linestyle=(0, (4, 2)), zorder=0.5)
        axes.set(xlim=(0, longest), yticks=range(len(networks)), yticklabels=networks)
        axes.set_ylim(len(networks) - 0.5, -0.5)
        axes.set_xlabel("passes (1 = a plain forward and backward over the same samples); shorter is better")
        axes.set_title("Norms of all per-sample gradients: what they cost")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=len(methods), columnspacing=1.2, handlelength=1.2)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        plt.close(figure)


def _bar(axes, y: float, passes: float, note: str, longest: float, method: str) -> None:
    own = method == "fishertail"
    style = {"va": "center", "fontsize": 7.5, "fontweight": "bold" if own else "normal"}
    if note:
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # of the line at one pass
        axes.text(0.06, y, f"{method}: {note}", color="#666666", fontstyle="italic", bbox=clear, **style)
        return
    axes.barh(y, min(passes, longest), BAR * 0.92, color=COLOURS[method])
    if passes > 0.93 * longest:
        axes.text(0.99 * longest, y, f"{passes:.1f}", ha="right", color="white", **style)
    else:
        axes.text(passes + 0.06, y, f"{passes:.1f}", color="#222222", **style)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
