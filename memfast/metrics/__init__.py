"""Distribution metrics: how near two sets of samples are. Functions of arrays; no files, no extractors."""

from memfast.metrics.one_dimensional import wasserstein_per_dimension
from memfast.metrics.transport import WassersteinResult, wasserstein

__all__ = ["WassersteinResult", "wasserstein", "wasserstein_per_dimension"]
