"""`memfast.evaluate`: every distribution metric of generated samples against a training set, in one call."""

import math
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from memfast.data import open_source
from memfast.features.sets import PLAIN, kind_of, open_features
from memfast.foundation.arguments import GREATEST_SEED, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.progress import Progress
from memfast.metrics.arrays import as_labels, as_matrix, require_width
from memfast.metrics.catalog import Metric, Outcome, Sets, Value, choose
from memfast.metrics.cost import Cost, estimate_cost
from memfast.metrics.shared import SharedNeighbors


@dataclass(frozen=True)
class MetricResult:
    """One number and what is needed to read it.

    Attributes:
        name: the value's name.
        value: the number.
        interval: its 95 % interval, or None where none is offered.
        better: which way its authors call better, ``lower``, ``higher`` or ``none``.
        copying: which way it moves when training samples are copied.
        low: the least it can be.
        high: the most it can be.
        metric: the metric it belongs to.
        summary: the metric in one line.
        source: where the definition comes from.
        floor: the same number for the held-out set in the place of the generated one, or None without one.
        per_class: label -> the mean over that class's generated samples, where labels were given.
        details: what the method adds.
        seconds: time spent on the metric, its shared searches apart.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    better: str
    copying: str
    low: float
    high: float
    metric: str
    summary: str
    source: str
    floor: float | None = None
    per_class: dict[int, float] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and None for what is not finite: ready for strict JSON."""
        return _plain(asdict(self))


def evaluate(
    generated: Any,
    training: Any,
    test: Any = None,
    *,
    metrics: str | Iterable[str] | None = None,
    features: Any = "pixels",
    labels: Any = None,
    floor: bool = True,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    extraction: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    neighbors: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    progress: bool = False,
) -> dict[str, MetricResult]:
    """Measure how near the generated samples are to the training set, by every metric whose needs are met.

    Features and neighbours are computed once and shared. With a held-out set each result carries its ``floor``: the
    same number with the held-out set in the place of the generated one.

    Args:
        generated: anything `memfast.data.open_source` reads.
        training: the same.
        test: the same, held out from training, or None.
        metrics: names of metrics or of their values (`memfast.metrics.catalog`), a list or one string with commas;
            None or ``all``: all that apply.
        features: ``pixels`` (uint8 values as 0 to 1; float values as they are), ``given`` (items are features), or
            whatever `memfast.features.open_extractor` takes: a module, a file, a name.
        labels: int ``[generated]``, for means per class.
        floor: compute the floors; doubles the work of most metrics.
        seed: of subsets, directions and bootstraps.
        options: ``k`` (neighbours of precision to coverage), ``exact_transport_rows``.
        extraction: options of `memfast.features.extract`: ``preprocessing``, ``batch_size``, ``device``, ``dtype``,
            ``cache``.
        search: options of `memfast.knn`: ``memory``, ``backend``.
        neighbors: `AuditResult.neighbors` of an audit of the same sets: what it found is not searched again. Only for
            ``pixels`` and ``given``.
        progress: show progress, and the expected time before the start.

    Returns:
        value name -> `MetricResult`, in the catalogue's order.

    Raises:
        InputError: sets of another shape, non-finite features, too few samples for a metric, labels of another
            length, an unknown metric, a metric that needs a held-out set where there is none.
    """
    seed = whole_number("seed", seed, least=0, greatest=GREATEST_SEED)
    settings = _options(options)
    chosen = choose(metrics, has_test=test is not None)
    given = {"generated": generated, "training": training, "test": test}
    sources = {name: open_source(data, name=name) for name, data in given.items() if data is not None}
    kinds = _features(sources, features, dict(extraction or {}), progress)
    _check_sizes(chosen, kinds)
    classes = None if labels is None else as_labels("labels", labels, len(kinds["generated"]))
    if progress:
        announce(estimate_cost({name: rows.shape for name, rows in kinds.items()}, metrics, floor=floor))
    shared = _shared(kinds, dict(search or {}))
    if isinstance(features, str) and features in PLAIN:
        for name, found in (neighbors or {}).items():
            shared.add(name, "training", *found)
    main = _sets(kinds, shared, "generated", seed, settings)
    results: dict[str, MetricResult] = {}
    floored = [row for row in chosen if floor and "test" in kinds and not row.needs_test]
    floored = [row for row in floored if len(kinds["test"]) >= row.least]
    with Progress("evaluate", len(chosen) + len(floored), "metrics", show=progress) as shown:
        _search(shared, chosen, "generated", settings)
        for row in chosen:
            started = time.monotonic()
            outcomes = row.compute(main)
            seconds = time.monotonic() - started
            for value in row.values:
                if value.name in outcomes:
                    results[value.name] = _result(row, value, outcomes[value.name], classes, seconds)
            shown.advance(note=row.name)
        if floored:
            _floors(results, floored, _sets(kinds, shared, "test", seed, settings), settings, shown)
    return results


def _features(
    sources: dict[str, Any], features: Any, extraction: dict[str, Any], progress: bool
) -> dict[str, np.ndarray]:
    """Features of each set: uint8 rows where they are pixels, floats otherwise."""
    shapes = {source.item_shape for source in sources.values()}
    if len(shapes) > 1:
        described = ", ".join(f"{name} {source.item_shape}" for name, source in sources.items())
        raise InputError("sets", expected="items of one shape", received=described)
    images = kind_of(sources["training"].item_shape) == "images"
    run, _ = open_features(features, images=images, extraction=extraction, progress=progress)
    rows = {name: run(source) for name, source in sources.items()}
    integer = all(part.dtype == np.uint8 for part in rows.values()) and features == "pixels"
    checked = {name: part if integer else as_matrix(name, part, dtype=None) for name, part in rows.items()}
    for name, part in checked.items():
        require_width(name, part, checked["training"].shape[1], "training")
    return checked


def _shared(kinds: dict[str, np.ndarray], search: dict[str, Any]) -> SharedNeighbors:
    integer = kinds["training"].dtype == np.uint8
    return SharedNeighbors(dict(kinds), unit=1 / 255 if integer else 1.0, **search)


def _options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    least = {"k": 1, "exact_transport_rows": 0}
    for name in given or {}:
        if name not in least:
            raise InputError("options", expected="some of " + ", ".join(least), received=repr(name))
    return {name: whole_number(name, value, least=least[name]) for name, value in (given or {}).items()}


def _sets(kinds: dict[str, np.ndarray], shared: SharedNeighbors, judged: str, seed: int, options: dict) -> Sets:
    floats = {name: _as_floats(rows) for name, rows in kinds.items()}
    if judged == "test":
        shared = shared.renamed({"test": "generated"})
    return Sets(floats[judged], floats["training"], floats.get("test"), shared, seed, options)


def _as_floats(rows: np.ndarray) -> np.ndarray:
    return rows / 255.0 if rows.dtype == np.uint8 else rows.astype(np.float64, copy=False)


def _search(shared: SharedNeighbors, chosen: list[Metric], judged: str, options: dict[str, Any]) -> None:
    """Make every search once, at the largest k that any metric asks of it."""
    wanted: dict[tuple[str, str], int] = {}
    for row in chosen:
        for queries, database, k in row.neighbors:
            depth = options.get("k", k - 1) + 1 if row.name == "prdc" else k
            wanted[queries, database] = max(depth, wanted.get((queries, database), 0))
    for (queries, database), k in wanted.items():
        shared.nearest(queries, database, k)


def _floors(
    results: dict[str, MetricResult], rows: list[Metric], sets: Sets, options: dict[str, Any], shown: Progress
) -> None:
    _search(sets.shared, rows, "generated", options)
    for row in rows:
        for name, outcome in row.compute(sets).items():
            results[name] = MetricResult(**{**vars(results[name]), "floor": outcome.value})
        shown.advance(note=f"{row.name} of the held-out set")


def _result(row: Metric, value: Value, outcome: Outcome, classes: np.ndarray | None, seconds: float) -> MetricResult:
    per_class = None
    if classes is not None and outcome.samples is not None:
        per_class = {int(label): float(outcome.samples[classes == label].mean()) for label in np.unique(classes)}
    interval = None if outcome.interval is None else (float(outcome.interval[0]), float(outcome.interval[1]))
    return MetricResult(
        value.name, outcome.value, interval, value.better, value.copying, value.low, value.high, row.name,
        row.summary, row.source, None, per_class, outcome.details, seconds,
    )  # fmt: skip


def _check_sizes(chosen: list[Metric], kinds: dict[str, np.ndarray]) -> None:
    for row in chosen:
        for name in ("generated", "training"):
            if len(kinds[name]) < row.least:
                raise InputError(
                    name,
                    expected=f"at least {row.least} samples for '{row.name}'",
                    received=f"{len(kinds[name])}",
                    do="Leave that metric out with metrics=[...], or give more samples.",
                )


def announce(cost: Cost, verb: str = "evaluate") -> None:
    """Say on stderr what is expected, and what most of it is."""
    parts = sorted(cost.seconds.items(), key=lambda item: -item[1])[:3]
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts)
    print(f"{verb}: about {cost.total_seconds:.0f} s expected ({listed})", file=sys.stderr)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
