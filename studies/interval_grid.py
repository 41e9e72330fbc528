"""Paper 1's sweep, for signals and images alike: pretrain uniformly, fine-tune at each (mean, width), measure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from memfast import DenoisingObjective
from memfast.timesteps import ConfidenceInterval
from studies.spread import Spread
from studies.study import Result, Size
from studies.training import (
    T,
    closer_than_held_out,
    distances,
    generate,
    memorized_fraction,
    nearest_distance,
    objective,
    train,
    workspace,
)  # fmt: skip

# The paper's distances, each measured against the training set and against held-out items.
METRICS = ("l2", "wasserstein", "shannon")
# What nearest neighbours say: the share of near-exact copies, and how often a sample is closer than a held-out item.
NEIGHBOURS = ("copies", "closer")


@dataclass(frozen=True)
class Reading:
    """One way to read what the paper leaves open.

    Attributes:
        name: in results.
        told: in words, for the page.
        means: of the intervals.
        widths: of the intervals.
        tails: what becomes of the Gaussian's mass outside 1..T.
        mix: the Gaussian's share; None: as ``tails`` has it.
        from_scratch: train each point from random weights for ``scratch_steps``, instead of fine-tuning.
        clip: keep the sampler's estimate of the clean item within the training set's range of values.
        min_snr: another weight of the loss than the size's, from uniform training on.
    """

    name: str
    told: str
    means: tuple[float, ...]
    widths: tuple[float, ...]
    tails: str = "uniform"
    mix: float | None = None
    from_scratch: bool = False
    clip: bool = True
    min_snr: float | None = None

    def density(self, mean: float, width: float) -> ConfidenceInterval:
        """The density of one point."""
        return ConfidenceInterval.from_mean_width(mean, width, tails=self.tails, mix=self.mix)


@dataclass(frozen=True)
class GridSize(Size):
    """How large a sweep is; the first reading is the one that the verdict is about.

    Attributes:
        model: the network.
        pretrain_steps: uniform training before the sweep.
        pretrain_lr: its learning rate.
        epochs: of fine-tuning.
        lr: of fine-tuning.
        batch_size: of both.
        samples: generated at each point.
        sampler_steps: of DDIM.
        readings: the sweeps.
        scratch_steps: of training from random weights, at ``pretrain_lr``.
        prediction_type: what the network predicts.
        min_snr: gamma of the Min-SNR weight; from the schedule's greatest SNR on, the loss is the squared error of the
            noise, whatever is predicted. None: the squared error of what is predicted.
    """

    model: dict[str, Any]
    pretrain_steps: int
    pretrain_lr: float
    epochs: int
    lr: float
    batch_size: int
    samples: int
    sampler_steps: int
    readings: tuple[Reading, ...]
    scratch_steps: int
    prediction_type: str = "epsilon"
    min_snr: float | None = None

    def objective(self, reading: Reading, density: ConfidenceInterval | None = None) -> DenoisingObjective:
        """What a reading's networks learn; uniformly without a density."""
        gamma = self.min_snr if reading.min_snr is None else reading.min_snr
        weight: Any = "none" if gamma is None else {"name": "min_snr", "gamma": gamma}
        return objective(density, self.prediction_type, loss_weight=weight)

    def finetune_steps(self, count: int) -> int:
        """Steps of fine-tuning on ``count`` items."""
        return self.epochs * -(-count // self.batch_size)


class Yardstick:
    """Measures sets of samples against one training set and one held-out set."""

    def __init__(self, training: np.ndarray, held_out: np.ndarray, seed: int) -> None:
        self.training, self.held_out, self.seed = training, held_out, seed
        self._held_out_distances = nearest_distance(held_out, training)

    def floor(self, count: int) -> Result:
        """What ``count`` held-out items score in the place of samples."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.held_out))[:count]
        return self.scores(self.held_out[np.sort(chosen)])

    def scores(self, samples: np.ndarray) -> Result:
        """Distances to both sets, and what nearest neighbours say."""
        return {
            "train": {name: float(value) for name, value in distances(samples, self.training).items()},
            "test": {name: float(value) for name, value in distances(samples, self.held_out).items()},
            "copies": memorized_fraction(samples, self.training),
            "closer": closer_than_held_out(samples, self.training, self._held_out_distances),
        }


def run_grid(size: GridSize, training: np.ndarray, held_out: np.ndarray, seed: int) -> Result:
    """Every reading's sweep at one seed, with the pretrained network and held-out items measured in the same way.

    ``"pretrained"`` is the first reading's network; those of readings with a weight of their own are in ``"starts"``.
    """
    common: dict[str, Any] = {"model": size.model, "batch_size": size.batch_size, "seed": seed}
    yardstick = Yardstick(training, held_out, seed)

    def measure(run: Path, reading: Reading) -> Result:
        clip = _range(training) if reading.clip else None
        samples = generate(run, size.samples, seed=seed, steps=size.sampler_steps, clip=clip)
        return yardstick.scores(samples)

    with workspace() as folder:
        starts: dict[float | None, Path] = {}
        points: list[Result] = []
        trained: dict[Any, Path] = {}
        for reading in size.readings:
            if reading.min_snr not in starts:
                starts[reading.min_snr] = train(
                    training, out=folder / f"start{len(starts)}", objective=size.objective(reading),
                    steps=size.pretrain_steps, lr=size.pretrain_lr, **common,
                )  # fmt: skip
            for mean in reading.means:
                for width in reading.widths:
                    density = reading.density(mean, width)
                    # Readings that differ in sampling alone share the network.
                    key = (density, reading.from_scratch, reading.min_snr)
                    if key not in trained:
                        out, learned = folder / f"point{len(trained)}", size.objective(reading, density)
                        settings = _settings(size, reading, len(training), starts[reading.min_snr])
                        trained[key] = train(training, out=out, objective=learned, **settings, **common)
                    place = {"mean": mean, "width": width, "density_mean": density.mean(T)}
                    points.append({"reading": reading.name, **place, **measure(trained[key], reading)})
        first = size.readings[0]
        pretrained = measure(starts[first.min_snr], first)
        own = {r.name: measure(starts[r.min_snr], r) for r in size.readings if r.min_snr != first.min_snr}
    return {"pretrained": pretrained, "starts": own, "held_out": yardstick.floor(size.samples), "points": points}


def correlations(run: Result, reading: str, along: str, side: str = "train") -> dict[str, float]:
    """Pearson's correlation of each distance, and of what nearest neighbours say, with the points' mean or width.

    Args:
        run: one seed's result.
        reading: whose points.
        along: ``"mean"``, ``"density_mean"`` or ``"width"``.
        side: distances to ``"train"`` or to ``"test"``.

    Returns:
        Values from -1 to 1; 0 for what does not vary.
    """
    points = of_reading(run, reading)
    x = [point[along] for point in points]
    columns = {metric: [point[side][metric] for point in points] for metric in METRICS}
    columns |= {name: [point[name] for point in points] for name in NEIGHBOURS}
    return {name: _pearson(x, values) for name, values in columns.items()}


def change(run: Result, reading: str, metric: str, side: str = "train") -> float:
    """The relative change of a distance to the training (or test) set from the least to the greatest mean, averaged
    over widths: -0.94 is 94 % less."""
    ends = [at_mean(run, reading, mean, lambda point: point[side][metric]) for mean in _ends(run, reading)]
    return ends[1] / ends[0] - 1


def greatest_drop(run: Result, reading: str, metric: str) -> float:
    """The same at the one width where the distance falls most."""
    points = of_reading(run, reading)
    drops = []
    for width in sorted({point["width"] for point in points}):
        row = sorted((point["mean"], point["train"][metric]) for point in points if point["width"] == width)
        drops.append(row[-1][1] / row[0][1] - 1)
    return float(min(drops))


def at_mean(run: Result, reading: str, mean: float, value: Callable[[Result], float]) -> float:
    """The average over widths of ``value(point)`` at one mean."""
    return float(np.mean([value(point) for point in of_reading(run, reading) if point["mean"] == mean]))


def of_reading(run: Result, reading: str) -> list[Result]:
    """The points of one reading."""
    return [point for point in run["points"] if point["reading"] == reading]


def over_seeds(runs: Sequence[Result], value: Callable[[Result], float]) -> Spread:
    """``value(run)`` over the runs."""
    return Spread.of(value(run) for run in runs)


def _ends(run: Result, reading: str) -> tuple[float, float]:
    means = [point["mean"] for point in of_reading(run, reading)]
    return min(means), max(means)


def _settings(size: GridSize, reading: Reading, count: int, start: Path) -> dict[str, Any]:
    if reading.from_scratch:
        return {"steps": size.scratch_steps, "lr": size.pretrain_lr}
    # The average of so short a run would still be the start's weights.
    return {"steps": size.finetune_steps(count), "lr": size.lr, "start": start, "ema": None}


def _range(training: np.ndarray) -> tuple[float, float]:
    """The values' range as the network sees them."""
    return (-1.0, 1.0) if training.dtype == np.uint8 else (float(training.min()), float(training.max()))


def _pearson(x: Sequence[float], y: Sequence[float]) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(stats.pearsonr(x, y).statistic)
