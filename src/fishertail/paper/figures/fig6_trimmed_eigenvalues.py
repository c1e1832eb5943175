"""Fig. 6: A, B and the relative decrease at the lowest validation loss, as a table."""

from fishertail.results.exhibits import Drawing, Figure, Results


def draw(results: Results) -> Drawing:
    """In each model's figure layer: means over the seeds."""
    from fishertail.results.drawing import table_figure
    from fishertail.results.schema import RUN

    passed = {key: found.passed for key, found in results.minima().items()}
    shown = results.at_minimum(results.of_layer("trimmed"))
    shown = shown.assign(passed=[passed[key] for key in shown[RUN].itertuples(index=False, name=None)])
    grouped = shown.groupby(["dataset", "model", "layer", "batch_size"], sort=False)
    table = grouped[["A", "B", "decrease_percent", "B_resolved", "decrease_resolved_percent"]].mean()
    counts = grouped["passed"].agg(lambda column: f"{column.sum()} of {len(column)}")
    return table_figure(table.assign(minimum_passed=counts).reset_index())


FIGURE = Figure(
    name="fig6_trimmed_eigenvalues",
    title="Fig. 6: lambda_1 with and without the outliers",
    caption=(
        "The largest eigenvalue over all training samples (A), without the 10 % of largest |a_x| but with the "
        "eigenvector kept (B), and re-solved without them, at the epoch of lowest validation loss: means over the "
        "seeds. The last column counts the runs that passed the minimum of their validation loss. Bears on claim "
        "4: a few samples carry the eigenvalue."
    ),
    needs=("trimmed", "metrics"),
    draw=draw,
)
