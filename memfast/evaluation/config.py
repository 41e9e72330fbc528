"""What an evaluation is to do, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memfast.foundation.arguments import GREATEST_SEED, whole_number
from memfast.metrics.base import Metric
from memfast.metrics.registry import Choice, choose


@dataclass(frozen=True)
class EvaluationConfig:
    """The settings of one evaluation.

    Attributes:
        metrics: the metrics, each with its options.
        features: ``pixels``, ``given``, or what `memfast.features.open_extractor` takes.
        floor: whether floors are computed.
        seed: of subsets, directions and bootstraps.
        extraction: options of `memfast.features.extract`.
        search: options of `memfast.knn`.
        progress: whether progress is shown.
    """

    metrics: tuple[Metric, ...]
    features: Any = "pixels"
    floor: bool = True
    seed: int = 0
    extraction: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False

    @classmethod
    def of(
        cls, metrics: Choice, *, has_test: bool, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> "EvaluationConfig":
        """From a choice of metrics as users write it; see `memfast.metrics.registry.choose`.

        Raises:
            InputError: an unknown metric or option, or a seed out of range.
        """
        settings["seed"] = whole_number("seed", settings.get("seed", 0), least=0, greatest=GREATEST_SEED)
        return cls(tuple(choose(metrics, has_test=has_test, options=options)), **settings)
