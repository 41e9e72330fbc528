"""Detectors of memorization that watch a sampling run, and how well they tell memorized from not. Receives arrays."""

from memfast.detectors.attention import Ren, RenFirst
from memfast.detectors.base import Detector, StepLike, WatchedRun
from memfast.detectors.bright_ending import BrightEnding, otsu
from memfast.detectors.magnitude import Wen, WenFirst
from memfast.detectors.nearest import NearestDistance, NearestRatio
from memfast.detectors.registry import DETECTORS, detector
from memfast.detectors.roc_curve import Roc, roc
from memfast.detectors.sharpness import Jeon, jacobian_product
from memfast.detectors.similarity import Hintersdorf
from memfast.detectors.structural import ms_ssim

__all__ = [
    "DETECTORS",
    "BrightEnding",
    "Detector",
    "Hintersdorf",
    "Jeon",
    "NearestDistance",
    "NearestRatio",
    "Ren",
    "RenFirst",
    "Roc",
    "StepLike",
    "WatchedRun",
    "Wen",
    "WenFirst",
    "detector",
    "jacobian_product",
    "ms_ssim",
    "otsu",
    "roc",
]
