"""Old place of `memfast.evaluation`; it goes with the next version."""

from memfast.foundation.deprecated import deprecated_names

__getattr__ = deprecated_names(
    __name__,
    {name: f"memfast.evaluation:{name}" for name in ("MetricResult", "announce", "evaluate")},
)
