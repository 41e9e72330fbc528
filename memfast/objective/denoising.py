"""The drop-in objective: noise a batch, call your network, get the loss. Everything else is in its table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memfast import ops
from memfast.foundation.errors import InputError
from memfast.objective.ambient import Ambient
from memfast.objective.levels import Tables, continuous_tables, draw_levels, network_time
from memfast.objective.table import checked_float32, rows
from memfast.objective.weights import LossWeight, weight_from_dict
from memfast.schedules import ContinuousSchedule, Schedule, schedule_from_dict
from memfast.schedules.predictions import SIGMA_DATA, check_prediction_type
from memfast.timesteps import Density, Uniform, density_from_dict, thresholds
from memfast.timesteps.density import DEFAULT_T


class Batch(NamedTuple):
    """A noised batch; a plain tuple of tensors to the compiler.

    Attributes:
        x_t: ``[B, ...]`` in x0's dtype, the network's input.
        timesteps: int64 ``[B]``, the rows of the table that were used (diffusers' 0-based timesteps).
        sample_ids: int64 ``[B]``, the addresses of the noise.
        key: int64 ``[2]``, (seed, step).
        x0: ``[B, ...]``, the clean data.
        fixed_ids: int64 ``[B]``, addresses of the fixed noise; None without an ambient target.
        table: float32 ``[B, 7]`` of a continuous objective, whose ``timesteps`` are 0..B-1; otherwise None.
        time: ``[B]``, what to tell the network of the noise level: the timesteps, ln(sigma) / 4 for EDM schedules, 1000
            times the time for flow.
    """

    x_t: Tensor
    timesteps: Tensor
    sample_ids: Tensor
    key: Tensor
    x0: Tensor
    fixed_ids: Tensor | None = None
    table: Tensor | None = None
    time: Tensor | None = None


class DenoisingObjective:
    """What a diffusion model learns: a schedule, where along it, what it predicts, what counts how much.

    All of it is one table of seven float32 numbers per timestep, computed in float64, and one vector of integer
    thresholds for the draws; ``noise`` and ``loss`` are two fused ops on it, without a synchronisation, and compile
    with ``fullgraph=True``.

    Args:
        schedule: a schedule, or its dictionary.
        timesteps: a density from ``memfast.timesteps``, or its dictionary. None: uniform.
        prediction_type: ``"epsilon"``, ``"sample"``, ``"v_prediction"``, ``"flow_prediction"``, or ``"edm"`` for a
            network inside EDM's preconditioning (its input is then scaled by c_in, its output is F).
        loss_weight: a name, a dictionary or an object of ``memfast.objective.weights``: ``"none"``, ``"min_snr"``,
            ``"p2"``, ``"edm"``, ``"debiased"``, ``"sd3"``, ``"speed"``, ``"custom"``, ``"importance"``.
        ambient: an ``Ambient`` target, its dictionary, or None.
        stratified: draw the timesteps of a batch one from each of B equal parts of the distribution.
        sigma_data: the data's standard deviation, for prediction type ``edm``.

    Raises:
        InputError: an unknown name, a density without mass on the schedule, a weight that is not finite.

    >>> import memfast.schedules, memfast.timesteps
    >>> where = memfast.timesteps.ConfidenceInterval(low=600, high=1000)
    >>> objective = DenoisingObjective(memfast.schedules.linear(1000), timesteps=where)
    >>> x0, ids = torch.zeros(4, 1, 8, 8), torch.arange(4)
    >>> batch = objective.noise(x0, ids, ops.key(seed=0, step=0))
    >>> loss = objective.loss(torch.zeros_like(x0), batch)
    >>> batch.x_t.shape, loss.shape
    (torch.Size([4, 1, 8, 8]), torch.Size([]))
    """

    def __init__(
        self,
        schedule: Schedule | ContinuousSchedule | Mapping[str, Any],
        timesteps: Density | Mapping[str, Any] | None = None,
        prediction_type: str = "epsilon",
        loss_weight: LossWeight | str | Mapping[str, Any] = "none",
        ambient: Ambient | Mapping[str, Any] | None = None,
        *,
        stratified: bool = False,
        sigma_data: float = SIGMA_DATA,
    ) -> None:
        check_prediction_type(prediction_type)
        self.schedule = schedule_from_dict(schedule) if isinstance(schedule, Mapping) else schedule
        if not isinstance(self.schedule, Schedule | ContinuousSchedule):
            received = type(schedule).__name__
            raise InputError(
                "schedule", expected="a schedule of memfast.schedules, or its dictionary", received=received
            )
        self.density = density_from_dict(timesteps) if isinstance(timesteps, Mapping) else timesteps or Uniform()
        if not isinstance(self.density, Density):
            received = type(timesteps).__name__
            raise InputError(
                "timesteps", expected="a density of memfast.timesteps, or its dictionary", received=received
            )
        self.prediction_type = prediction_type
        self.loss_weight = weight_from_dict(loss_weight)
        self.ambient = Ambient.from_dict(ambient) if isinstance(ambient, Mapping) else ambient
        self.stratified = stratified
        self.sigma_data = sigma_data
        self._ambient_level = None if self.ambient is None else self.ambient.level(self.schedule)
        self._home = self._make_tables()
        self._tables = {torch.device("cpu"): self._home}

    @property
    def table(self) -> Tensor:
        """The table, float32 ``[T, 7]`` on the CPU: a_x, a_f, a_n, k_p, k_x, k_f, k_n."""
        return self._required(self._home.table, "table")

    @property
    def thresholds(self) -> Tensor:
        """The draw's integer thresholds, int64 on the CPU."""
        return self._home.thresholds

    @property
    def probabilities(self) -> np.ndarray:
        """The timesteps' probabilities, float64 ``[T]``."""
        if not isinstance(self.schedule, Schedule):
            raise InputError("probabilities", expected="a schedule of rows", received=f"the continuous {self.schedule}")
        return self.density.probabilities(self.schedule)

    @property
    def ambient_level(self) -> tuple[float, float] | None:
        """(alpha_n, sigma_n) of the noisy copies, or None."""
        return self._ambient_level

    def to(self, device: torch.device | str) -> "DenoisingObjective":
        """Keep a copy of the tables on ``device`` (once, before a compiled step), and return the objective."""
        target = torch.empty(0, device=device).device
        if target not in self._tables:
            self._tables[target] = self._home.to(target)
        return self

    def tables(self, device: torch.device) -> Tables:
        """The objective's tensors on a device, copied there once."""
        tables = self._tables.get(device)
        if tables is None:
            tables = self._home.to(device)
            if not torch.compiler.is_compiling():
                self._tables[device] = tables
        return tables

    def noise(
        self,
        x0: Tensor,
        sample_ids: Tensor,
        key: Tensor,
        fixed_ids: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        total: int | None = None,
    ) -> Batch:
        """Draw each sample's timestep and noise it.

        Args:
            x0: ``[B, ...]`` float32, bfloat16 or float16.
            sample_ids: int64 ``[B]``, one number per draw (not per item: a sample drawn twice needs two).
            key: int64 ``[2]``, ``memfast.key(seed, step)``, on x0's device.
            fixed_ids: int64 ``[B]``, the items' numbers in the data set, for an ambient target. None: ``sample_ids``.
            positions: int64 ``[B]``, the samples' places in the global batch, for stratified draws. None: 0..B-1.
            total: the global batch's size, with ``positions``.
        """
        tables = self.tables(x0.device)
        if self.stratified and positions is None:
            positions, total = torch.arange(len(sample_ids), device=sample_ids.device), len(sample_ids)
        elif not self.stratified:
            positions = total = None
        if self.ambient is None:
            fixed_ids = None
        elif fixed_ids is None:
            fixed_ids = sample_ids
        if tables.table is not None:
            timesteps = ops.draw_timesteps(tables.thresholds, sample_ids, key, positions=positions, total=total)
            time = timesteps if tables.time is None else tables.time[timesteps]
            x_t = ops.noise(x0, tables.table, timesteps, sample_ids, key, fixed_ids)
            return Batch(x_t, timesteps, sample_ids, key, x0, fixed_ids, None, time)
        assert isinstance(self.schedule, ContinuousSchedule)
        alpha, sigma = draw_levels(
            tables, self.schedule, self.density.variable, sample_ids, key, positions, total, DEFAULT_T
        )
        return self._noise_at(x0, alpha, sigma, sample_ids, key, fixed_ids)

    def loss(self, prediction: Tensor, batch: Batch, reduction: str = "mean") -> Tensor:
        """The weighted squared error: float32, a scalar, or ``[B]`` with ``reduction="none"``."""
        table = batch.table if batch.table is not None else self.tables(batch.x0.device).table
        return ops.loss(
            prediction, batch.x0, self._required(table, "table"), batch.timesteps, batch.sample_ids, batch.key,
            batch.fixed_ids, reduction=reduction,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON that ``from_dict`` reads back into the same table and thresholds, bit for bit."""
        return {
            "schedule": self.schedule.to_dict(),
            "timesteps": self.density.to_dict(),
            "prediction_type": self.prediction_type,
            "loss_weight": self.loss_weight.to_dict(),
            "ambient": None if self.ambient is None else self.ambient.to_dict(),
            "stratified": self.stratified,
            "sigma_data": self.sigma_data,
        }

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "DenoisingObjective":
        """The objective that ``to_dict`` described.

        Raises:
            InputError: an unknown entry.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError("objective", expected="the entries of to_dict", received=str(error)) from error

    def __repr__(self) -> str:
        return (
            f"DenoisingObjective({self.schedule!r}, timesteps={self.density!r}, "
            f"prediction_type={self.prediction_type!r}, loss_weight={self.loss_weight!r}, ambient={self.ambient!r})"
        )

    def _make_tables(self) -> Tables:
        if isinstance(self.schedule, ContinuousSchedule):
            return continuous_tables(self.density)
        probabilities = self.density.probabilities(self.schedule)
        alpha, sigma = torch.from_numpy(self.schedule.alpha.copy()), torch.from_numpy(self.schedule.sigma.copy())
        table = self._rows(alpha, sigma, torch.from_numpy(probabilities))
        time = None if self.schedule.family == "vp" else network_time(self.schedule.family, alpha, sigma)
        return Tables(torch.from_numpy(thresholds(probabilities)), checked_float32(table), time)

    def _rows(self, alpha: Tensor, sigma: Tensor, probabilities: Tensor | None) -> Tensor:
        weight = self.loss_weight.on_prediction(alpha, sigma, self.prediction_type, self.sigma_data, probabilities)
        ambient = self.ambient or Ambient(sigma=1.0)
        return rows(
            alpha, sigma, weight, self.prediction_type, sigma_data=self.sigma_data,
            ambient_level=self._ambient_level, compensate=ambient.compensate, margin=ambient.margin,
        )  # fmt: skip

    def _noise_at(
        self, x0: Tensor, alpha: Tensor, sigma: Tensor, sample_ids: Tensor, key: Tensor, fixed_ids: Tensor | None
    ) -> Batch:
        table = self._rows(alpha, sigma, None).float()
        timesteps = torch.arange(x0.shape[0], device=x0.device)
        x_t = ops.noise(x0, table, timesteps, sample_ids, key, fixed_ids)
        time = network_time(self.schedule.family, alpha, sigma)
        return Batch(x_t, timesteps, sample_ids, key, x0, fixed_ids, table, time)

    def _required(self, value: Tensor | None, what: str) -> Tensor:
        if value is None:
            raise InputError(what, expected="a schedule of rows", received=f"the continuous {self.schedule}")
        return value
