"""Networks trained on real digits for the tests of the numerics."""

from functools import cache

from fishertail import config, models, training


@cache
def digits_network(name: str, epochs: int):
    """`fc` or `conv` on scikit-learn's digits after some epochs; 25 are enough for 100 % training accuracy."""
    from fishertail import datasets

    dataset = datasets.load("digits")
    architecture = config.Config().architectures[name].model_dump()
    run = {"dataset": "digits", "model": name, "batch_size": 16, "seed": 0}
    run["architecture"] = architecture | {"learning_rate": 0.1, "hidden_widths": [64] * (4 if name == "fc" else 2)}
    model = models.of_run(run, dataset.shape, dataset.classes)
    for _ in training.train_run(model, dataset, range(1, epochs + 1), run):
        pass
    return model.eval(), *dataset.training_data()
