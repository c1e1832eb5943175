"""Table 1 as a figure: the machine and the software of the runs."""

from fishertail.results.exhibits import Drawing, Figure, Results


def draw(results: Results) -> Drawing:
    """The table as it is."""
    from fishertail.results.drawing import table_figure

    return table_figure(results["table1_machine"])


FIGURE = Figure(
    name="table1_machine",
    title="Table 1: machine and software",
    caption="The machine and the software of the jobs that trained the networks and analysed their gradients.",
    needs=("table1_machine",),
    draw=draw,
)
