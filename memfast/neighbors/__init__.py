"""Exact nearest neighbours at any size: streamed, resumable, sharded; approximate on request; duplicates."""

from memfast.neighbors.duplicates import DuplicateGroups, duplicates, exact_duplicates
from memfast.neighbors.faiss_index import ApproximateIndex
from memfast.neighbors.ranges import Pairs, within
from memfast.neighbors.result import Neighbors, Recall
from memfast.neighbors.search import knn
from memfast.runtime import distributed
from memfast.runtime.distributed import RankError

__all__ = [
    "ApproximateIndex",
    "DuplicateGroups",
    "Neighbors",
    "Pairs",
    "RankError",
    "Recall",
    "distributed",
    "duplicates",
    "exact_duplicates",
    "knn",
    "within",
]
