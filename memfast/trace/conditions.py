"""From the measures of one batch to the entries of its conditions, as ``trace.json`` holds them."""

from typing import Any, NamedTuple

import numpy as np

from memfast.trace.deviation import deviation_from
from memfast.trace.intervals import mean_over_seeds
from memfast.trace.observing import Watched
from memfast.trace.statistics import BRANCHES
from memfast.trace.theory import Weights

# The share of a run's steps that counts as early.
EARLY_SHARE = 0.2


class Finished(NamedTuple):
    """What is known of the finished samples of P conditions times K seeds.

    Attributes:
        similarity: float64 ``[P, K]`` to the target, NaN without one.
        name: of that similarity.
        squared_distances: ``[P, K, k]`` to the nearest items of the bank, or None.
        nearest: int64 ``[P, K, k]``, their indices, or None.
        numel: values of one item.
    """

    similarity: np.ndarray
    name: str
    squared_distances: np.ndarray | None
    nearest: np.ndarray | None
    numel: int


def condition_entries(watched: Watched, finished: Finished, lines: Weights) -> list[dict[str, Any]]:
    """One entry per condition of the batch, without name, label and ``memorized``; NaN stands for what is missing."""
    statistics = watched.statistics
    measures = {name: statistics.series(name) for name in ("w_target", "w_initial", "residual", "gap")}
    branches = {
        kind: {name: statistics.series(f"{kind}_{name}") for name in BRANCHES} for kind in ("loss", "target", "initial")
    }
    spread = [state.diversity for state in statistics.states]
    diversity = None if spread[0] is None else np.stack([one for one in spread if one is not None])
    return [
        _entry(place, watched, finished, lines, measures, branches, diversity)
        for place in range(len(statistics.names))
    ]  # fmt: skip


def early_loss(entry: dict[str, Any]) -> float:
    """Mean guided loss over the first ``EARLY_SHARE`` of the steps; NaN without a target."""
    values = entry["loss"]["guided"]
    return float("nan") if values is None else float(np.mean(values[: max(1, round(EARLY_SHARE * len(values)))]))


def _entry(
    place: int,
    watched: Watched,
    finished: Finished,
    lines: Weights,
    measures: dict[str, np.ndarray | None],
    branches: dict[str, dict[str, np.ndarray | None]],
    diversity: np.ndarray | None,
) -> dict[str, Any]:
    statistics = watched.statistics
    has = bool(statistics.has_target[place])
    weights = [None if measures[name] is None else measures[name][:, place] for name in ("w_target", "w_initial")]  # type: ignore[index]
    scores = deviation_from(weights[0], weights[1], lines) if has else None
    each = [
        deviation_from(weights[0][:, [k]], weights[1][:, [k]], lines) if has else None  # type: ignore[index]
        for k in range(len(statistics.seeds))
    ]
    similarity = finished.similarity[place]
    return {
        **{name: _curve(measures[name], place) for name in ("w_target", "w_initial", "residual")},
        "diversity": None if diversity is None else diversity[:, place],
        "loss": _means(branches["loss"], place),
        "alignment_target": _means(branches["target"], place),
        "alignment_initial": _means(branches["initial"], place),
        "branch_gap": _mean(measures["gap"], place),
        "d1": scores.d1 if scores else None,
        "d2": scores.d2 if scores else None,
        "overestimation": watched.overestimation[place],
        "normalised_loss": watched.normalised_loss[place],
        "posterior": None if watched.max_weight is None else {"max_weight": watched.max_weight[:, place]},
        "similarity": {
            "mean": similarity.mean(), "per_seed": None if np.isnan(similarity).all() else similarity,
            "name": finished.name,
        },
        "detectors": {name: float(values[place].mean()) for name, values in watched.scores.items()},
        "seeds": [
            {
                "seed": int(seed),
                "similarity": similarity[k],
                "d1": each[k].d1 if each[k] else None,  # type: ignore[union-attr]
                "d2": each[k].d2 if each[k] else None,  # type: ignore[union-attr]
                "nearest": _nearest(finished, place, k),
                "detectors": {name: float(values[place, k]) for name, values in watched.scores.items()},
            }
            for k, seed in enumerate(statistics.seeds)
        ],
    }  # fmt: skip


def _curve(values: np.ndarray | None, place: int) -> dict[str, np.ndarray] | None:
    return None if values is None else mean_over_seeds(values[:, place])._asdict()


def _mean(values: np.ndarray | None, place: int) -> np.ndarray | None:
    return None if values is None else values[:, place].mean(axis=1)


def _means(values: dict[str, np.ndarray | None], place: int) -> dict[str, np.ndarray | None]:
    return {name: _mean(value, place) for name, value in values.items()}


def _nearest(finished: Finished, place: int, k: int) -> dict[str, Any] | None:
    if finished.nearest is None or finished.squared_distances is None:
        return None
    rms = np.sqrt(float(finished.squared_distances[place, k, 0]) / finished.numel)
    return {"index": int(finished.nearest[place, k, 0]), "rms": float(rms)}
