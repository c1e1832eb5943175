"""The explorer's charts, as Vega-Lite by altair. The page fills their data sets, and sets their signals."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from fishertail.results.exhibits import Panel

BLUE, VERMILION = "#0072B2", "#D55E00"
_FONT = "system-ui, sans-serif"


def histogram() -> dict[str, Any]:
    """How a_x is distributed at the chosen checkpoint.

    Data sets: `bins` (bin, bin_end, share, floor, label, count), `ticks` (bin, floor, text), and `extent` (bin, share),
    the corners of what any checkpoint shows, so that the axes stay when another is chosen.
    """
    x = alt.X("bin:Q", axis=None, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y(
        "share:Q",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(title="share of the samples", format=".0e", tickCount=5),
    )
    corners = alt.Chart(alt.NamedData("extent")).mark_point(opacity=0).encode(x=x, y=y)
    bars = (
        alt.Chart(alt.NamedData("bins"))
        .mark_bar(color=BLUE)
        .encode(
            x=x,
            x2="bin_end",
            y=y,
            y2="floor",
            tooltip=[alt.Tooltip("label:N", title="a_x"), alt.Tooltip("count:Q", title="samples", format=",")],
        )
    )
    ticks = alt.Chart(alt.NamedData("ticks"))
    rules = ticks.mark_rule(color="#e3e5e8").encode(x=x)
    labels = ticks.mark_text(dy=7, color="#555", baseline="top").encode(x=x, y="floor:Q", text="text:N")
    return _configured(alt.layer(corners, rules, bars, labels).properties(width="container", height=260))


def curve(title: str, colour: str, *, logarithmic: bool = False, whole: bool = False) -> dict[str, Any]:
    """One quantity during training, with rules at the chosen step and at the lowest validation loss.

    Time is logarithmic in SGD steps, so that the first epoch is seen; its axis is labelled in epochs.

    The data set `curve` has step, epoch, value; `minimum` step. The signals are `step`, `ticks` (the steps that are
    labelled) and `per_epoch`.
    """
    signals = [
        alt.param(name="step", value=0),
        alt.param(name="ticks", value=[0]),
        alt.param(name="per_epoch", value=1),
    ]
    axis = alt.Axis(title=None, values=alt.ExprRef("ticks"), labelExpr="format(datum.value / per_epoch, '~g')")
    x = alt.X("step:Q", axis=axis, scale=alt.Scale(type="symlog", constant=1, nice=False, zero=True))
    y = alt.Y(
        "value:Q",
        axis=alt.Axis(title=title, tickCount=4, format="~s" if whole else ".1~e" if logarithmic else "~g"),
        scale=alt.Scale(type="log" if logarithmic else "linear", zero=alt.Undefined if logarithmic else whole),
    )
    base = alt.Chart(alt.NamedData("curve"))
    line = base.mark_line(color=colour, strokeWidth=1.8).encode(x=x, y=y)
    points = base.mark_circle(color=colour, size=22).encode(
        x=x,
        y=y,
        tooltip=[alt.Tooltip("epoch:Q", format=".4~g"), alt.Tooltip("value:Q", title=title, format=".4~g")],
    )
    here = base.transform_filter("datum.step === step")
    rule = here.mark_rule(color="#222", strokeWidth=1.2).encode(x=x)
    dot = here.mark_circle(color="#222", size=70).encode(x=x, y=y)
    minimum = alt.Chart(alt.NamedData("minimum"))
    lowest = minimum.mark_rule(color=VERMILION, strokeDash=[4, 3]).encode(x=x)
    chart = alt.layer(lowest, line, points, rule, dot).add_params(*signals).properties(width="container", height=120)
    return _configured(chart)


def _configured(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    # laid out again as data come: the space that the axes' labels take is not known before
    resized = alt.AutoSizeParams(type="fit-x", contains="padding", resize=True)
    chart = chart.configure(font=_FONT, background="transparent", autosize=resized).configure_view(stroke=None)
    chart = chart.configure_axis(
        grid=True, gridColor="#eceef1", domainColor="#b8bcc4", tickColor="#b8bcc4", labelColor="#555",
        titleColor="#333", titleFontWeight="normal", labelFontSize=11, titleFontSize=12,
    )  # fmt: skip
    return chart.to_dict()


def all_charts(panels: Mapping[str, Panel]) -> dict[str, dict[str, Any]]:
    """The histogram, the panels of measurements, and the validation loss."""
    shown = {
        name: curve(panel.title, panel.colour, logarithmic=panel.scale == "log", whole=panel.counts)
        for name, panel in panels.items()
    }
    return {"histogram": histogram()} | shown | {"validation_loss": curve("validation loss", VERMILION)}
