"""Distribution metrics: how near two sets of samples are. Functions of arrays; no files, no extractors."""

from memfast.foundation.deprecated import deprecated_names
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.copying import NeighborRatios, auth_pct, cosine_penalty, mifid, neighbor_ratios
from memfast.metrics.cost import Cost, estimate_cost
from memfast.metrics.data_copying import DataCopying, c_t, copying_z
from memfast.metrics.diversity import vendi, vendi_per_class
from memfast.metrics.frechet import FrechetInfinity, frechet_distance, frechet_from_moments, frechet_infinity
from memfast.metrics.identifiability import Identifiability, identifiability
from memfast.metrics.inception_score import InceptionScore, inception_score
from memfast.metrics.intervals import Interval, bootstrap_mean, share_interval
from memfast.metrics.kernel import KernelDistanceResult, kernel_distance
from memfast.metrics.likelihood import FeatureLikelihood, feature_likelihood, memorization_scores
from memfast.metrics.manifold import (
    ManifoldCounts,
    ManifoldScores,
    manifold_counts,
    precision_recall_density_coverage,
)
from memfast.metrics.mind import mind
from memfast.metrics.moments import Moments
from memfast.metrics.one_dimensional import wasserstein_per_dimension
from memfast.metrics.principal import PrincipalComponents
from memfast.metrics.projected import (
    L2Distances,
    ProjectedDistances,
    jensen_shannon,
    l2_distances,
    mean_pair_distance,
    projected_distances,
)
from memfast.metrics.realism import realism
from memfast.metrics.registry import CATALOG, METRICS
from memfast.metrics.shared_neighbors import SharedNeighbors
from memfast.metrics.structure import structural_similarity
from memfast.metrics.transport import WassersteinResult, wasserstein
from memfast.metrics.two_sample import KernelTest, NeighborTest, mmd_test, nearest_neighbor_accuracy

__all__ = [
    "CATALOG",
    "METRICS",
    "Cost",
    "DataCopying",
    "FeatureLikelihood",
    "FrechetInfinity",
    "Identifiability",
    "InceptionScore",
    "Interval",
    "KernelDistanceResult",
    "KernelTest",
    "L2Distances",
    "ManifoldCounts",
    "ManifoldScores",
    "Metric",
    "MetricInputs",
    "MetricOutcome",
    "MetricValue",
    "Moments",
    "NeighborRatios",
    "NeighborTest",
    "PrincipalComponents",
    "ProjectedDistances",
    "SharedNeighbors",
    "WassersteinResult",
    "auth_pct",
    "bootstrap_mean",
    "c_t",
    "copying_z",
    "cosine_penalty",
    "estimate_cost",
    "feature_likelihood",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_infinity",
    "identifiability",
    "inception_score",
    "jensen_shannon",
    "kernel_distance",
    "l2_distances",
    "manifold_counts",
    "mean_pair_distance",
    "memorization_scores",
    "mifid",
    "mind",
    "mmd_test",
    "nearest_neighbor_accuracy",
    "neighbor_ratios",
    "precision_recall_density_coverage",
    "projected_distances",
    "realism",
    "share_interval",
    "structural_similarity",
    "vendi",
    "vendi_per_class",
    "wasserstein",
    "wasserstein_per_dimension",
]

__getattr__ = deprecated_names(__name__, {"KernelDistance": "KernelDistanceResult"})
