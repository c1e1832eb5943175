"""Which score finds wrong labels? A tenth of the labels is flipped, a network is trained, and its samples are ranked.

Run it with `python examples/mislabelled/experiment.py mnist --data-dir data`, or with cifar10; the data set is
downloaded where it is missing. It writes a table of how well each score finds the flipped labels at each epoch, and a
picture of the worst 50 samples. docs/how-to/mislabelled-images.md shows both. It needs `pip install ".[workflow]"
cleanlab`.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import KFold
from torch import nn

import fishertail
from fishertail.data import loading
from fishertail.data.source import built_in
from fishertail.training.networks.build import build
from fishertail.training.sgd import train_epoch

NETWORKS = {  # the paper's; CIFAR-10 at ten times its rate of 0.001, since the epochs are few and short
    "mnist": ("fc", {"hidden_widths": [500] * 4}, 0.05),
    "cifar10": ("conv", {"channels": [32, 32, 64, 64], "hidden_widths": [512, 256]}, 0.01),
}
SCORES = ["loss", "grand", "el2n", "a_x"]
CLASSES, BATCH_SIZE = 10, 16
Weights = dict[str, torch.Tensor]


def main() -> None:
    options = arguments()
    images, labels, truth = flipped(options)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)

    model, checkpoints = trained(options, images, labels)
    analysis = fishertail.analyse_run(
        model, checkpoints, images, labels, layers=["network"], measurements=["norms", "spectrum", "sample_scores"]
    )
    held_out = cross_validated(options, images, labels)

    wrong = (labels != truth).numpy()
    rows = found_by_scores(analysis, wrong) + found_by_cleanlab(held_out, labels.numpy(), wrong, list(checkpoints))
    table = pd.DataFrame(rows).assign(dataset=options.dataset, epoch=lambda rows: rows["step"] // per_epoch(labels))
    table.to_csv(folder / f"{options.dataset}.csv", index=False, float_format="%.4f")
    print(table.pivot_table(index=["score", "over"], columns="epoch", values="average_precision").round(3).to_string())
    print_issues(held_out[-1], labels.numpy(), wrong)
    ranking = fishertail.rank_samples(analysis, score=options.score)
    ranking.to_parquet(folder / f"{options.dataset}-ranking.parquet")
    draw_worst(ranking, images, labels, truth, options.dataset, folder / f"{options.dataset}.png")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=NETWORKS)
    parser.add_argument("--data-dir", default="data", help="where the data set lies, or is downloaded to")
    parser.add_argument("--folder", default="mislabelled", help="for the table and the picture")
    parser.add_argument("--samples", type=int, default=10_000, help="drawn from the training data")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--flipped", type=float, default=0.1, help="share of the labels that are flipped")
    parser.add_argument("--folds", type=int, default=3, help="of the cross-validation for cleanlab")
    parser.add_argument("--score", default="loss", help="by which the picture is ranked")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def flipped(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels of which a share is wrong, and the true labels; a wrong one is any of the others alike."""
    dataset = loading.load(options.dataset, options.data_dir)
    every_image, every_label = dataset.training_data()
    random = np.random.default_rng(options.seed)
    chosen = torch.from_numpy(np.sort(random.permutation(len(every_label))[: options.samples]))
    images, truth = every_image[chosen].contiguous(memory_format=torch.channels_last), every_label[chosen]
    wrong = torch.from_numpy(random.permutation(len(truth))[: round(options.flipped * len(truth))])
    labels = truth.clone()
    labels[wrong] = (truth[wrong] + torch.from_numpy(random.integers(1, CLASSES, len(wrong)))) % CLASSES
    return images, labels, truth


def per_epoch(labels: torch.Tensor) -> int:
    """SGD steps of an epoch."""
    return -(-len(labels) // BATCH_SIZE)


def trained(
    options: argparse.Namespace, images: torch.Tensor, labels: torch.Tensor
) -> tuple[nn.Module, dict[int, Weights]]:
    """The network, and its weights by SGD step, at the ends of epochs 1, 2, 3, 4, 6, 8, 11, 16, ... and the last."""
    name, widths, rate = NETWORKS[options.dataset]
    _, channels, height, width = images.shape
    model = build(name, widths, (channels, height, width), CLASSES, options.seed)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoints = {}
    for epoch in range(1, options.epochs + 1):
        train_epoch(model, images, labels, batch_size=BATCH_SIZE, learning_rate=rate, seed=options.seed, epoch=epoch)
        if epoch in measured_epochs(options.epochs):
            checkpoints[epoch * per_epoch(labels)] = {key: value.clone() for key, value in model.state_dict().items()}
    return model, checkpoints


def measured_epochs(last: int) -> list[int]:
    """Two in each octave, and the last."""
    return sorted({epoch for k in range(2 * last.bit_length()) if (epoch := round(2 ** (k / 2))) < last} | {last})


def cross_validated(options: argparse.Namespace, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """(epochs, N, classes) probabilities of each sample by a network that was trained without it."""
    found = np.empty((len(measured_epochs(options.epochs)), len(labels), CLASSES))
    folds = KFold(options.folds, shuffle=True, random_state=options.seed)
    for others, held_out in folds.split(labels):
        model, checkpoints = trained(options, images[others], labels[others])
        model.eval()
        for epoch, weights in enumerate(checkpoints.values()):
            model.load_state_dict(weights)
            with torch.no_grad():
                parts = [model(part).softmax(1) for part in images[held_out].split(100)]
            found[epoch, held_out] = torch.cat(parts).numpy()
    return found


def quality(score: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """How well the largest scores are those of wrong labels."""
    return {"average_precision": average_precision_score(wrong, score), "auroc": roc_auc_score(wrong, score)}


def found_by_scores(analysis: fishertail.RunAnalysis, wrong: np.ndarray) -> list[dict[str, object]]:
    """A row for each score and checkpoint: of this checkpoint alone, and of the mean over all up to it."""
    steps, rows = sorted(analysis.norms["step"].unique()), []
    for last, step in enumerate(steps, start=1):
        for over, some in (("checkpoint", [step]), ("mean", steps[:last])):
            tables = {
                name: table[table["step"].isin(some)]
                for name, table in analysis.tables.items()
                if isinstance(table, pd.DataFrame)
            }
            ranking = fishertail.rank_samples(fishertail.RunAnalysis(tables))
            of_each = wrong[ranking["sample"]]
            rows += [
                {"step": step, "over": over, "score": score, **quality(ranking[score].to_numpy(), of_each)}
                for score in [*SCORES, "outlier_share"]
            ]
    return rows


def found_by_cleanlab(
    held_out: np.ndarray, labels: np.ndarray, wrong: np.ndarray, steps: list[int]
) -> list[dict[str, object]]:
    """The same by cleanlab's label quality, which is low for wrong labels."""
    rows = []
    doubts = np.stack([1 - get_label_quality_scores(labels, probabilities) for probabilities in held_out])
    for last, step in enumerate(steps, start=1):
        for over, doubt in (("checkpoint", doubts[last - 1]), ("mean", doubts[:last].mean(axis=0))):
            rows.append({"step": step, "over": over, "score": "cleanlab", **quality(doubt, wrong)})
    return rows


def print_issues(held_out: np.ndarray, labels: np.ndarray, wrong: np.ndarray) -> None:
    """What cleanlab's confident learning calls an issue, after the last epoch."""
    issues = find_label_issues(labels, held_out)
    right = wrong[issues].sum()
    print(
        f"cleanlab finds {issues.sum()} issues: precision {right / issues.sum():.3f}, recall {right / wrong.sum():.3f}"
    )


def draw_worst(
    ranking: pd.DataFrame, images: torch.Tensor, labels: torch.Tensor, truth: torch.Tensor, dataset: str, path: Path
) -> None:
    """The worst 50 images with their labels; a frame marks those that were flipped."""
    from matplotlib import pyplot as plt

    names = built_in()[dataset].classes or [str(digit) for digit in range(CLASSES)]
    figure, grid = plt.subplots(5, 10, figsize=(10, 6.4))
    for axes, sample in zip(grid.flat, ranking["sample"].head(50), strict=True):
        image = images[sample].permute(1, 2, 0).numpy()
        axes.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray_r", interpolation="nearest")
        label, true = int(labels[sample]), int(truth[sample])
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{names[label]},\ntruly {names[true]}" if label != true else names[label], fontsize=8)
        for side in axes.spines.values():
            side.set(color="#D55E00" if label != true else "#b8bcc4", linewidth=2.5)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
