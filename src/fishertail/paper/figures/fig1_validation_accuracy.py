"""Fig. 1: validation accuracy over training, as the error that is left."""

from fishertail.results.exhibits import Drawing, Figure, Results


def draw(results: Results) -> Drawing:
    """A panel for each data set and model, a line for each run, a dot where it ends."""
    from fishertail.results import drawing
    from fishertail.results.schema import RUN

    table = results["metrics"][[*RUN, "step", "epoch", "validation_accuracy"]]
    table = table.assign(error_percent=100 * (1 - table["validation_accuracy"].astype(float)))
    if table.empty:
        return drawing.nothing("No run has been trained."), table
    figure, panels = drawing.grid_of_panels(table, sharey="row")
    for (dataset, model), axes in panels.items():
        part = drawing.of_network(table, dataset, model)
        time = drawing.LogarithmicTime(part["epoch"].to_numpy(dtype=float))
        lowest = part["error_percent"][part["error_percent"] > 0].min()  # an error of 0 has no logarithm
        part = part.assign(place=time.positions(part["epoch"]), shown=part["error_percent"].clip(lower=lowest / 2))
        drawing.run_lines(axes, part, "place", "shown")
        for batch_size, own in drawing.by_batch_size(part):
            ends = own.loc[own.groupby("seed")["step"].idxmax()]
            axes.plot(ends["place"], ends["shown"], "o", color=drawing.colour_of(batch_size)[0])
        axes.plot([], [], "o", color=drawing.MARK, label="end of training")
        axes.set_yscale("log")
        time.label(axes.xaxis, float(part["epoch"].max()))
        axes.set(title=f"{results.title_of(dataset)}, {model}", xlabel="epoch", ylabel="validation error (%)")
    for axes in panels.values():
        drawing.log_ticks(axes.yaxis)
    drawing.tidy(figure, panels)
    return figure, table


FIGURE = Figure(
    name="fig1_validation_accuracy",
    title="Fig. 1: validation accuracy",
    caption=(
        "The validation error, 100 % minus the accuracy, over training: a line for each run, with a dot where its "
        "training ends. Both axes are logarithmic, with step 0 at the left; an error of 0 is drawn at half of the "
        "smallest other one. The lines show how well the networks whose gradients are analysed generalize, and when."
    ),
    needs=("metrics",),
    draw=draw,
)
