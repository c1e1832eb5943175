"""The table of norms against gradients of single samples."""

import numpy as np
import torch

from tests.measurements import measured


def test_norms_losses_and_labels_of_every_sample_at_every_checkpoint():
    table = measured.by_gradients("norms")["norms"]
    assert list(table) == ["step", "epoch", "sample", "label", "loss", "correct", *measured.LAYERS, "network"]
    assert len(table) == len(measured.STEPS) * measured.SAMPLES
    assert table["epoch"].tolist() == (table["step"] / measured.PER_EPOCH).tolist()
    inputs, labels = measured.samples()
    for step, rows in table.groupby("step"):
        assert rows["sample"].tolist() == list(range(measured.SAMPLES))
        assert rows["label"].tolist() == labels.tolist()
        for layer, gradients in measured.gradients(step).items():
            np.testing.assert_allclose(rows[layer], np.linalg.norm(gradients, axis=1), rtol=1e-5, atol=1e-12)
        model = measured.network().double()
        model.load_state_dict(measured.weights()[step])
        outputs = model(inputs.double()).detach()
        losses = torch.nn.functional.cross_entropy(outputs, labels, reduction="none")
        np.testing.assert_allclose(rows["loss"], losses, rtol=1e-5, atol=1e-12)
        assert rows["correct"].tolist() == (outputs.argmax(1) == labels).tolist()


def test_the_table_is_as_narrow_as_its_rounding_allows():
    types = measured.by_gradients("norms")["norms"].dtypes
    assert (types["step"], types["sample"], types["label"]) == (np.int32, np.int32, np.int32)
    assert (types["loss"], types["network"], types["correct"]) == (np.float32, np.float32, bool)
