"""What "memorized" means: each criterion with its threshold, its source and its intervals. Receives arrays."""

from memfast.criteria.absolute import Absolute, AbsoluteTiles, worst_tile, worst_tiles
from memfast.criteria.authenticity import Authenticity
from memfast.criteria.base import NEEDS, Criterion, Evidence, Judgement
from memfast.criteria.calibrated import Calibrated
from memfast.criteria.intervals import bootstrap, clopper_pearson, closer_than, difference, share, wilson
from memfast.criteria.nn_ratio import NnRatio
from memfast.criteria.registry import CRITERIA, choose, criterion_named
from memfast.criteria.similarity import Similarity

__all__ = [
    "CRITERIA",
    "NEEDS",
    "Absolute",
    "AbsoluteTiles",
    "Authenticity",
    "Calibrated",
    "Criterion",
    "Evidence",
    "Judgement",
    "NnRatio",
    "Similarity",
    "bootstrap",
    "choose",
    "clopper_pearson",
    "closer_than",
    "criterion_named",
    "difference",
    "share",
    "wilson",
    "worst_tile",
    "worst_tiles",
]
