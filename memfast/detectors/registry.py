"""The detectors, one row each."""

from typing import Any

from memfast.detectors.attention import Ren, RenFirst
from memfast.detectors.base import Detector
from memfast.detectors.bright_ending import BrightEnding
from memfast.detectors.magnitude import Wen, WenFirst
from memfast.detectors.nearest import NearestDistance, NearestRatio
from memfast.detectors.sharpness import Jeon
from memfast.detectors.similarity import Hintersdorf
from memfast.foundation.errors import InputError

_CLASSES: tuple[type[Detector], ...] = (
    Wen, WenFirst, Jeon, Hintersdorf, NearestDistance, NearestRatio, Ren, RenFirst, BrightEnding,
)  # fmt: skip
DETECTORS: dict[str, type[Detector]] = {kind.name: kind for kind in _CLASSES}


def detector(name: str, **options: Any) -> Detector:
    """The detector of this name.

    Args:
        name: a key of ``DETECTORS``.
        options: its own arguments.

    Raises:
        InputError: an unknown name or option.

    >>> detector("wen", steps=5).steps
    5
    """
    if name not in DETECTORS:
        raise InputError("detector", expected="one of " + ", ".join(DETECTORS), received=repr(name))
    try:
        return DETECTORS[name](**options)
    except TypeError as error:
        raise InputError(f"detector {name}", expected="its own options", received=str(error)) from error
