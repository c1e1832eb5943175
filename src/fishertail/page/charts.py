"""The page's charts, as Vega-Lite by altair. The page fills their data sets, and sets their signals.

All charts over training share their horizontal axis: positions that the page computes from steps, linear or
logarithmic. Its signals are `first` and `last`, the ends, and `ticks` with as many `labels`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import altair as alt

from fishertail.page.instruments import BLUE, GREEN, VERMILION, Instrument, Kind, Scale

_FONT = "system-ui, sans-serif"
_INK, _OTHER_RUN = "#6b7280", "#7b818c"  # greys that are seen on light and on dark paper
_LABELS_WIDTH = 44  # pixels, so that the charts of a column line up
_DIGIT = "round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-6)))"  # the first one
_SHORT = (  # of a logarithmic axis
    f"({_DIGIT} == 1 || {_DIGIT} == 2 || {_DIGIT} == 5) ? "
    "format(datum.value, datum.value >= 0.001 && datum.value < 1e5 ? '~r' : '.0~e') : ''"
)


@cache
def histogram() -> dict[str, Any]:
    """How a_x is distributed at the chosen checkpoint.

    Data sets: `bins` (bin, bin_end, share, floor, label, count), `ticks` (bin, floor, text), and `extent` (bin, share),
    the corners of what any checkpoint shows, so that the axes stay when another is chosen.
    """
    x = alt.X("bin:Q", axis=None, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y(
        "share:Q",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(title="share of the samples", tickCount=5, **_logarithmic()),
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
    rules = ticks.mark_rule(color="#8884", strokeWidth=0.6).encode(x=x)
    labels = ticks.mark_text(dy=7, color="#555", baseline="top").encode(x=x, y="floor:Q", text="text:N")
    return _configured(alt.layer(corners, rules, bars, labels).properties(width="container", height=240))


@cache
def curve(title: str, scale: Scale, kind: Kind, colour: str) -> dict[str, Any]:
    """One quantity during training of one run, or of two.

    The data set `curve` has x, step, epoch, value and run (1 or 2); `marks` x and run, the checkpoints of lowest
    validation loss; `here` x, the chosen checkpoint, whose step is the signal `step`.
    """
    y = _value(scale, kind)
    x = _time("x:Q")
    runs = [1, 2]
    hue = alt.Color("run:N", legend=None, scale=alt.Scale(domain=runs, range=[colour, _OTHER_RUN]))
    dash = alt.StrokeDash("run:N", legend=None, scale=alt.Scale(domain=runs, range=[[1, 0], [5, 3]]))
    base = alt.Chart(alt.NamedData("curve"))
    line = base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=hue, strokeDash=dash)
    points = base.mark_circle(size=20).encode(x=x, y=y, color=hue, tooltip=_tooltip(title, kind))
    dotted = alt.condition("datum.run == 1", alt.value([4, 3]), alt.value([1, 4]))
    lowest = alt.Chart(alt.NamedData("marks")).mark_rule(color=VERMILION).encode(x=x, strokeDash=dotted)
    here = alt.Chart(alt.NamedData("here")).mark_rule(color=_INK, strokeWidth=1.3).encode(x=x)
    dot = base.transform_filter("datum.run == 1 && datum.step === step").mark_circle(color=_INK, size=60)
    layers = alt.layer(here, lowest, line, points, dot.encode(x=x, y=y))
    chart = layers.add_params(*_time_signals(), alt.param(name="step", value=0))
    return _configured(chart.properties(width="container", height=110))


@cache
def depth() -> dict[str, Any]:
    """A quantity of every layer over training: time to the right, depth downwards, blank where nothing was measured.

    The data set `cells` has x, x_end, layer, shade (on the scale of the colours), step and value (text); `layers` has
    layer, in order, those without a cell too; `here` x. Signals: `low` and `high`, the ends of the colours; `powers`,
    whether shades are exponents of ten.
    """
    y = alt.Y("layer:N", sort=None, axis=alt.Axis(title=None, minExtent=_LABELS_WIDTH, ticks=False, domain=False))
    legend = alt.Legend(
        orient="top",
        title=None,
        gradientLength=160,
        gradientThickness=9,
        tickCount=4,
        labelExpr="powers ? format(pow(10, datum.value), '.2~g') : format(datum.value, '.0%')",
        offset=4,
    )
    scale = alt.Scale(scheme="viridis", domainMin=alt.ExprRef("low"), domainMax=alt.ExprRef("high"))
    colour = alt.Color("shade:Q", scale=scale, legend=legend)
    tooltip = [alt.Tooltip("layer:N"), alt.Tooltip("step:Q", format=","), alt.Tooltip("value:N")]
    cells = (
        alt.Chart(alt.NamedData("cells"))
        .mark_rect()
        .encode(x=_time("x:Q"), x2="x_end", y=y, color=colour, tooltip=tooltip)
    )
    here = alt.Chart(alt.NamedData("here")).mark_rule(color="#fff", strokeWidth=1.3).encode(x=_time("x:Q"))
    signals = [alt.param(name="low", value=0), alt.param(name="high", value=1), alt.param(name="powers", value=False)]
    rows = alt.Chart(alt.NamedData("layers")).mark_point(opacity=0).encode(y=y)
    chart = alt.layer(rows, cells, here).add_params(*_time_signals(), *signals)
    return _configured(chart.properties(width="container", height=alt.Step(22)))


@cache
def scatter(column: str, title: str, scale: Scale) -> dict[str, Any]:
    """The share of outliers at every checkpoint of every run against how well the training data are fitted.

    The data set `points` has loss, accuracy, share, run, time, chosen (of the chosen run) and here.
    """
    x = alt.X(
        f"{column}:Q",
        scale=alt.Scale(type=scale, zero=False, nice=False),
        axis=alt.Axis(
            title=title,
            tickCount=5,
            labelSeparation=6,
            **({"format": "%"} if scale == "linear" else _logarithmic()),
        ),
    )
    y = alt.Y("share:Q", axis=alt.Axis(title="share of outliers", tickCount=5, format="%"))
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("time:N"),
        alt.Tooltip(f"{column}:Q", title=title, format=".4~g"),
        alt.Tooltip("share:Q", title="outliers", format=".2%"),
    ]
    base = alt.Chart(alt.NamedData("points"))
    others = base.transform_filter("!datum.chosen").mark_circle(size=14, color=_OTHER_RUN, opacity=0.45)
    chosen = base.transform_filter("datum.chosen").mark_circle(size=26, color=BLUE)
    here = base.transform_filter("datum.here").mark_circle(size=90, color=VERMILION)
    chart = alt.layer(*(each.encode(x=x, y=y, tooltip=tooltip) for each in (others, chosen, here)))
    return _configured(chart.properties(width="container", height=240))


def all_charts(instruments: Mapping[str, Instrument]) -> dict[str, dict[str, Any]]:
    """By the ids of the elements that they are put into, without `chart-`."""
    curves = {key: curve(each.title, each.scale, each.kind, each.colour) for key, each in instruments.items()}
    share = curve("outliers", "linear", "share", GREEN)
    fit = {
        "fit-accuracy": scatter("accuracy", "training accuracy", "linear"),
        "fit-loss": scatter("loss", "training loss", "log"),
    }
    pairs = {"histogram": histogram(), "histogram2": histogram(), "depth": depth(), "depth2": depth()}
    return pairs | {"outlier-share": share} | curves | fit


def _logarithmic() -> dict[str, Any]:
    """Of a logarithmic axis: lines at whole powers of ten alone, and labels where there is room."""
    whole = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
    at_powers = alt.condition(whole, alt.value(1), alt.value(0))
    return {"gridOpacity": at_powers, "tickOpacity": at_powers, "labelExpr": _SHORT, "labelOverlap": "greedy"}


def _value(scale: Scale, kind: Kind) -> alt.Y:
    """The vertical axis of an instrument; counts begin at 0."""
    form = {"share": "%", "count": "~s", "number": ".3~g"}[kind]
    width = alt.Axis(title=None, tickCount=4, format=form, minExtent=_LABELS_WIDTH, maxExtent=_LABELS_WIDTH)
    if scale == "linear":
        return alt.Y("value:Q", axis=width, scale=alt.Scale(zero=kind == "count"))
    axis = alt.Axis(**(width.to_dict() | _logarithmic()))
    return alt.Y("value:Q", axis=axis, scale=alt.Scale(type="log"))


def _time(field: str) -> alt.X:
    axis = alt.Axis(
        title=None,
        values=alt.ExprRef("ticks"),
        labelExpr="labels[indexof(ticks, datum.value)]",
        labelFlush=True,
        labelOverlap=True,
    )
    ends = {"domainMin": alt.ExprRef("first"), "domainMax": alt.ExprRef("last")}
    return alt.X(field, axis=axis, scale=alt.Scale(nice=False, zero=False, **ends))


def _time_signals() -> list[alt.Parameter]:
    return [
        alt.param(name="first", value=0),
        alt.param(name="last", value=1),
        alt.param(name="ticks", value=[0]),
        alt.param(name="labels", value=["0"]),
    ]


def _tooltip(title: str, kind: Kind) -> list[alt.Tooltip]:
    form = ".2%" if kind == "share" else ".4~g"
    return [
        alt.Tooltip("step:Q", format=","),
        alt.Tooltip("epoch:N"),
        alt.Tooltip("value:Q", title=title, format=form),
    ]


def _configured(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    # laid out again as data come: the space that the axes' labels take is not known before
    resized = alt.AutoSizeParams(type="fit-x", contains="padding", resize=True)
    chart = chart.configure(font=_FONT, background="transparent", autosize=resized).configure_view(stroke=None)
    chart = chart.configure_axis(
        grid=True, gridColor="#8883", gridWidth=0.6, domainColor="#9aa0aa", tickColor="#9aa0aa", labelColor="#555",
        titleColor="#333", titleFontWeight="normal", labelFontSize=11, titleFontSize=12,
    )  # fmt: skip
    return chart.to_dict()
