"""A training by Hugging Face's Trainer with the callback: what is measured, and that training does not notice."""

import numpy as np
import pytest
import torch

import fishertail
from fishertail.results import storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("fishertail.integrations.transformers")
    return pytest.importorskip("transformers")


def samples(number=40):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 9, (number, 5), generator=generator), torch.arange(number) % 2


class Texts(torch.utils.data.Dataset):
    def __init__(self):
        self.words, _ = samples(12)

    def __len__(self):
        return len(self.words)

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": self.words[index]}


def next_token(outputs, labels):
    """As docs/how-to/live.md has it."""
    return torch.nn.functional.cross_entropy(outputs[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.words, self.labels = samples()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.words[index], "labels": int(self.labels[index])}


def trained(transformers, folder, *callbacks):
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=5,
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        use_cpu=True,
        save_strategy="no",
        logging_steps=2,
        report_to=[],
        disable_tqdm=True,
    )
    model = transformers.BertForSequenceClassification(config)
    trainer = transformers.Trainer(model, arguments, train_dataset=Rows())
    for make in callbacks:
        trainer.add_callback(make(trainer))
    trainer.train()
    return model, trainer


@pytest.mark.parametrize("logged_by", ["state", "trainer"])
def test_training_is_bit_identical_and_its_tables_are_right(transformers, tmp_path, logged_by):
    from fishertail.integrations.transformers import FishertailCallback

    def make(trainer):
        log = trainer.log if logged_by == "trainer" else None
        return FishertailCallback(tmp_path / "tables", log=log, schedule=[0, 7, 10], layers=["classifier", "network"])

    alone, before = trained(transformers, tmp_path / "alone")
    watched, trainer = trained(transformers, tmp_path / "watched", make)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(watched.state_dict()[name], tensor), name
    losses = [[row["loss"] for row in each.state.log_history if "loss" in row] for each in (before, trainer)]
    assert losses[0] == losses[1]
    norms = storage.read_table(tmp_path / "tables" / "norms.parquet")
    assert norms["step"].unique().tolist() == [0, 7, 10]
    assert norms["epoch"].unique().tolist() == [0, 1.4, 2]
    words, labels = samples()
    expected = fishertail.gradient_norms(watched.eval(), {"input_ids": words}, labels)
    assert np.allclose(norms.query("step == 10")["network"], expected.network, rtol=1e-5)
    rows = [row for row in trainer.state.log_history if "lambda_1/classifier" in row]
    assert [row["step"] for row in rows] == [0, 7, 10]
    assert rows[-1]["train_loss"] == pytest.approx(expected.loss.mean(), rel=1e-5)


def test_a_causal_language_model_needs_its_own_loss(transformers, tmp_path):
    """The Trainer's model shifts the labels; the cross entropy of each position with its own label is another loss."""
    from fishertail.integrations.transformers import FishertailCallback

    transformers.set_seed(0)
    config = transformers.GPT2Config(vocab_size=9, n_positions=5, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, save_strategy="no", report_to=[], disable_tqdm=True
    )

    def trainer(**options):
        made = transformers.Trainer(model, arguments, train_dataset=Texts())
        made.add_callback(FishertailCallback(tmp_path / "tables", schedule=[0], layers=["network"], **options))
        return made

    with pytest.raises(ValueError, match=r"loss: the model's own loss of the first sample is .* pass loss="):
        trainer().train()
    words, _ = samples(12)
    with torch.no_grad():
        own = float(model(input_ids=words, labels=words).loss)
    trainer(loss=next_token).train()
    norms = storage.read_table(tmp_path / "tables" / "norms.parquet")
    assert norms["loss"].mean() == pytest.approx(own, rel=1e-5)
