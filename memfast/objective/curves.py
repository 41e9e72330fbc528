"""A trained model against the ideal memorizer and against held-out data, noise level by noise level."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memfast import ops
from memfast.foundation.arguments import whole_number
from memfast.foundation.errors import InputError
from memfast.objective.denoising import DenoisingObjective
from memfast.objective.ideal import Data, ideal_denoiser
from memfast.objective.levels import network_time
from memfast.schedules import Schedule
from memfast.schedules.predictions import input_scale, x0_and_noise

# Not a stream of training: the same seed may be used for both.
EVALUATION_STREAM = 32
LEVELS = 18

Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GapCurve:
    """How far a model is from the ideal memorizer. All lists have one entry per level, least noise first.

    Attributes:
        sigma: sigma / alpha of each level.
        timesteps: the schedule's rows; None for a continuous schedule.
        gap: mean squared difference between the model's x0 and the ideal memorizer's, per element, 0 upwards: 0 is a
            perfect memorizer.
        gap_error: its standard error over the samples.
        model_loss: mean squared error of the model's x0, per element.
        ideal_loss: the ideal memorizer's: the least that is possible on the training set.
        max_weight: mean largest posterior weight, 1/N to 1: near 1 each x_t belongs to one training sample.
        samples: how many samples each level was measured on.
    """

    sigma: list[float]
    timesteps: list[int] | None
    gap: list[float]
    gap_error: list[float]
    model_loss: list[float]
    ideal_loss: list[float]
    max_weight: list[float]
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LossCurve:
    """Denoising error on training and on held-out data. All lists have one entry per level, least noise first.

    Attributes:
        sigma: sigma / alpha of each level.
        timesteps: the schedule's rows; None for a continuous schedule.
        train: mean squared error of the model's x0 on training data, per element.
        train_error: its standard error over the samples.
        held_out: the same on held-out data.
        held_out_error: its standard error.
        samples: how many of (training, held-out) samples were used.

    ``held_out`` well above ``train`` at a level means that the model knows its training set there.
    """

    sigma: list[float]
    timesteps: list[int] | None
    train: list[float]
    train_error: list[float]
    held_out: list[float]
    held_out_error: list[float]
    samples: tuple[int, int]

    @property
    def gap(self) -> list[float]:
        """held_out - train, level by level."""
        return [out - here for out, here in zip(self.held_out, self.train, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ideal_gap(
    predict: Predict,
    samples: Tensor,
    objective: DenoisingObjective,
    data: Data | None = None,
    *,
    levels: int | Sequence[float] = LEVELS,
    seed: int = 0,
    batch: int = 256,
) -> GapCurve:
    """The gap between a model and the ideal memorizer, E|D_model(x_t) - D_ideal(x_t)|^2 / elements, at each level.

    Args:
        predict: the network, ``predict(x_t, time)``; ``time`` as in ``Batch.time``. Call it in evaluation mode.
        samples: ``[M, ...]`` training samples to noise, float32 in the model's units.
        objective: what the model was trained on: its schedule and prediction type.
        data: the whole training set for the ideal memorizer, as for ``ideal_denoiser``; None: ``samples``.
        levels: how many, spread over the schedule; or the rows themselves (of a continuous schedule: sigma / alpha).
        seed: of the noise; sample i has its own at each level, whatever the batch.
        batch: samples at a time.
    """
    whole: Data = samples if data is None else data
    columns: list[tuple[float, ...]] = []
    chosen = _chosen(objective, levels)
    for number, level in enumerate(chosen):
        parts = []
        for x0, x_t, mine in _denoised(predict, samples, objective, level, number, seed, batch):
            ideal = ideal_denoiser(x_t, whole, level.alpha, level.sigma)
            best = ideal.x0
            parts.append(torch.stack([_mse(mine, best), _mse(mine, x0), _mse(best, x0), ideal.max_weight], 1))
        together = torch.cat(parts)
        columns.append((*together.mean(0).tolist(), _standard_error(together[:, 0])))
    gap, model_loss, ideal_loss, max_weight, error = (list(column) for column in zip(*columns, strict=True))
    sigma, rows = _names(chosen)
    return GapCurve(sigma, rows, gap, error, model_loss, ideal_loss, max_weight, len(samples))


def denoising_loss_curve(
    predict: Predict,
    train: Tensor,
    held_out: Tensor,
    objective: DenoisingObjective,
    *,
    levels: int | Sequence[float] = LEVELS,
    seed: int = 0,
    batch: int = 256,
) -> LossCurve:
    """Mean squared error of the model's x0 on training and on held-out samples, at each level.

    Args:
        predict: the network, ``predict(x_t, time)``, in evaluation mode.
        train: ``[M, ...]`` training samples, float32 in the model's units.
        held_out: ``[K, ...]`` samples it has not seen.
        objective: what the model was trained on.
        levels: as for ``ideal_gap``.
        seed: of the noise.
        batch: samples at a time.
    """
    chosen = _chosen(objective, levels)
    found: list[tuple[list[float], list[float]]] = []
    for samples in (train, held_out):
        means, errors = [], []
        for number, level in enumerate(chosen):
            parts = _denoised(predict, samples, objective, level, number, seed, batch)
            losses = torch.cat([_mse(mine, x0) for x0, _, mine in parts])
            means.append(float(losses.mean()))
            errors.append(_standard_error(losses))
        found.append((means, errors))
    return LossCurve(*_names(chosen), *found[0], *found[1], samples=(len(train), len(held_out)))


@dataclass(frozen=True)
class _Level:
    alpha: float
    sigma: float
    time: float
    row: int | None


def _chosen(objective: DenoisingObjective, levels: int | Sequence[float]) -> list[_Level]:
    schedule = objective.schedule
    if np.ndim(levels) == 0:
        levels = whole_number("levels", levels, least=1)
    if isinstance(schedule, Schedule):
        T = len(schedule)
        rows = np.unique(np.linspace(0, T - 1, min(levels, T)).round()) if isinstance(levels, int) else np.array(levels)
        if len(rows) == 0 or (rows != np.floor(rows)).any() or rows.min() < 0 or rows.max() >= T:
            raise InputError("levels", expected=f"a number, or rows from 0 to {T - 1}", received=str(levels))
        told = objective.tables(torch.device("cpu")).time
        times = rows if told is None else told.numpy()[rows.astype(int)]
        return [
            _Level(float(schedule.alpha[row]), float(schedule.sigma[row]), float(time), row)
            for row, time in zip(rows.astype(int).tolist(), times, strict=True)
        ]
    if isinstance(levels, int):
        middle = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        alpha, sigma = schedule.at_time(middle)
    else:
        alpha, sigma = schedule.at_log_snr(-2 * torch.as_tensor(levels, dtype=torch.float64).log())
    told = network_time(schedule.family, alpha, sigma)
    return [_Level(float(a), float(s), float(t), None) for a, s, t in zip(alpha, sigma, told, strict=True)]


def _denoised(
    predict: Predict, samples: Tensor, objective: DenoisingObjective, level: _Level, number: int, seed: int, batch: int
) -> Any:
    """(x0, x_t, the model's x0), float64, batch by batch."""
    whole_number("batch", batch, least=1)
    if len(samples) == 0:
        raise InputError("samples", expected="at least one", received="none")
    kind, sigma_data = objective.prediction_type, objective.sigma_data
    alpha, sigma = torch.tensor([level.alpha, level.sigma], dtype=torch.float64, device=samples.device)
    scale = input_scale(kind, alpha, sigma, sigma_data)
    address = ops.key(seed, number).to(samples.device)
    for start in range(0, len(samples), batch):
        x0 = samples[start : start + batch]
        ids = torch.arange(start, start + len(x0), device=x0.device)
        noise = ops.standard_normal(ids, x0[0].numel(), address, stream=EVALUATION_STREAM).view_as(x0)
        x_t = (alpha * x0.double() + sigma * noise.double()).to(x0.dtype)
        # Rounded once, as the network sees it; the ideal memorizer is asked about the same point.
        time = torch.full((len(x0),), level.time, device=x0.device)
        time = time.long() if level.row is not None and level.time == level.row else time
        with torch.no_grad():
            output = predict((scale * x_t.double()).to(x0.dtype), time)
        if output.shape != x0.shape:
            raise InputError("prediction", expected=f"shape {list(x0.shape)}", received=str(list(output.shape)))
        mine, _ = x0_and_noise(output.double(), x_t.double(), alpha, sigma, kind, sigma_data)
        yield x0.double(), x_t.double(), mine


def _mse(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).flatten(1).square().mean(1)


def _standard_error(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")


def _names(chosen: list[_Level]) -> tuple[list[float], list[int] | None]:
    rows = [level.row for level in chosen]
    ratios = [level.sigma / level.alpha if level.alpha > 0 else float("inf") for level in chosen]
    return ratios, None if None in rows else rows  # type: ignore[return-value]
