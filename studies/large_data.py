"""Study 7's data: a large training set of augmented images on disk, honest samples, and planted copies."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from memfast.auditing.plants import Plant, plants

BLOCK = 2000
SIDE = 32
# Of an augmented image: the part of the original that it shows, aspect, rotation in radians, gain and shift of colour.
SCALES = (0.45, 0.8)
ASPECTS = (0.8, 1.25)
TURN = 0.35
GAINS = (0.75, 1.25)
SHIFT = 30.0


@dataclass(frozen=True)
class Way:
    """One way of copying.

    Attributes:
        name: of the way.
        strength: how strong the change is, in the way's own unit.
        make: ``[n, 32, 32, 3]`` values in [0, 1] and a generator -> the copies, same shape.
    """

    name: str
    strength: float
    make: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    @property
    def label(self) -> str:
        """Name and strength."""
        return (
            self.name if self.name in ("exact", "flip", "exact, original twice") else f"{self.name} {self.strength:g}"
        )


def ways() -> list[Way]:
    """The audit's own ways of copying (`memfast.auditing.plants`), and others that it does not know."""
    own = [
        Way("contrast x" if one.name == "recolour" else one.name, one.strength, partial(_plant, one))
        for one in plants("images")
    ]  # fmt: skip
    return [
        own[0],
        Way("exact, original twice", 0.0, _same),
        *own[1:],
        *(Way("brightness +", step, partial(_brighten, step)) for step in (0.05, 0.1, 0.2)),
        *(Way("JPEG quality", quality, partial(_jpeg, quality)) for quality in (90, 50, 20)),
        *(Way("blend, share of original", part, partial(_blend, part)) for part in (0.9, 0.7, 0.5)),
    ]


def augmented(base: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """``count`` new images in blocks: turned, cropped, mirrored and recoloured parts of ``base``'s.

    Args:
        base: uint8 ``[n, 32, 32, 3]``.
        count: how many.
        seed: of the draws; a block depends on it and on its number alone.
    """
    images = torch.from_numpy(base).permute(0, 3, 1, 2)
    for start in range(0, count, BLOCK):
        rows = min(BLOCK, count - start)
        draw = np.random.default_rng((seed, start))
        scale, aspect = draw.uniform(*SCALES, BLOCK), draw.uniform(*ASPECTS, BLOCK)
        wide, tall = np.minimum(1, scale * np.sqrt(aspect)), np.minimum(1, scale / np.sqrt(aspect))
        mirror, angle = draw.choice([-1.0, 1.0], BLOCK), draw.uniform(-TURN, TURN, BLOCK)
        matrix = np.empty((BLOCK, 2, 3))
        matrix[:, 0, 0], matrix[:, 0, 1] = wide * mirror * np.cos(angle), -tall * np.sin(angle)
        matrix[:, 1, 0], matrix[:, 1, 1] = wide * mirror * np.sin(angle), tall * np.cos(angle)
        matrix[:, 0, 2], matrix[:, 1, 2] = (
            draw.uniform(-1, 1, BLOCK) * (1 - wide),
            draw.uniform(-1, 1, BLOCK) * (1 - tall),
        )
        gain, shift = draw.uniform(*GAINS, (BLOCK, 3, 1, 1)), draw.uniform(-SHIFT, SHIFT, (BLOCK, 3, 1, 1))
        chosen = images[torch.from_numpy(draw.integers(0, len(base), BLOCK))[:rows]].float()
        grid = torch.nn.functional.affine_grid(
            torch.from_numpy(matrix[:rows]).float(), list(chosen.shape), align_corners=False
        )
        found = torch.nn.functional.grid_sample(chosen, grid, padding_mode="reflection", align_corners=False).numpy()
        found = (found - 127.5) * gain[:rows] + 127.5 + shift[:rows]
        yield _to_bytes(found / 255).transpose(0, 2, 3, 1)


def write_training(path: Path, base: np.ndarray, count: int, duplicates: int, seed: int) -> np.ndarray:
    """Write the training set as one ``.npy`` file; its last ``duplicates`` images repeat earlier ones exactly.

    Returns:
        Which earlier images those are, int64 ascending.
    """
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 3))
    start = 0
    for block in augmented(base, count - duplicates, seed):
        file[start : start + len(block)] = block
        start += len(block)
    repeated = np.sort(np.random.default_rng((seed, 1)).permutation(count - duplicates)[:duplicates])
    file[count - duplicates :] = file[repeated]
    file.flush()
    return repeated


def planted(path: Path, repeated: np.ndarray, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Copies of ``each`` training images in each of ``ways``, no image twice.

    Args:
        path: the training set.
        repeated: its images that have an exact duplicate; they are the originals of "exact, original twice" alone.
        each: how many of each way.
        seed: of the draws.

    Returns:
        uint8 ``[ways * each, 32, 32, 3]``; the int64 index of every copy's original; and of each way the copies'
        root-mean-square difference from their originals in [0, 1] units, in the mean.
    """
    training = np.load(path, mmap_mode="r")
    generator = np.random.default_rng((seed, 2))
    single = generator.permutation(np.setdiff1d(np.arange(len(training) - len(repeated)), repeated))
    copies, originals, changes, taken = [], [], [], 0
    for way in ways():
        if way.name == "exact, original twice":
            chosen = generator.permutation(repeated)[:each]
        else:
            chosen, taken = single[taken : taken + each], taken + each
        items = training[np.sort(chosen)] / 255.0
        copies.append(_to_bytes(way.make(items, generator)))
        originals.append(np.sort(chosen))
        changes.append(float(np.sqrt(((copies[-1] / 255.0 - items) ** 2).mean(axis=(1, 2, 3))).mean()))
    return np.concatenate(copies), np.concatenate(originals), changes


def _plant(plant: Plant, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return plant.make(items, "images", generator)


def _same(items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return items


def _brighten(step: float, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return items + step


def _jpeg(quality: int, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    made = np.empty_like(items)
    for number, image in enumerate(_to_bytes(items)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as opened:
            made[number] = np.asarray(opened) / 255.0
    return made


def _blend(part: float, items: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each with the next one's picture shining through."""
    return part * items + (1 - part) * np.roll(items, 1, axis=0)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
