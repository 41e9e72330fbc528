"""`audit` and `evaluate`: generated samples against the training set, with controls; and their results."""

from memfast.auditing.evaluation import MetricResult, evaluate
from memfast.auditing.result import AuditResult
from memfast.auditing.run import audit

__all__ = ["AuditResult", "MetricResult", "audit", "evaluate"]
