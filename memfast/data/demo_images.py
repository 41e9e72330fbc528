"""The demo data inside the package: 2,000 Fashion-MNIST images (MIT licence beside them)."""

import json
from importlib import resources

import numpy as np
from PIL import Image

from memfast.data.images import ImageSource

CLASS_NAMES = [
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def demo_images(side: int = 28) -> ImageSource:
    """2,000 gray images, 200 of each of ten classes, classes interleaved, so that any first part is balanced.

    Args:
        side: 28, or 14 for means over 2x2 pixels.

    >>> demo_images().item_shape, len(demo_images(14))
    ((28, 28), 2000)
    """
    folder = resources.files("memfast.data") / "demo"
    facts = json.loads((folder / "fashion_mnist_2000.json").read_text())
    with (folder / "fashion_mnist_2000.png").open("rb") as file, Image.open(file) as sheet:
        pixels = np.asarray(sheet)
    full, columns, labels = facts["side"], facts["columns"], np.array(facts["labels"])
    rows = len(labels) // columns
    images = pixels.reshape(rows, full, columns, full).transpose(0, 2, 1, 3).reshape(len(labels), full, full)
    step = full // side
    if step * side != full:
        raise ValueError(f"side must divide {full}, received {side}")
    if step > 1:
        blocks = images.reshape(len(labels), side, step, side, step).astype(np.uint32).sum(axis=(2, 4))
        images = ((2 * blocks + step * step) // (2 * step * step)).astype(np.uint8)
    names = [f"Fashion-MNIST train {row}" for row in facts["rows_of_x_train"]]
    source = ImageSource(
        np.ascontiguousarray(images), name=f"Fashion-MNIST demo {side}x{side}", labels=labels, names=names
    )
    source.class_names = CLASS_NAMES
    source.original_modes = {"L": len(labels)}
    return source
