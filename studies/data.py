"""The data sets of the studies. They are research inputs and stay outside the project; nothing of them is copied."""

from pathlib import Path

import numpy as np

from memfast.foundation.errors import InputError

DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = ("ecg5000.npz", "fashion_mnist.npz", "cifar10_12k.npz", "flowers102_64.npz", "pokemon_art64.npz")

_folder = DEFAULT_FOLDER


def use(folder: str | Path | None) -> None:
    """Read the data sets from ``folder``; None: from the default place."""
    global _folder
    _folder = DEFAULT_FOLDER if folder is None else Path(folder)


def path(name: str) -> Path:
    """The file of this name.

    Raises:
        InputError: it is not there.
    """
    found = _folder / name
    if not found.is_file():
        raise InputError(
            f"data set {name}", expected=f"a file {found}", received="none",
            do="Name the folder that holds it with --data DIR; docs/evidence.md says what it must contain.",
        )  # fmt: skip
    return found


def present() -> bool:
    """Whether every data set is at hand."""
    return all((_folder / name).is_file() for name in FILES)


def arrays(name: str, *keys: str) -> tuple[np.ndarray, ...]:
    """Arrays of a data set's file."""
    with np.load(path(name), allow_pickle=False) as file:
        return tuple(file[key] for key in keys)


def distinct(items: np.ndarray) -> np.ndarray:
    """Items without exact duplicates, in their order: a duplicate makes d1 = d2 and hides a copy from the NN ratio.

    >>> distinct(np.array([[2, 2], [1, 1], [2, 2]])).tolist()
    [[2, 2], [1, 1]]
    """
    _, first = np.unique(items.reshape(len(items), -1), axis=0, return_index=True)
    return items[np.sort(first)]


def subset(items: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(``count`` items drawn by ``seed``, all the others in their order)."""
    if not 0 < count <= len(items):
        raise InputError("count", expected=f"1 to {len(items)} items", received=str(count))
    order = np.random.default_rng(seed).permutation(len(items))
    return items[np.sort(order[:count])], items[np.sort(order[count:])]


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 images ``[N, H, W]`` or ``[N, H, W, C]``, each square of pixels replaced by its mean, to ``side`` pixels.

    >>> shrink(np.array([[[0, 2], [4, 6]]], np.uint8), 1).tolist()
    [[[3]]]
    """
    height, width = images.shape[1:3]
    if height % side or width % side:
        raise InputError("side", expected=f"a divisor of {height} and {width}", received=str(side))
    tall, wide = height // side, width // side
    grouped = images.reshape(len(images), side, tall, side, wide, *images.shape[3:])
    return grouped.mean(axis=(2, 4)).round().astype(np.uint8)


def ecg() -> tuple[np.ndarray, np.ndarray]:
    """ECG5000: (500 training heartbeats, 4500 test heartbeats), float32 ``[n, 140]``, z-normalised."""
    train, test = arrays("ecg5000.npz", "x_train", "x_test")
    return distinct(train), distinct(test)


def fashion(side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Fashion-MNIST: (60000, 10000) uint8 images ``[n, side, side]``."""
    train, test = arrays("fashion_mnist.npz", "x_train", "x_test")
    return shrink(train, side), shrink(test, side)


def flowers(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Flowers-102: (training, test) uint8 images ``[n, side, side, 3]``; the one exact duplicate is left out."""
    train, test = arrays("flowers102_64.npz", "x_train", "x_test")
    return distinct(shrink(train, side)), distinct(shrink(test, side))


def pokemon(side: int = 64) -> np.ndarray:
    """Pokemon artwork, uint8 ``[n, side, side, 3]``; never shown in a figure (its owners reserve all rights)."""
    (images,) = arrays("pokemon_art64.npz", "x")
    return distinct(shrink(images, side))


def cifar() -> tuple[np.ndarray, np.ndarray]:
    """The CIFAR-10 subset: (10000, 2000) uint8 images ``[n, 32, 32, 3]``."""
    return arrays("cifar10_12k.npz", "x_train", "x_test")  # type: ignore[return-value]
