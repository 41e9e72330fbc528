"""An audit while training: sample a few, search the training set, log the curve, stop or steer."""

import math
from typing import Any

import numpy as np
import torch

from memfast.criteria import Criterion, Evidence, Judgement, NnRatio, criterion_named
from memfast.data import Source, open_source
from memfast.data.canaries import Canaries, WithCanaries
from memfast.data.subset import Subset
from memfast.foundation.arguments import finite_number, seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.foundation.proportions import wilson
from memfast.neighbors import exact_duplicates, knn
from memfast.objective import DenoisingObjective
from memfast.sampling.steps import CONTINUOUS_LEVELS
from memfast.schedules import Schedule
from memfast.training.control import Control, Steering
from memfast.training.hooks import Hook
from memfast.training.state import RunState

# The default interval spends about this share of the training's network evaluations on monitoring.
COST_SHARE = 0.03
# A training step costs about three evaluations of the network per sample: forward, and twice as much backward.
EVALUATIONS_PER_DRAW = 3
WITHIN_BUDGET = "within-budget"
LEAST_NEIGHBOURS = 2
BYTE_RANGE = 255.0


class Monitor(Hook):
    """Every so many steps: DDIM samples of the averaged weights, their nearest training items, the memorized fraction.

    The same seed and sample ids are used each time, so the curve shows the network's change and not the draw's. Exact
    duplicates among the training items are collapsed first. An audit adds one entry to the run's log: ``memorized``
    (the fraction), ``memorized_low`` and ``memorized_high`` (its 95 % Wilson interval), ``memorized_count``,
    ``memorized_total``, ``memorized_floor`` (held-out items through the same test, or null), ``nearest`` (the mean RMS
    distance to the nearest training item, in the units of ``Absolute``'s threshold), ``control_mean`` under
    ``control``, and ``canaries``
    (for each, the samples that copy it).

    Args:
        every: steps between audits; None spends about 3 % of the training's network evaluations, and of its reading
            where the data are not held on the device. A shorter run has no audit, but with ``stop_when_memorized`` or
            ``control`` it has one after its last step.
        samples: samples per audit.
        steps: DDIM steps per sample.
        held_out: data of the same kind that is not trained on, for the floor; the first ``samples`` are used.
        criterion: what counts as memorized: one that needs distances alone, by default ``NnRatio()``. The threshold of
            ``Absolute`` is in units of the range 0..255 for uint8, in the data's own units for floats. Or its name.
        neighbours: neighbours per sample; None: as many as the criterion looks at.
        stop_when_memorized: end the run when the fraction exceeds this; the last checkpoint at or below it is kept as
            ``within-budget`` (``memfast.models.load_run(folder, checkpoint="within-budget")``).
        control: hold the fraction at a target by moving the confidence interval; see ``Control``.
        canaries: the canaries that the data contain; None: those of ``canaries.added_to(data)``.
        seed: of the samples.
    """

    name = "monitor"

    def __init__(
        self,
        *,
        every: int | None = None,
        samples: int = 200,
        steps: int = 20,
        held_out: Any = None,
        criterion: Criterion | str | None = None,
        neighbours: int | None = None,
        stop_when_memorized: float | None = None,
        control: Control | None = None,
        canaries: Canaries | None = None,
        seed: int = 0,
    ) -> None:
        self._asked_every = self.every = None if every is None else whole_number("monitor every", every, least=1)
        self.samples, self.steps = (
            whole_number(f"monitor {what}", value, least=1) for what, value in (("samples", samples), ("steps", steps))
        )
        if stop_when_memorized is not None:
            stop_when_memorized = finite_number("stop_when_memorized", stop_when_memorized, least=0, below=1)
        self.seed = seed_number("monitor seed", seed)
        self.held_out = None if held_out is None else open_source(held_out)
        self.criterion = _criterion(criterion)
        self._clipped = neighbours is None
        needed = max(LEAST_NEIGHBOURS, self.criterion.neighbours) if neighbours is None else neighbours
        self._asked_neighbours = self.neighbours = whole_number("monitor neighbours", needed, least=1)
        _check_criterion(self.criterion, self.neighbours)
        for name, value, kind in (("control", control, Control), ("canaries", canaries, Canaries)):
            if value is not None and not isinstance(value, kind):
                raise InputError(f"monitor {name}", expected=f"a {kind.__name__}", received=repr(value)[:80])
        self.stop_when_memorized, self.control = stop_when_memorized, control
        self._asked_canaries = self.canaries = canaries
        self._steering: Steering | None = None
        self._floor: float | None = None
        self.curve: list[dict[str, Any]] = []

    def describe(self) -> dict[str, Any]:
        """Its settings, for ``run.json``."""
        return {
            "name": self.name, "every": self._asked_every, "samples": self.samples, "steps": self.steps,
            "seed": self.seed, "criterion": {"name": self.criterion.name} | self.criterion.parameters(),
            "neighbours": self._asked_neighbours,
            "stop_when_memorized": self.stop_when_memorized,
            "control": None if self.control is None else vars(self.control).copy(),
            "canaries": None if self._asked_canaries is None else self._asked_canaries.describe(),
        }  # fmt: skip

    def prepare(self, objective: DenoisingObjective) -> DenoisingObjective:
        """With ``control``, an objective whose interval can move. What an earlier run left here is forgotten."""
        self.every, self.neighbours, self.canaries = self._asked_every, self._asked_neighbours, self._asked_canaries
        self.curve, self._floor, self._steering = [], None, None
        if self.control is None:
            return objective
        self._steering = Steering(self.control, objective)
        return self._steering.objective

    def check(self, run: RunState) -> None:
        """Raise where held-out items are of another kind, or an audit's samples could not be drawn."""
        if self.held_out is not None:
            _check_held_out(self.held_out, run.source)
        schedule = run.objective.schedule
        total = len(schedule) if isinstance(schedule, Schedule) else CONTINUOUS_LEVELS
        do = f"The schedule has {total} timesteps."
        whole_number("monitor steps", self.steps, least=1, greatest=total, do=do)

    def begin(self, run: RunState) -> None:
        """Collapse duplicates and judge the held-out items, once."""
        source = run.source
        if self.every is None:
            read = 0 if run.loader.resident else len(source)
            self.every = default_interval(self.samples, self.steps, run.batch_size, read)
            if self.stop_when_memorized is not None or self.control is not None:
                self.every = min(self.every, run.steps)
        budget = self.stop_when_memorized
        if budget is not None and self.curve and self.curve[-1]["memorized"] > budget:
            # The audit that ended the run is behind it: further steps would be beyond the budget.
            run.stop("memorized")
        if not run.ranks.is_main or self.every > run.steps:
            return
        representative = exact_duplicates(source).representative
        kept = np.flatnonzero(representative == np.arange(len(representative)))
        self._database = source.take(kept) if run.loader.resident else Subset(source, kept)
        if self._clipped:
            self.neighbours = max(LEAST_NEIGHBOURS, min(self.neighbours, len(self._database)))
        if len(self._database) < self.neighbours:
            raise InputError(
                "monitor", expected=f"at least {self.neighbours} different training items",
                received=str(len(self._database)), do="Train without the monitor.",
            )  # fmt: skip
        if isinstance(source, WithCanaries):
            self.canaries = self.canaries or source.canaries
        if self.canaries is not None:
            first = len(source) - self.canaries.repeats[::-1].cumsum()[::-1]
            self._canary_places = np.searchsorted(kept, representative[first])
        if self.held_out is not None:
            judged = self._judge(self.held_out.block(0, min(self.samples, len(self.held_out))))[0]
            self._floor = float(judged.flags.mean())

    def after_step(self, run: RunState) -> None:
        """Audit when it is time."""
        assert self.every is not None
        if run.step % self.every == 0:
            self.audit(run)

    def audit(self, run: RunState) -> dict[str, Any]:
        """Audit now; returns the log entry."""
        entry: dict[str, Any] = {"step": run.step}
        counted = torch.zeros(2, dtype=torch.float64, device=run.device)
        # A sharded network can only run on all ranks at once.
        drawn = self.draw(run) if run.ranks.is_main or run.sharded else None
        if run.ranks.is_main and drawn is not None:
            judgement, evidence = self._judge(drawn)
            counted += torch.tensor([judgement.flags.sum(), len(judgement.flags)]).to(counted)
            entry |= self._entry(judgement, evidence)
        count, total = (int(value) for value in run.ranks.sum(counted).tolist())
        fraction, interval = count / total, wilson(count, total)
        entry |= {
            "memorized": fraction, "memorized_low": interval[0], "memorized_high": interval[1],
            "memorized_count": count, "memorized_total": total, "memorized_floor": self._floor,
        }  # fmt: skip
        if self._steering is not None:
            self._steering.steer(run.step, fraction, interval)
            entry["control_mean"] = self._steering.mean
        self.curve.append(entry)
        run.log(entry)
        if self.stop_when_memorized is not None:
            if fraction > self.stop_when_memorized:
                run.stop("memorized")
            else:
                run.save(name=WITHIN_BUDGET)
        return entry

    def draw(self, run: RunState) -> np.ndarray:
        """The audit's samples, as items of the data."""
        return run.sample(self.samples, steps=self.steps, seed=self.seed)

    def state(self) -> dict[str, Any]:
        """The curve and the moves so far."""
        control = None if self._steering is None else self._steering.state()
        return {"every": self.every, "curve": self.curve, "control": control}

    def load(self, state: dict[str, Any]) -> None:
        """Take back ``state``."""
        self.every, self.curve = state["every"], list(state["curve"])
        if self._steering is not None:
            self._steering.load(state["control"])

    def _judge(self, items: np.ndarray) -> tuple[Judgement, Evidence]:
        if not np.isfinite(items).all():
            # A network that has diverged copies nothing; its items stand for far away.
            items = np.nan_to_num(items, nan=0.0, posinf=1e6, neginf=-1e6)
        found = knn(items, self._database, k=self.neighbours, distributed=False)
        values = int(np.prod(items.shape[1:]))
        unit = BYTE_RANGE if items.dtype == np.uint8 else 1.0
        evidence = Evidence(np.asarray(found.squared_distances), np.asarray(found.indices), values, unit)
        return self.criterion.judge(evidence), evidence

    def _entry(self, judgement: Judgement, evidence: Evidence) -> dict[str, Any]:
        entry: dict[str, Any] = {"nearest": float(evidence.rms().mean())}
        if self.canaries is not None:
            copied = judgement.partners[judgement.flags]
            entry["canaries"] = [int((copied == place).sum()) for place in self._canary_places]
        return entry


def default_interval(samples: int, steps: int, batch_size: int, read: int = 0) -> int:
    """Steps between audits that cost ``COST_SHARE`` of the training's network evaluations, and of the items it reads.

    Args:
        samples: samples per audit.
        steps: network evaluations per sample.
        batch_size: of the training.
        read: items that an audit must read from the source; 0 where they are in memory.

    >>> default_interval(200, 20, 64), default_interval(200, 20, 64, read=1_000_000)
    (695, 520834)
    """
    evaluations = samples * steps / EVALUATIONS_PER_DRAW
    return math.ceil(max(evaluations, read) / (batch_size * COST_SHARE))


def _criterion(criterion: Any) -> Criterion:
    if criterion is None:
        return NnRatio()
    if isinstance(criterion, str):
        return criterion_named(criterion, what="monitor criterion")
    if not isinstance(criterion, Criterion):
        raise InputError("monitor criterion", expected="a criterion, like NnRatio(0.4)", received=repr(criterion)[:80])
    return criterion


def _check_criterion(criterion: Criterion, neighbours: int) -> None:
    """Raise where a criterion asks for more than distances."""
    if criterion.why_not(Evidence(np.ones((1, neighbours)), np.zeros((1, neighbours), np.int64), 1)) is not None:
        received = f"{criterion.name!r} with neighbours={neighbours}"
        raise InputError("monitor criterion", expected="one of distances alone, like 'nn_ratio'", received=received)


def _check_held_out(held_out: Source, training: Source) -> None:
    expected, received = (f"{np.dtype(s.dtype).name} items {s.item_shape}" for s in (training, held_out))
    if expected != received:
        raise InputError("held_out", expected=expected, received=received)
