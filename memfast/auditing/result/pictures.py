"""Small pictures of the worst pairs, kept beside a result so that its report never reads the data again."""

from pathlib import Path

import numpy as np

from memfast.auditing.config import AuditConfig
from memfast.auditing.opened import OpenedSets, as_images
from memfast.auditing.result.pairs import PairTable
from memfast.data import Source
from memfast.foundation.errors import InputError, first_line
from memfast.reports import Pictures

LARGEST_SIDE = 96
LONGEST_SIGNAL = 512
BUDGET_BYTES = 24 << 20
# Items that are read at once: so many, and no more than this many bytes of float64.
ROWS, BLOCK_BYTES = 256, 1 << 28
# An axis of a three-axis item is its channels where it is at most this long and shorter than half of the others.
MOST_CHANNELS = 64


def take_pictures(sets: OpenedSets, pairs: PairTable, largest: int = AuditConfig.pictures) -> Pictures | None:
    """Pictures of the first pairs of the table: as many as ``largest`` and 24 MiB allow; None for other values.

    Images become uint8 of at most 96 pixels a side (area means), with all their channels; signals float32 of at most
    512 points.
    """
    kind = "signals" if sets.kind == "signals" else "images"
    if largest < 1 or (sets.kind == "values" and channels_axis(sets.training.item_shape) is None):
        return None
    sample = shrink(sets.generated.block(0, 1), sets)
    count = min(len(pairs), largest, max(1, BUDGET_BYTES // (2 * sample.nbytes)))
    generated = _gather(sets.generated, pairs.columns["generated"][:count], sets)
    training = _gather(sets.training, pairs.columns["training"][:count], sets)
    return Pictures(kind, generated, training)


def shrink(block: np.ndarray, sets: OpenedSets, largest: int = LARGEST_SIDE) -> np.ndarray:
    """Items made small: images uint8 of at most ``largest`` pixels a side, signals float32 of at most 512 points."""
    if sets.kind == "signals":
        flat = block.reshape(len(block), -1).astype(np.float32)
        return flat[:, :: -(-flat.shape[1] // LONGEST_SIGNAL)]
    if sets.kind == "values":
        images = block if channels_axis(block.shape[1:]) == 2 else np.moveaxis(block, 1, -1)
    else:
        images = as_images(block)
    if images.dtype != np.uint8:
        scaled = (images.astype(np.float64) - sets.units.low) / sets.units.unit
        images = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    factor = -(-max(images.shape[1:3]) // largest)
    return images if factor == 1 else _area_mean(images, factor)


def channels_axis(item_shape: tuple[int, ...]) -> int | None:
    """Which axis of ``(H, W, C)`` or ``(C, H, W)`` holds the channels, 2 or 0; None where that cannot be told."""
    if len(item_shape) != 3:
        return None
    for axis, others in ((2, item_shape[:2]), (0, item_shape[1:])):
        if item_shape[axis] <= MOST_CHANNELS and 2 * item_shape[axis] <= min(others):
            return axis
    first, _, last = item_shape
    return None if first == last else (0 if first < last else 2) if min(first, last) <= MOST_CHANNELS else None


def rows_at_once(source: Source) -> int:
    """How many items to read at once."""
    return min(ROWS, max(1, BLOCK_BYTES // max(1, 8 * int(np.prod(source.item_shape, dtype=np.int64)))))


def pictures_bytes(pictures: Pictures) -> bytes:
    """The pictures as a safetensors file."""
    from safetensors.numpy import save

    arrays = {
        "generated": np.ascontiguousarray(pictures.generated), "training": np.ascontiguousarray(pictures.training),
    }  # fmt: skip
    return save(arrays, metadata={"kind": pictures.kind})


def read_pictures(path: Path) -> Pictures:
    """Read what `pictures_bytes` gave.

    Raises:
        InputError: it is not such a file.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            kind = (file.metadata() or {})["kind"]
            found = Pictures(kind, file.get_tensor("generated"), file.get_tensor("training"))
    except Exception as error:  # safetensors raises errors of its own, and whatever NumPy says of a damaged header
        raise _damaged(path, first_line(error)) from error
    shapes = found.generated.shape, found.training.shape
    fits = {
        "images": found.generated.dtype == found.training.dtype == np.uint8 and found.generated.ndim in (3, 4),
        "signals": found.generated.dtype == found.training.dtype == np.float32 and found.generated.ndim == 2,
    }.get(found.kind, False)
    if not fits or shapes[0] != shapes[1] or 0 in shapes[0]:
        raise _damaged(path, f"{found.kind} {found.generated.dtype} {list(shapes[0])} and {list(shapes[1])}")
    if found.kind == "signals" and not all(np.isfinite(one).all() for one in (found.generated, found.training)):
        raise _damaged(path, "values that are not finite")
    return found


def _damaged(path: Path, received: str) -> InputError:
    return InputError(str(path), expected="pictures written by memfast", received=received)


def _gather(source: Source, indices: list[int], sets: OpenedSets) -> np.ndarray:
    rows = rows_at_once(source)
    blocks = [shrink(source.take(indices[start : start + rows]), sets) for start in range(0, len(indices), rows)]
    return np.concatenate(blocks)


def _area_mean(images: np.ndarray, factor: int) -> np.ndarray:
    height, width = (side // factor * factor for side in images.shape[1:3])
    blocks = images[:, :height, :width].reshape(
        len(images), height // factor, factor, width // factor, factor, *images.shape[3:]
    )
    return np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
