"""The explorer's data, where a browser is not needed."""

import base64
import io

import pytest
import torch
from PIL import Image

from fishertail.page import data


@pytest.mark.parametrize(
    ("channels", "kind", "mode"), [(1, "png", "L"), (2, "png", "L"), (3, "jpeg", "RGB"), (5, "jpeg", "RGB")]
)
def test_images_of_any_number_of_channels_are_shown_small(channels, kind, mode):
    images = torch.randint(0, 256, (2, channels, 200, 100), dtype=torch.uint8)
    shown = data.image_data(type("Dataset", (), {"train_images": images}), [1])
    start, _, content = shown["1"].partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert start == f"data:image/{kind};base64"
    assert (picture.size, picture.mode) == ((48, 96), mode)
