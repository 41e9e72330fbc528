"""All metrics, by name. To add one: write its file and add its class here."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry
from memfast.metrics.base import Metric, option_names
from memfast.metrics.copying import AuthenticityShare, NeighborRatio, PenalizedFrechet
from memfast.metrics.data_copying import CT
from memfast.metrics.diversity import Vendi
from memfast.metrics.frechet import Frechet, FrechetExtrapolated
from memfast.metrics.identifiability import IdentifiabilityScore
from memfast.metrics.inception_score import InceptionScoreOfClasses
from memfast.metrics.kernel import KernelPolynomial, KernelRbf
from memfast.metrics.likelihood import FeatureLikelihoodDivergence
from memfast.metrics.manifold import ManifoldOverlap
from memfast.metrics.mind import Mind
from memfast.metrics.realism import Realism
from memfast.metrics.structure import StructuralSimilarity
from memfast.metrics.transport_metrics import L2, Projected, SlicedWasserstein, Wasserstein
from memfast.metrics.two_sample import MmdTest, NearestNeighborAccuracy

BUILT_IN: tuple[type[Metric], ...] = (
    Wasserstein,
    SlicedWasserstein,
    Mind,
    Projected,
    L2,
    Frechet,
    FrechetExtrapolated,
    KernelPolynomial,
    KernelRbf,
    MmdTest,
    ManifoldOverlap,
    Realism,
    NearestNeighborAccuracy,
    AuthenticityShare,
    NeighborRatio,
    IdentifiabilityScore,
    StructuralSimilarity,
    PenalizedFrechet,
    Vendi,
    InceptionScoreOfClasses,
    CT,
    FeatureLikelihoodDivergence,
)
METRICS: Registry[type[Metric]] = Registry("metrics", BUILT_IN, group="memfast.metrics")
# The built-in metrics with their default options.
CATALOG: tuple[Metric, ...] = tuple(metric() for metric in BUILT_IN)
ALL = "all"

Choice = str | Mapping[str, Mapping[str, Any]] | Iterable["str | Metric"] | None


def choose(metrics: Choice = None, *, has_test: bool, options: Mapping[str, Any] | None = None) -> list[Metric]:
    """The metrics of a choice, in the order given, each once.

    Args:
        metrics: names of metrics or of their values: a list, one string with commas, or a mapping from names to options
            (or its JSON text): ``{"c_t": {"cells": 2}}``. ``all`` stands for every metric, also beside others:
            ``{"all": {}, "c_t": {"cells": 2}}``. `Metric` objects are taken as they are. None: every metric.
        has_test: whether there is a held-out set.
        options: option name -> value, for every chosen metric that has this option.

    Raises:
        InputError: an unknown metric or option, an option out of range, or a metric asked for by name that needs a
            held-out set where there is none.
    """
    given = dict(options or {})
    chosen: dict[str, Metric] = {}
    for name, own in _entries(metrics):
        if isinstance(name, Metric):
            chosen[name.name] = replace(name, **_fitting(type(name), given)) if given else name  # type: ignore[type-var]
        elif name == ALL:
            for metric in METRICS.values():
                chosen.setdefault(metric.name, _build(metric, {}, given))
        else:
            metric = _find(name)
            if "test" in metric.needs and not has_test:
                raise InputError("test", expected=f"a held-out set, which '{metric.name}' needs", received="none")
            chosen[metric.name] = _build(metric, own, given)
    unknown = [name for name in given if not any(name in option_names(metric) for metric in METRICS.values())]
    if unknown:
        raise InputError("options", expected="options of metrics", received=", ".join(map(repr, unknown)))
    return list(chosen.values())


def _find(name: Any) -> type[Metric]:
    """The metric of this name, or of a value's name."""
    try:
        return METRICS.find(name, what="metrics")
    except InputError as error:
        # The registry's own list has the values' names too, and is too long to read.
        raise InputError(
            "metrics", expected=f"names among {', '.join(METRICS)}", received=repr(name), do=error.do
        ) from error


def _entries(metrics: Choice) -> list[tuple[Any, Mapping[str, Any]]]:
    """(name or metric, its options) for each entry of a choice."""
    if metrics is None:
        return [(ALL, {})]
    if isinstance(metrics, str):
        if not metrics.lstrip().startswith("{"):
            return [(name.strip(), {}) for name in metrics.split(",")]
        try:
            metrics = json.loads(metrics)
        except ValueError as error:
            expected = 'names, or JSON such as {"c_t": {"cells": 2}}'
            raise InputError("metrics", expected=expected, received=str(error)) from error
    if isinstance(metrics, Mapping):
        for name, own in metrics.items():
            if not isinstance(own, Mapping):
                raise InputError(f"metrics {name}", expected="a mapping of its options", received=repr(own))
        return [(name, own) for name, own in metrics.items()]
    if isinstance(metrics, Metric):
        return [(metrics, {})]
    try:
        return [(name, {}) for name in metrics]
    except TypeError as error:
        raise InputError("metrics", expected="names of metrics", received=repr(metrics)) from error


def _build(metric: type[Metric], own: Mapping[str, Any], shared: Mapping[str, Any]) -> Metric:
    return METRICS.build({"name": metric.name, **_fitting(metric, shared), **own}, what="metric")


def _fitting(metric: type[Metric], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the metric has."""
    return {name: value for name, value in options.items() if name in option_names(metric)}
