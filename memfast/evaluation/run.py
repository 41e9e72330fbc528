"""`memfast.evaluate`: configuration, opened sets, one search for all metrics, each metric and its floor, results."""

import math
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memfast.evaluation.config import EvaluationConfig
from memfast.evaluation.opened import OpenedEvaluation, open_evaluation
from memfast.evaluation.result import MetricResult
from memfast.foundation.errors import MemfastError, first_line
from memfast.foundation.progress import Progress
from memfast.metrics.base import Metric, MetricInputs, MetricOutcome, MetricValue
from memfast.metrics.cost import Cost, estimate_cost
from memfast.metrics.registry import Choice


def evaluate(
    generated: Any,
    training: Any,
    test: Any = None,
    *,
    metrics: Choice = None,
    features: Any = EvaluationConfig.features,
    labels: Any = None,
    class_probabilities: Any = None,
    floor: bool = EvaluationConfig.floor,
    seed: int = EvaluationConfig.seed,
    options: Mapping[str, Any] | None = None,
    extraction: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    neighbors: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    progress: bool = False,
) -> dict[str, MetricResult]:
    """Measure how near the generated samples are to the training set, by every metric whose needs are met.

    Features and neighbours are computed once and shared. With a held-out set each result carries its ``floor``: the
    same number with the held-out set in the place of the generated one. A metric that cannot be computed on these sets
    gives a ``reason`` in the place of a value; the others are not affected.

    Args:
        generated: anything `memfast.data.open_source` reads.
        training: the same.
        test: the same, held out from training, or None.
        metrics: names of metrics or of their values (`memfast.metrics.METRICS`), a list or one string with commas; or a
            mapping from names to options, ``{"c_t": {"cells": 2}, "prdc": {"k": 3}}``, in which ``"all": {}`` stands
            for the others. None or ``all``: all metrics.
        features: ``pixels`` (uint8 values as 0 to 1; float values as they are), ``given`` (items are features), or
            whatever `memfast.features.open_extractor` takes: a module, a file, a name.
        labels: int ``[generated]``, for means per class.
        class_probabilities: ``[generated, classes]``, a classifier's probabilities of the generated samples; or a
            mapping with such an array for ``generated`` and one for ``test``. Some metrics need it.
        floor: compute the floors; doubles the work of most metrics.
        seed: of subsets, directions and bootstraps.
        options: option name -> value, for every chosen metric that has it: ``{"k": 3}``.
        extraction: options of `memfast.features.extract`: ``preprocessing``, ``batch_size``, ``device``, ``dtype``,
            ``cache``.
        search: options of `memfast.knn`: ``memory``, ``backend``.
        neighbors: `AuditResult.neighbors` of an audit of the same sets: what it found is not searched again. Only for
            ``pixels`` and ``given``.
        progress: show progress, and the expected time before the start.

    Returns:
        value name -> `MetricResult`, in the order of the metrics.

    Raises:
        InputError: sets of another shape, features that are not finite, labels of another length, an unknown metric or
            option, a metric asked for by name that needs a held-out set where there is none.
    """
    config = EvaluationConfig.of(
        metrics, has_test=test is not None, options=options, features=features, floor=floor, seed=seed,
        extraction=dict(extraction or {}), search=dict(search or {}), progress=progress,
    )  # fmt: skip
    sets = {"generated": generated, "training": training, "test": test}
    given = {name: data for name, data in sets.items() if data is not None}
    opened = open_evaluation(config, given, labels=labels, class_probabilities=class_probabilities, neighbors=neighbors)
    if progress:
        announce(estimate_cost(opened.shapes, list(config.metrics), floor=floor))
    return run_evaluation(config, opened)


def run_evaluation(config: EvaluationConfig, opened: OpenedEvaluation) -> dict[str, MetricResult]:
    """Compute every metric, and its floor where there is one: value name -> result."""
    inputs, floored = opened.inputs, config.floor and opened.inputs.test is not None
    results: dict[str, MetricResult] = {}
    with Progress("evaluate", len(config.metrics) * (1 + floored), "metrics", show=config.progress) as shown:
        search_once(config.metrics, inputs)
        for metric in config.metrics:
            found = measure(metric, inputs)
            results |= {value.name: _result(metric, value, found, opened.labels) for value in metric.values}
            shown.advance(note=metric.name)
        if floored:
            default = [
                metric for metric in config.metrics if metric.floor_inputs(inputs) is inputs.held_out_as_generated
            ]
            search_once(default, inputs.held_out_as_generated)
            for metric in config.metrics:
                results |= _floors(metric, results, inputs)
                shown.advance(note=f"{metric.name} of the held-out set")
    return results


@dataclass(frozen=True)
class Measured:
    """What one metric gave: outcomes by value name, or the reason why there are none."""

    outcomes: dict[str, MetricOutcome] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0


def measure(metric: Metric, inputs: MetricInputs) -> Measured:
    """Compute one metric. Whatever goes wrong is the reason, so that the others are computed all the same."""
    missing = metric.why_not(inputs)
    if missing is not None:
        return Measured(reason=missing)
    started = time.monotonic()
    try:
        outcomes = metric.compute(inputs)
    except MemfastError as error:
        return Measured(reason=first_line(error), seconds=time.monotonic() - started)
    except Exception as error:
        return Measured(reason=f"{type(error).__name__}: {first_line(error)}", seconds=time.monotonic() - started)
    return Measured(outcomes, None, time.monotonic() - started)


def search_once(metrics: Iterable[Metric], inputs: MetricInputs) -> None:
    """Make every search that the metrics share once, at the largest k that any of them asks for."""
    wanted: dict[tuple[str, str], int] = {}
    for metric in metrics:
        if metric.why_not(inputs) is None:
            for queries, database, k in metric.searches:
                wanted[queries, database] = max(k, wanted.get((queries, database), 0))
    for (queries, database), k in wanted.items():
        # A search that fails is made again by its metric, which gives the reason.
        with suppress(MemfastError):
            inputs.neighbors.nearest(queries, database, min(k, len(getattr(inputs, database))))


def _result(metric: Metric, value: MetricValue, found: Measured, labels: np.ndarray | None) -> MetricResult:
    outcome, reason = found.outcomes.get(value.name), found.reason
    if outcome is None:
        reason = reason or "these sets do not define it"
        outcome = MetricOutcome(math.nan)
    elif not math.isfinite(outcome.value):
        reason = f"the computation gave {outcome.value}, which is no number"
        outcome = replace(outcome, value=math.nan, interval=None)
    interval = None if outcome.interval is None else (float(outcome.interval[0]), float(outcome.interval[1]))
    return MetricResult(
        value.name, float(outcome.value), interval, value.better, value.copying, value.low, value.high, metric.name,
        metric.summary, metric.source, None, _per_class(outcome, labels), outcome.details, found.seconds, reason,
    )  # fmt: skip


def _per_class(outcome: MetricOutcome, labels: np.ndarray | None) -> dict[int, float] | None:
    if labels is None or outcome.samples is None or len(outcome.samples) != len(labels):
        return None
    return {int(label): float(outcome.samples[labels == label].mean()) for label in np.unique(labels)}


def _floors(metric: Metric, results: Mapping[str, MetricResult], inputs: MetricInputs) -> dict[str, MetricResult]:
    """The metric's results with their floors."""
    floor_inputs = metric.floor_inputs(inputs)
    if floor_inputs is None:
        return {}
    found = measure(metric, floor_inputs)
    names = [value.name for value in metric.values if metric.floored is None or value.name in metric.floored]
    floors = {}
    for name in names:
        outcome, reason = found.outcomes.get(name), found.reason or "the held-out set does not define it"
        if outcome is not None and math.isfinite(outcome.value):
            floors[name] = replace(results[name], floor=float(outcome.value))
        else:
            floors[name] = replace(results[name], floor_reason=reason)
    return floors


def announce(cost: Cost, verb: str = "evaluate") -> None:
    """Say on stderr what is expected, and what most of it is."""
    parts = sorted(cost.seconds.items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts)
    print(f"{verb}: about {cost.total_seconds:.0f} s expected ({listed})", file=sys.stderr)
