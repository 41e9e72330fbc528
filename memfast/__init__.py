"""memfast: control, audit and explain what diffusion models copy from their training data.

Everything is loaded on first use, so that ``import memfast`` costs nothing in a training script.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# `memfast.<name>` is a name from one of these modules, or else a package of memfast.
_NAMES = {
    "Ambient": "memfast.objective",
    "DenoisingObjective": "memfast.objective",
    "InputError": "memfast.foundation.errors",
    "MemfastError": "memfast.foundation.errors",
    "Neighbors": "memfast.neighbors",
    "audit": "memfast.auditing",
    "evaluate": "memfast.evaluation",
    "index": "memfast.neighbors",
    "key": "memfast.ops",
    "knn": "memfast.neighbors",
    "open_index": "memfast.neighbors",
}

__all__ = [
    "Ambient", "DenoisingObjective", "InputError", "MemfastError", "Neighbors", "audit", "criteria", "data",
    "detectors", "evaluate", "features", "index", "integrations", "key", "knn", "metrics", "models", "neighbors",
    "open_index", "ops", "reports", "results", "sampling", "schedules", "timesteps", "trace", "training",
]  # fmt: skip

if TYPE_CHECKING:
    from memfast import (
        criteria,
        data,
        detectors,
        features,
        integrations,
        metrics,
        models,
        neighbors,
        ops,
        reports,
        results,
        sampling,
        schedules,
        timesteps,
        trace,
        training,
    )  # fmt: skip
    from memfast.auditing import audit
    from memfast.evaluation import evaluate
    from memfast.foundation.errors import InputError, MemfastError
    from memfast.neighbors import Neighbors, index, knn, open_index
    from memfast.objective import Ambient, DenoisingObjective
    from memfast.ops import key


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    if name in __all__:
        return importlib.import_module(f"memfast.{name}")
    raise AttributeError(f"module 'memfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
