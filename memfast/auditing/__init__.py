"""`audit`: generated samples against the training set, with controls; and its result.

Loaded on first use: the command reads the options of an audit without loading what an audit needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

from memfast.foundation.deprecated import deprecated_names

_NAMES = {
    "AuditConfig": "memfast.auditing.config",
    "AuditResult": "memfast.auditing.result",
    "audit": "memfast.auditing.run",
}
_moved = deprecated_names(
    __name__, {"evaluate": "memfast.evaluation:evaluate", "MetricResult": "memfast.evaluation:MetricResult"}
)

__all__ = ["AuditConfig", "AuditResult", "audit"]

if TYPE_CHECKING:
    from memfast.auditing.config import AuditConfig
    from memfast.auditing.result import AuditResult
    from memfast.auditing.run import audit


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        return _moved(name)
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value
