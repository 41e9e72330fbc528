"""Follow a denoising trajectory: what of it is the training item, what the initial noise, and when."""

from memfast.trace.decomposition import Decomposition, decompose
from memfast.trace.deviation import DeviationScores, deviation_scores
from memfast.trace.estimates import alignment, overestimation, pairwise_diversity
from memfast.trace.pipeline import trace_pipeline
from memfast.trace.recording import Recording, record
from memfast.trace.result import TraceResult
from memfast.trace.run import trace_run
from memfast.trace.statistics import StateMeasures, Statistics
from memfast.trace.theory import Weights, constant_estimate_weights, level_lines, schedule_weights

__all__ = [
    "Decomposition",
    "DeviationScores",
    "Recording",
    "StateMeasures",
    "Statistics",
    "TraceResult",
    "Weights",
    "alignment",
    "constant_estimate_weights",
    "decompose",
    "deviation_scores",
    "level_lines",
    "overestimation",
    "pairwise_diversity",
    "record",
    "schedule_weights",
    "trace_pipeline",
    "trace_run",
]
