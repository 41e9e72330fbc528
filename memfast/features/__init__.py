"""Feature extractors: modules, model files and named models, with a cache keyed by content."""

from memfast.features.extraction import Features, extract
from memfast.features.extractor import Extractor, weights_hash
from memfast.features.named import FAMILIES, Family, Loaded
from memfast.features.opening import open_extractor
from memfast.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

__all__ = [
    "FAMILIES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Extractor",
    "Family",
    "Features",
    "Loaded",
    "Preprocessing",
    "extract",
    "open_extractor",
    "weights_hash",
]
