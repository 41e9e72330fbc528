"""Small pictures of the worst pairs, kept beside a result so that its report never reads the data again."""

from pathlib import Path

import numpy as np

from memfast.auditing.inputs import Inputs, as_images
from memfast.auditing.pairs import Pairs
from memfast.data import Source
from memfast.reports import Pictures
from memfast.runtime.files import atomic_path

LARGEST_SIDE = 96
LONGEST_SIGNAL = 512
BUDGET_BYTES = 24 << 20
DEFAULT_PICTURES = 2000


def take_pictures(inputs: Inputs, pairs: Pairs, largest: int = DEFAULT_PICTURES) -> Pictures | None:
    """Pictures of the first pairs of the table: as many as ``largest`` and 24 MiB allow; None for other values.

    Images become uint8 of at most 96 pixels a side (area means); signals float32 of at most 512 points.
    """
    if inputs.kind == "values" or largest < 1:
        return None
    sample = shrink(inputs.generated.block(0, 1), inputs)
    count = min(len(pairs), largest, max(1, BUDGET_BYTES // (2 * sample.nbytes)))
    generated = _gather(inputs.generated, pairs.columns["generated"][:count], inputs)
    training = _gather(inputs.training, pairs.columns["training"][:count], inputs)
    return Pictures(inputs.kind, generated, training)


def shrink(block: np.ndarray, inputs: Inputs, largest: int = LARGEST_SIDE) -> np.ndarray:
    """Items made small: images uint8 of at most ``largest`` pixels a side, signals float32 of at most 512 points."""
    if inputs.kind == "signals":
        flat = block.reshape(len(block), -1).astype(np.float32)
        return flat[:, :: -(-flat.shape[1] // LONGEST_SIGNAL)]
    images = as_images(block)
    if images.dtype != np.uint8:
        scaled = (images.astype(np.float64) - inputs.low) / inputs.unit
        images = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    factor = -(-max(images.shape[1:3]) // largest)
    return images if factor == 1 else _area_mean(images, factor)


def save_pictures(pictures: Pictures, path: Path) -> None:
    """Write them as safetensors."""
    from safetensors.numpy import save_file

    arrays = {
        "generated": np.ascontiguousarray(pictures.generated), "training": np.ascontiguousarray(pictures.training),
    }  # fmt: skip
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={"kind": pictures.kind})


def load_pictures(path: Path) -> Pictures:
    """Read what `save_pictures` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return Pictures(file.metadata()["kind"], file.get_tensor("generated"), file.get_tensor("training"))


def _gather(source: Source, indices: list[int], inputs: Inputs) -> np.ndarray:
    rows = 256
    blocks = [shrink(source.take(indices[start : start + rows]), inputs) for start in range(0, len(indices), rows)]
    return np.concatenate(blocks)


def _area_mean(images: np.ndarray, factor: int) -> np.ndarray:
    height, width = (side // factor * factor for side in images.shape[1:3])
    blocks = images[:, :height, :width].reshape(
        len(images), height // factor, factor, width // factor, factor, *images.shape[3:]
    )
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
