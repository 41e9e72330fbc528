"""`audit` and `evaluate`: generated samples against the training set, with controls; and their results.

Loaded on first use: the command reads the options of an audit without loading what an audit needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "AuditConfig": "memfast.auditing.config",
    "AuditResult": "memfast.auditing.result",
    "MetricResult": "memfast.auditing.evaluation",
    "audit": "memfast.auditing.run",
    "evaluate": "memfast.auditing.evaluation",
}

__all__ = ["AuditConfig", "AuditResult", "MetricResult", "audit", "evaluate"]

if TYPE_CHECKING:
    from memfast.auditing.config import AuditConfig
    from memfast.auditing.evaluation import MetricResult, evaluate
    from memfast.auditing.result import AuditResult
    from memfast.auditing.run import audit


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value
