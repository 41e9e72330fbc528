"""The drop-in objective: noise a batch, call your network, get the loss. Everything else is in its table."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memfast import ops
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.objective.ambient import Ambient
from memfast.objective.batch import Batch
from memfast.objective.changing import gathered, padded_thresholds, rewrite
from memfast.objective.levels import ObjectiveTables, continuous_tables, draw_levels, network_time
from memfast.objective.table import checked_float32, rows
from memfast.objective.weights import LossWeight, weight_from_dict
from memfast.ops.addresses import check_sample_ids
from memfast.schedules import ContinuousSchedule, Schedule, schedule_from_dict
from memfast.schedules.predictions import SIGMA_DATA, check_prediction_type
from memfast.timesteps import Density, Uniform, density_from_dict, thresholds
from memfast.timesteps.density import DEFAULT_T


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
        wanted = Uniform() if timesteps is None else timesteps
        self.density = density_from_dict(wanted) if isinstance(wanted, Mapping) else wanted
        if not isinstance(self.density, Density):
            received = type(timesteps).__name__
            raise InputError(
                "timesteps", expected="a density of memfast.timesteps, or its dictionary", received=received
            )
        self.prediction_type = prediction_type
        self.loss_weight = weight_from_dict(loss_weight)
        self.ambient = Ambient.from_dict(ambient) if isinstance(ambient, Mapping) else ambient
        if not isinstance(self.ambient, Ambient | None):
            received = repr(ambient)
            raise InputError("ambient", expected="an Ambient target, its dictionary, or None", received=received)
        if not isinstance(stratified, bool):
            raise InputError("stratified", expected="True or False", received=repr(stratified))
        self.stratified = stratified
        self.sigma_data = finite_number("sigma_data", sigma_data, above=0)
        self.loss_weight = self.loss_weight.for_data(self.sigma_data)
        self._ambient_level = None if self.ambient is None else self.ambient.level(self.schedule)
        misfit = self.density.misfit(self.schedule) if isinstance(self.schedule, Schedule) else None
        if misfit is not None:
            warnings.warn(f"timesteps: {self.density!r}: {misfit}.", UserWarning, stacklevel=2)
        self._current: Density | None = None
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
        """The timesteps' probabilities now, float64 ``[T]``."""
        if not isinstance(self.schedule, Schedule):
            raise InputError("probabilities", expected="a schedule of rows", received=f"the continuous {self.schedule}")
        return (self._current or self.density).probabilities(self.schedule)

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

    def tables(self, device: torch.device) -> ObjectiveTables:
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
        noisy_x0: Tensor | None = None,
    ) -> Batch:
        """Draw each sample's timestep and noise it.

        Args:
            x0: ``[B, ...]`` float32, bfloat16 or float16.
            sample_ids: int64 ``[B]``, one number per draw (not per item: a sample drawn twice needs two).
            key: int64 ``[2]``, ``memfast.key(seed, step)``, on x0's device.
            fixed_ids: int64 ``[B]``, the items' numbers in the data set, for an ambient target. None: ``sample_ids``.
            positions: int64 ``[B]``, the samples' places in the global batch, for stratified draws. None: 0..B-1.
            total: the global batch's size, with ``positions``.
            noisy_x0: ``[B, ...]``, for an ambient target whose noise is to be augmented with the item: the augmented
                ``noisy(item, fixed_ids, key)``, ``x0`` being the item augmented likewise. None: the fixed noise is
                added here, to the augmented item, as the paper's code does.
        """
        check_sample_ids(sample_ids, x0.shape[0])
        tables = self.tables(x0.device)
        if not self.stratified:
            positions = total = None
        elif positions is None:
            positions, total = torch.arange(len(sample_ids), device=sample_ids.device), len(sample_ids)
        table: Tensor | None = None
        if isinstance(self.schedule, ContinuousSchedule):
            variable = self.density.variable
            alpha, sigma = draw_levels(tables, self.schedule, variable, sample_ids, key, positions, total, DEFAULT_T)
            rows_now = table = self._rows(alpha, sigma, None).float()
            timesteps = torch.arange(x0.shape[0], device=x0.device)
            time = network_time(self.schedule.family, alpha, sigma)
        else:
            rows_now = self._required(tables.table, "table")
            timesteps = ops.draw_timesteps(tables.thresholds, sample_ids, key, positions=positions, total=total)
            time = timesteps if tables.time is None else tables.time[timesteps]
        if self.ambient is None or noisy_x0 is not None:
            fixed_ids = None
        elif fixed_ids is None:
            fixed_ids = sample_ids
        if noisy_x0 is not None:
            from_noisy = (rows_now[timesteps, 1] > 0).view(-1, *[1] * (x0.ndim - 1))
            x0 = torch.where(from_noisy, noisy_x0, x0)
        x_t = ops.noise(x0, rows_now, timesteps, sample_ids, key, fixed_ids)
        return Batch(x_t, timesteps, sample_ids, key, x0, fixed_ids, table, time)

    def loss(self, prediction: Tensor, batch: Batch, reduction: str = "mean") -> Tensor:
        """The weighted squared error: float32, a scalar, or ``[B]`` with ``reduction="none"``."""
        table = batch.table if batch.table is not None else self.tables(batch.x0.device).table
        return ops.loss(
            prediction, batch.x0, self._required(table, "table"), batch.timesteps, batch.sample_ids, batch.key,
            batch.fixed_ids, reduction=reduction,
        )  # fmt: skip

    def noisy(self, x0: Tensor, fixed_ids: Tensor, key: Tensor) -> Tensor:
        """x0 + sigma_n / alpha_n * fixed noise: an ambient objective's noisy items, for ``noise(noisy_x0=...)``."""
        if self._ambient_level is None:
            raise InputError("noisy", expected="an objective with an ambient target", received="one without")
        alpha_n, sigma_n = self._ambient_level
        row = torch.tensor([[1, sigma_n / alpha_n, 0, 0, 0, 0, 0]], dtype=torch.float32, device=x0.device)
        return ops.noise(x0, row, torch.zeros_like(fixed_ids), fixed_ids, key, fixed_ids)

    def set_step(self, step: int) -> None:
        """Take up the density of a training step, where ``timesteps`` follows a ``DensitySchedule``.

        Call it between compiled steps. Thresholds, and the table of a weight that depends on the density, are rewritten
        in place. A density that is the same at every step costs nothing.
        """
        density = self.density.at(step)
        if density is not self.density and density != self._current:
            self._current = density
            self._redraw()

    def observe(self, batch: Batch, losses: Tensor) -> None:
        """Tell a density that learns from losses what a step came to, and take up its new probabilities.

        Other densities are told nothing. With ``torch.distributed`` every rank learns the losses of all. It waits for
        the device: call it every so many steps if that counts.

        Args:
            batch: the batch.
            losses: float32 ``[B]``, of ``loss(..., reduction="none")``; what the density puts into the loss weight is
                divided out.
        """
        if not self.density.learns_from_losses:
            return
        timesteps, values = gathered(batch.timesteps, losses, batch.sample_ids)
        probabilities = self.probabilities
        factor = self.loss_weight.density_factor(probabilities)
        if factor is not None:
            values = values / factor[timesteps]
        self.density.update(len(probabilities), timesteps, values)
        self._redraw()

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside ``to_dict``: the state of a density that learns; empty for every other."""
        return {name: torch.from_numpy(array) for name, array in self.density.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up ``state_dict``'s state."""
        if self.density.learns_from_losses:
            self.density.load_state_dict({name: tensor.numpy() for name, tensor in state.items()})
            self._redraw()

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

    def _make_tables(self) -> ObjectiveTables:
        if isinstance(self.schedule, ContinuousSchedule):
            if self.density.changes_while_training:
                received = f"the continuous {self.schedule}"
                raise InputError(
                    "timesteps",
                    expected="a schedule of rows for a density that changes while training",
                    received=received,
                )
            if self.loss_weight.by_row:
                raise InputError(
                    "loss_weight", expected="a weight by noise level, on a continuous schedule",
                    received=self.loss_weight.name, do="It weights timesteps, and there are none.",
                )  # fmt: skip
            return continuous_tables(self.density)
        probabilities, changing = self.probabilities, self.density.changes_while_training
        alpha, sigma = torch.from_numpy(self.schedule.alpha.copy()), torch.from_numpy(self.schedule.sigma.copy())
        table = self._rows(alpha, sigma, torch.from_numpy(probabilities))
        needed = None if changing else torch.from_numpy(probabilities > 0)
        time = None if self.schedule.family == "vp" else network_time(self.schedule.family, alpha, sigma)
        draws = padded_thresholds(probabilities) if changing else torch.from_numpy(thresholds(probabilities))
        return ObjectiveTables(draws, checked_float32(table, needed), time)

    def _redraw(self) -> None:
        """Take up the density's probabilities of now, in place; few weights make the table depend on them."""
        if self.loss_weight.depends_on_density:
            rewrite(self._tables, self._make_tables())
        else:
            rewrite(self._tables, ObjectiveTables(padded_thresholds(self.probabilities)))

    def _rows(self, alpha: Tensor, sigma: Tensor, probabilities: Tensor | None) -> Tensor:
        weight = self.loss_weight.on_prediction(alpha, sigma, self.prediction_type, self.sigma_data, probabilities)
        ambient = self.ambient or Ambient(sigma=1.0)
        return rows(
            alpha, sigma, weight, self.prediction_type, sigma_data=self.sigma_data,
            ambient_level=self._ambient_level, compensate=ambient.compensate, margin=ambient.margin,
        )  # fmt: skip

    def _required(self, value: Tensor | None, what: str) -> Tensor:
        if value is None:
            raise InputError(what, expected="a schedule of rows", received=f"the continuous {self.schedule}")
        return value
