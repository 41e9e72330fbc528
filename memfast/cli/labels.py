"""Class labels from a file."""

from pathlib import Path

import numpy as np

from memfast.foundation.errors import InputError


def read_labels(option: str, path: Path | None) -> np.ndarray | None:
    """Whole numbers from an npy file, or from a text file with spaces, commas or lines between them.

    Args:
        option: what the user wrote, for errors.
        path: the file, or None.

    Raises:
        InputError: no such file, or something else than whole numbers.
    """
    if path is None:
        return None
    expected = "an npy file or a text file of whole numbers"
    try:
        if path.suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
        else:
            labels = np.array([int(word) for word in path.read_text(encoding="utf-8").replace(",", " ").split()])
    except (OSError, ValueError) as error:
        raise InputError(f"{option} {path}", expected=expected, received=str(error)) from error
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise InputError(f"{option} {path}", expected=expected, received=f"{labels.dtype} of shape {labels.shape}")
    return labels.astype(np.int64)
