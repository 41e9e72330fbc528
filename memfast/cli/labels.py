"""Class labels from a file."""

from pathlib import Path

import numpy as np

from memfast.foundation.errors import InputError, first_line

LARGEST = 2**63 - 1


def read_labels(option: str, path: Path | None) -> np.ndarray | None:
    """Whole numbers from an npy file, or from a text file with spaces, commas or lines between them.

    Args:
        option: what the user wrote, for errors.
        path: the file, or None.

    Raises:
        InputError: no such file, something else than whole numbers, or numbers that 64 bits do not hold.
    """
    if path is None:
        return None
    expected = "an npy file or a text file of whole numbers"
    try:
        if path.suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
        else:
            words = path.read_text(encoding="utf-8").replace(",", " ").split()
            labels = np.array([int(word) for word in words], dtype=object)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{option} {path}", expected=expected, received=first_line(error)) from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iuO" or not len(labels):
        shape = getattr(labels, "shape", None)
        kind = "numbers" if labels.dtype.kind == "O" else labels.dtype
        received = type(labels).__name__ if shape is None else f"{kind} of shape {shape}"
        raise InputError(f"{option} {path}", expected=expected, received=received)
    beyond = [one for one in (labels.max(), labels.min()) if not -LARGEST - 1 <= int(one) <= LARGEST]
    if beyond:
        raise InputError(f"{option} {path}", expected="whole numbers of 64 bits", received=str(beyond[0])[:40])
    return labels.astype(np.int64)
