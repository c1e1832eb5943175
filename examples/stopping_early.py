"""Training that ends when the share of outliers among the per-sample gradients passes a threshold.

Run it with `python examples/stopping_early.py`; it takes seconds, and needs `pip install ".[examples]"`. It prints the
test loss too, which the rule does not see, so that you can judge it. docs/how-to/stopping-early.md says what is known
about the rule.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import fishertail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.1, help="of outliers, at which training ends")
    parser.add_argument("--most-epochs", type=int, default=60)
    options = parser.parse_args()

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target)
    images, test_images, labels, test_labels = train_test_split(images, labels, test_size=0.3, random_state=0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stop = fishertail.OutlierStop(share=options.share)

    for epoch in range(1, options.most_epochs + 1):
        for batch in torch.randperm(len(labels)).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        norms = fishertail.gradient_norms(model, images, labels)
        outliers = fishertail.outliers(norms.network)
        with torch.no_grad():
            test_loss = nn.functional.cross_entropy(model(test_images), test_labels)
        print(
            f"epoch {epoch:2}: training loss {norms.loss.mean():.3f}, test loss {test_loss:.3f}, "
            f"{outliers.mask.mean():.1%} outliers"
        )
        if stop(norms.network):
            print(f"stopped after epoch {epoch}")
            break


if __name__ == "__main__":
    main()
