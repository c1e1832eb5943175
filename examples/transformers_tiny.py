"""A tiny transformer, trained by Hugging Face's Trainer from a configuration alone, measured while it is trained.

Run it with `python examples/transformers_tiny.py`; it takes about a minute and fetches nothing. It needs
`pip install ".[transformers]"`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import Dataset

from fishertail.integrations.transformers import FishertailCallback

WORDS, LENGTH = 20, 12


class Sequences(Dataset[dict[str, torch.Tensor]]):
    """Random sequences; the label says whether word 1 stands in the first half, and 2 % of the labels are wrong."""

    def __init__(self, number: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.words = torch.randint(2, WORDS, (number, LENGTH), generator=generator)
        places = torch.randint(LENGTH, (number,), generator=generator)
        self.words[torch.arange(number), places] = 1
        self.labels = (places < LENGTH // 2).long()
        wrong = torch.rand(number, generator=generator) < 0.02
        self.labels[wrong] = 1 - self.labels[wrong]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def make_model() -> Any:
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
    )
    return transformers.BertForSequenceClassification(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("transformers-tiny"))
    options = parser.parse_args()

    transformers.set_seed(0)
    arguments = transformers.TrainingArguments(
        output_dir=str(options.folder / "trainer"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(make_model(), arguments, train_dataset=Sequences(options.samples))
    callback = FishertailCallback(options.folder / "tables", layers=["classifier", "network"], schedule="2 per octave")
    trainer.add_callback(callback)
    trainer.train()

    print("  step  training loss  lambda_1  outliers")
    for row in trainer.state.log_history:
        if "lambda_1/network" in row:
            largest, outliers = row["lambda_1/network"], row["outliers/network"]
            print(f"{row['step']:6}  {row['train_loss']:13.3f}  {largest:8.3f}  {outliers:8.0f}")


if __name__ == "__main__":
    main()
