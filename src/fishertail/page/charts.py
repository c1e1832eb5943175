"""The explorer's charts, as Vega-Lite by altair. The page fills their data sets, and sets the signal `epoch`."""

import altair as alt

BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8f98"
_FONT = "system-ui, sans-serif"


def histogram() -> dict:
    """How a_x is distributed at the chosen epoch.

    Data sets: `bins` (bin, bin_end, share, floor, label, count), `ticks` (bin, floor, text), and `extent` (bin, share),
    the corners of what any epoch shows, so that the axes stay when the epoch moves.
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


def curve(title: str, colour: str, *, logarithmic: bool = False, whole: bool = False) -> dict:
    """One quantity over the epochs, with rules at the chosen epoch and at the lowest validation loss.

    The data set `curve` has epoch, value; `minimum` epoch.
    """
    epoch = alt.param(name="epoch", value=0)
    axis = alt.Axis(title=None, format="d", tickMinStep=1)
    x = alt.X("epoch:Q", axis=axis, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y(
        "value:Q",
        axis=alt.Axis(title=title, tickCount=4, format="~s" if whole else ".1~e" if logarithmic else "~g"),
        scale=alt.Scale(type="log" if logarithmic else "linear", **({} if logarithmic else {"zero": whole})),
    )
    base = alt.Chart(alt.NamedData("curve"))
    line = base.mark_line(color=colour, strokeWidth=1.8).encode(x=x, y=y)
    points = base.mark_circle(color=colour, size=22).encode(
        x=x, y=y, tooltip=[alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", title=title, format=".4~g")]
    )
    here = base.transform_filter("datum.epoch === epoch")
    rule = here.mark_rule(color="#222", strokeWidth=1.2).encode(x=x)
    dot = here.mark_circle(color="#222", size=70).encode(x=x, y=y)
    minimum = alt.Chart(alt.NamedData("minimum"))
    lowest = minimum.mark_rule(color=VERMILION, strokeDash=[4, 3]).encode(x=x)
    chart = alt.layer(lowest, line, points, rule, dot).add_params(epoch).properties(width="container", height=120)
    return _configured(chart)


def _configured(chart: alt.LayerChart) -> dict:
    # laid out anew as data come: the space that the axes' labels take is not known before
    resized = alt.AutoSizeParams(type="fit-x", contains="padding", resize=True)
    chart = chart.configure(font=_FONT, background="transparent", autosize=resized).configure_view(stroke=None)
    chart = chart.configure_axis(
        grid=True, gridColor="#eceef1", domainColor="#b8bcc4", tickColor="#b8bcc4", labelColor="#555",
        titleColor="#333", titleFontWeight="normal", labelFontSize=11, titleFontSize=12,
    )  # fmt: skip
    return chart.to_dict()


def all_charts() -> dict[str, dict]:
    return {
        "histogram": histogram(),
        "lambda_1": curve("lambda_1", BLUE, logarithmic=True),
        "outliers": curve("outliers", GREEN, whole=True),
        "validation_loss": curve("validation loss", VERMILION),
    }
