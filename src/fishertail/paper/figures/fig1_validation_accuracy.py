"""Fig. 1: validation accuracy over training."""

from fishertail.results.exhibits import Drawing, Figure, Results


def draw(results: Results) -> Drawing:
    """A panel for each data set and model, a line for each batch size."""
    from fishertail.results.drawing import over_training

    return over_training(results, results["metrics"], "validation_accuracy", "validation accuracy (%)", scale=100)


FIGURE = Figure(
    name="fig1_validation_accuracy",
    title="Fig. 1: validation accuracy",
    caption=(
        "Validation accuracy over training, for every data set and model: the mean over the seeds, with a band "
        "from the lowest to the highest. It shows that the networks whose gradients are analysed do generalize, "
        "and when."
    ),
    needs=("metrics",),
    draw=draw,
)
