"""The ideal memorizer: the denoiser that knows the training set by heart, in closed form.

For data x_1..x_N, E[x0 | x_t] = sum_i w_i x_i with w = softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)). A network that
equals it can only reproduce its training data; the distance between the two says, level by level, how far it is from
that (``memfast.objective.curves``).

The exponents are differences of large numbers divided by sigma^2: in float32 they are off by tens of nats at small
sigma. Here they are float64, of centred data, with a bound on the rounding; where the bound exceeds ``tolerance`` nats,
those that count are computed again from the differences themselves. The data are streamed in blocks, with a running
softmax.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from memfast.foundation.errors import InputError
from memfast.objective.levels import level_of_time
from memfast.schedules import ContinuousSchedule, Schedule, target
from memfast.schedules.predictions import SIGMA_DATA, check_prediction_type, input_scale

BLOCK_ELEMENTS = 1 << 22
TOLERANCE_NATS = 0.01
# A sample this far below the largest exponent weighs less than 1e-26.
NEGLIGIBLE_NATS = 60.0
EPSILON = 2.0**-52
LOWEST = -1e300

Data = Tensor | np.ndarray | Callable[[], Iterable[Tensor | np.ndarray]]


class Ideal(NamedTuple):
    """What the ideal memorizer says of a batch.

    Attributes:
        x0: float64, of the shape of x_t: the posterior mean E[x0 | x_t].
        max_weight: float64 ``[B]``, the largest w_i, 1/N to 1: 1 means x_t belongs to one training sample alone.
        nearest: int64 ``[B]``, the sample of that weight; of equal ones the first.
        entropy: float64 ``[B]``, of w, in nats, 0 to ln N; exp(entropy) samples share x_t.
        log_evidence: float64 ``[B]``, ln of sum_i exp(-|x_t - alpha x_i|^2 / (2 sigma^2)).
    """

    x0: Tensor
    max_weight: Tensor
    nearest: Tensor
    entropy: Tensor
    log_evidence: Tensor


def ideal_denoiser(
    x_t: Tensor,
    data: Data,
    alpha: Tensor | float,
    sigma: Tensor | float,
    *,
    block: int | None = None,
    tolerance: float = TOLERANCE_NATS,
) -> Ideal:
    """The posterior mean of the clean sample, and how it is spread over the training set.

    Args:
        x_t: ``[B, ...]``, noised samples (for prediction type ``edm``: before the input scale).
        data: ``[N, ...]`` in the model's units, a tensor or an array (a memory map too), or a function that gives an
            iterator over blocks of it, anew on each call.
        alpha: the signal's share at each sample's level: a number or ``[B]``.
        sigma: the noise's share, above 0, likewise.
        block: rows of the data at a time; None: as many as make 32 MiB in float64.
        tolerance: largest possible error of an exponent, in nats, that is accepted without computing it again.

    Raises:
        InputError: no data, another shape than x_t's, values that are not finite, sigma that is not above 0.

    >>> data = torch.tensor([[-1.0], [1.0]])
    >>> ideal_denoiser(torch.tensor([[0.9]]), data, alpha=1.0, sigma=0.1).x0.round(decimals=6)
    tensor([[1.]], dtype=torch.float64)
    """
    points = x_t.detach().double().reshape(len(x_t), -1)
    levels = [torch.as_tensor(level, dtype=torch.float64, device=x_t.device) for level in (alpha, sigma)]
    a, s = (level.expand(len(x_t)).reshape(-1, 1) for level in levels)
    if not bool(((s > 0) & torch.isfinite(s) & torch.isfinite(a)).all()) or not bool(torch.isfinite(points).all()):
        raise InputError("x_t, alpha, sigma", expected="finite values, sigma above 0", received="others among them")
    running = _Running(points)
    center: Tensor | None = None
    for rows in _blocks(data, x_t, block):
        center = rows.mean(0, keepdim=True) if center is None else center
        running.add(_exponents(points, rows, center, a, s, tolerance), rows)
    return running.result(x_t.shape)


class IdealModel:
    """The ideal memorizer in the place of a network: ``model(x, time)`` gives its prediction, so that it can be
    sampled, traced and audited like one.

    Args:
        data: as for ``ideal_denoiser``.
        schedule: the schedule it is asked under.
        prediction_type: what to predict.
        sigma_data: the data's standard deviation, for ``edm``.
    """

    def __init__(
        self,
        data: Data,
        schedule: Schedule | ContinuousSchedule,
        prediction_type: str = "epsilon",
        *,
        sigma_data: float = SIGMA_DATA,
    ) -> None:
        check_prediction_type(prediction_type)
        self.data, self.schedule = data, schedule
        self.prediction_type, self.sigma_data = prediction_type, sigma_data

    def __call__(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The prediction in x's dtype.

        Args:
            x: ``[B, ...]``, as a network gets it (``Batch.x_t``).
            time: ``[B]``, rows of the schedule as integers, or ``Batch.time``'s floating values.
            labels: ignored.
        """
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = (level.to(x.device).expand(len(x)).reshape(shape) for level in self._levels(time))
        sample = x.double() / input_scale(self.prediction_type, alpha, sigma, self.sigma_data)
        x0 = ideal_denoiser(sample, self.data, alpha.flatten(), sigma.flatten()).x0
        noise = (sample - alpha * x0) / sigma
        return target(self.prediction_type, x0, noise, alpha, sigma, self.sigma_data).to(x.dtype)

    def _levels(self, time: Tensor) -> tuple[Tensor, Tensor]:
        if time.is_floating_point():
            return level_of_time(self.schedule.family, time)
        if not isinstance(self.schedule, Schedule):
            raise InputError("time", expected="floating values, for a continuous schedule", received=str(time.dtype))
        rows = time.detach().cpu().numpy()
        return torch.from_numpy(self.schedule.alpha[rows]), torch.from_numpy(self.schedule.sigma[rows])


class _Running:
    """A softmax over blocks: the largest exponent so far, and the sums relative to it."""

    def __init__(self, points: Tensor) -> None:
        B = len(points)
        self.top = points.new_full((B,), -torch.inf)
        self.total, self.total_exponent = points.new_zeros(B), points.new_zeros(B)
        self.mean = torch.zeros_like(points)
        self.index = torch.zeros(B, dtype=torch.int64, device=points.device)
        self.seen = 0

    def add(self, exponents: Tensor, rows: Tensor) -> None:
        highest, where = exponents.max(1)
        self.index = torch.where(highest > self.top, where + self.seen, self.index)
        top = torch.maximum(self.top, highest)
        old = torch.exp(self.top - top)
        weights = torch.exp(exponents - top[:, None])
        # Exponents are summed relative to the top, in which they stay small; the old sum moves with it.
        moved = self.total_exponent + self.total * (self.top - top).clamp_min(LOWEST)
        self.total_exponent = old * moved + (weights * (exponents - top[:, None])).sum(1)
        self.total = old * self.total + weights.sum(1)
        self.mean = old[:, None] * self.mean + weights @ rows
        self.top, self.seen = top, self.seen + len(rows)

    def result(self, shape: torch.Size) -> Ideal:
        if self.seen == 0:
            raise InputError("data", expected="at least one sample", received="none")
        entropy = (self.total.log() - self.total_exponent / self.total).clamp_min(0.0)
        x0 = (self.mean / self.total[:, None]).reshape(shape)
        return Ideal(x0, 1 / self.total, self.index, entropy, self.top + self.total.log())


def _exponents(points: Tensor, rows: Tensor, center: Tensor, a: Tensor, s: Tensor, tolerance: float) -> Tensor:
    """-|x_t - alpha x_i|^2 / (2 sigma^2), float64 ``[B, block]``, each that counts within ``tolerance`` nats."""
    p, r = points - a * center, rows - center
    p_norm, r_norm = (p * p).sum(1, keepdim=True), (r * r).sum(1)
    expanded = p_norm + a * a * r_norm - 2 * a * (p @ r.T)
    # Three sums of D products, each within (D + 4) * 2^-52 of the sum of its magnitudes; centring rounds too.
    size = p_norm.sqrt() + a.abs() * r_norm.max().sqrt()
    reach = (a.abs() * center.abs().max() + points.abs().amax(1, keepdim=True)) * rows.shape[1] ** 0.5
    bound = EPSILON * (rows.shape[1] + 4) * size**2 + 4 * EPSILON * reach * size
    doubtful = (bound > tolerance * 2 * s * s).squeeze(1)
    for sample in doubtful.nonzero().flatten().tolist():
        near = expanded[sample] <= expanded[sample].min() + 2 * bound[sample] + 2 * s[sample] ** 2 * NEGLIGIBLE_NATS
        expanded[sample, near] = (points[sample] - a[sample] * rows[near]).square_().sum(1)
    return -expanded.clamp_min(0.0) / (2 * s * s)


def _blocks(data: Data, x_t: Tensor, block: int | None) -> Iterator[Tensor]:
    parts = data() if callable(data) else [data]
    width = int(np.prod(x_t.shape[1:]))
    length = block or max(1, BLOCK_ELEMENTS // max(1, width))
    for part in parts:
        if tuple(part.shape[1:]) != tuple(x_t.shape[1:]):
            expected, received = f"samples of shape {list(x_t.shape[1:])}, as x_t's", str(list(part.shape[1:]))
            raise InputError("data", expected=expected, received=received)
        for start in range(0, len(part), length):
            chunk = part[start : start + length]
            tensor = chunk if isinstance(chunk, Tensor) else torch.from_numpy(np.ascontiguousarray(chunk))
            if tensor.dtype == torch.uint8:
                do = "Scale images to the model's units, for example images / 127.5 - 1."
                raise InputError("data", expected="values in the model's units", received="uint8", do=do)
            rows = tensor.to(x_t.device).double().reshape(len(tensor), -1)
            if not bool(torch.isfinite(rows).all()):
                raise InputError("data", expected="finite values", received=f"NaN or infinity from row {start} on")
            yield rows
