"""`evaluate`: every distribution metric of generated samples against a training set, in one call."""

from memfast.evaluation.config import EvaluationConfig
from memfast.evaluation.result import MetricResult
from memfast.evaluation.run import announce, evaluate

__all__ = ["EvaluationConfig", "MetricResult", "announce", "evaluate"]
