"""`audit`: generated samples against the training set, with controls; and its result."""

from memfast.auditing.result import AuditResult
from memfast.auditing.run import audit

__all__ = ["AuditResult", "audit"]
