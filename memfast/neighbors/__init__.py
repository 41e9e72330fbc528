"""Exact nearest neighbours at any size: streamed, resumable, sharded; approximate on request; duplicates."""

from memfast.foundation.deprecated import deprecated_names
from memfast.neighbors.approximate import ApproximateIndex
from memfast.neighbors.duplicates import DuplicateGroups, duplicates, exact_duplicates
from memfast.neighbors.kept_index import KeptIndex, index, open_index, verify_index
from memfast.neighbors.ranges import RangeSearchResult, range_search
from memfast.neighbors.result import Neighbors, Recall
from memfast.neighbors.search import knn
from memfast.runtime import distributed
from memfast.runtime.distributed import RankError

__all__ = [
    "ApproximateIndex",
    "DuplicateGroups",
    "KeptIndex",
    "Neighbors",
    "RangeSearchResult",
    "RankError",
    "Recall",
    "distributed",
    "duplicates",
    "exact_duplicates",
    "index",
    "knn",
    "open_index",
    "range_search",
    "verify_index",
]

__getattr__ = deprecated_names(__name__, {"Pairs": "RangeSearchResult", "within": "range_search"})
