"""`audit`: generated samples against the training set, with controls; and its result."""

from memfast.auditing.result import AuditResult
from memfast.auditing.run import audit
from memfast.foundation.deprecated import deprecated_names

__all__ = ["AuditResult", "audit"]
__getattr__ = deprecated_names(
    __name__, {"evaluate": "memfast.evaluation:evaluate", "MetricResult": "memfast.evaluation:MetricResult"}
)
