"""Follow a denoising trajectory: what of it is the training item, what the initial noise, and when."""

from memfast.foundation.deprecated import deprecated_names
from memfast.results.trace import ConditionTrace, SeedTrace, TraceFigures
from memfast.trace.config import TraceConfig
from memfast.trace.decomposition import Decomposition, decompose
from memfast.trace.estimates import alignment, overestimation, pairwise_diversity
from memfast.trace.measure import StateMeasures, TrajectoryStatistics
from memfast.trace.recording import Recording, record
from memfast.trace.result import TraceResult, load_trace
from memfast.trace.theory import (
    DeviationScores,
    Weights,
    constant_estimate_weights,
    deviation_scores,
    level_lines,
    schedule_weights,
)
from memfast.trace.tracing import trace_pipeline, trace_run

__all__ = [
    "ConditionTrace",
    "Decomposition",
    "DeviationScores",
    "Recording",
    "SeedTrace",
    "StateMeasures",
    "TraceConfig",
    "TraceFigures",
    "TraceResult",
    "TrajectoryStatistics",
    "Weights",
    "alignment",
    "constant_estimate_weights",
    "decompose",
    "deviation_scores",
    "level_lines",
    "load_trace",
    "overestimation",
    "pairwise_diversity",
    "record",
    "schedule_weights",
    "trace_pipeline",
    "trace_run",
]

__getattr__ = deprecated_names(__name__, {"Statistics": "TrajectoryStatistics"})
