"""The detectors by name. To add one: write its class and add it here."""

from typing import Any

from memfast.detectors.attention import Ren, RenFirst
from memfast.detectors.base import Detector
from memfast.detectors.bright_ending import BrightEnding
from memfast.detectors.magnitude import Wen, WenFirst
from memfast.detectors.nearest import NearestDistance, NearestRatio
from memfast.detectors.sharpness import Jeon
from memfast.detectors.similarity import Hintersdorf
from memfast.foundation.registry import Registry

DETECTORS: Registry[type[Detector]] = Registry(
    "detector",
    (Wen, WenFirst, Jeon, Hintersdorf, NearestDistance, NearestRatio, Ren, RenFirst, BrightEnding),
    group="memfast.detectors",
    base=Detector,
)


def detector(name: str, **options: Any) -> Detector:
    """The detector of this name.

    Args:
        name: one of ``DETECTORS``.
        options: its own arguments.

    Raises:
        InputError: an unknown name or option.

    >>> detector("wen", steps=5).steps
    5
    """
    return DETECTORS.build({**options, "name": name})
