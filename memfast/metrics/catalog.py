"""Old names of `memfast.metrics.registry` and `memfast.metrics.base`; they go with the next version."""

from memfast.foundation.deprecated import deprecated_names

__getattr__ = deprecated_names(
    __name__,
    {
        "CATALOG": "memfast.metrics.registry:CATALOG",
        "choose": "memfast.metrics.registry:choose",
        "Metric": "memfast.metrics.base:Metric",
        "Value": "memfast.metrics.base:MetricValue",
        "Sets": "memfast.metrics.base:MetricInputs",
        "Outcome": "memfast.metrics.base:MetricOutcome",
    },
)
