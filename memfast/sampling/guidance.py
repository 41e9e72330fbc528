"""Guidance that changes along the trajectory: none, or the opposite, until a memorized item has let go of the state.

A memorized condition pulls hardest in the first steps; guidance that begins later lets the state leave before that.
A rule is the ``guidance=`` of a sampler or, by ``memfast.integrations.guided_by``, of a diffusers pipeline.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry
from memfast.sampling.denoiser import Guidance
from memfast.sampling.steps import Level


class Rule:
    """Base of the rules here: ``begin`` for every batch, then ``scale`` for every state in order.

    Attributes:
        options: the arguments it was made with, by name, as Python's own numbers.
    """

    name: ClassVar[str]
    _count: int
    _first: int | None

    def __init__(self, **options: Any) -> None:
        self.options = {what: None if value is None else _number(what, value) for what, value in options.items()}

    def begin(self, count: int) -> None:
        """A batch of ``count`` samples starts."""
        self._count = count
        self._first = None
        self._reset()

    def scale(self, level: Level, gap: torch.Tensor) -> torch.Tensor:
        """The guidance scales ``[B]`` in a state at ``level``, given the branches' distance ``gap`` there."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """What ``choose_guidance`` makes the rule from again."""
        return {"name": self.name, **self.options}

    def _reset(self) -> None:
        """Forget the last batch."""

    def _has_reached(self, point: float | int, level: Level) -> bool:
        """Whether the state's timestep has fallen to ``point``: a timestep, or a share of the first state's."""
        timestep = 0 if level.timestep is None else level.timestep
        if self._first is None:
            self._first = timestep
        return timestep <= (point if isinstance(point, int) else point * self._first)


class Delayed(Rule):
    """``before`` until the state's timestep falls to ``until``, then ``scale``: a static transition point.

    Args:
        until: a timestep (int), or a share of the first state's timestep (float, 0 to 1). At it ``scale`` holds.
        scale: the guidance from there on.
        before: the guidance up to there: 0 leaves the condition out, a negative number is opposite guidance.

    Source: Jain et al. 2025 (CVPR), "Classifier-Free Guidance inside the Attraction Basin May Cause Memorization";
    SonyResearch/mitigating_memorization. There, of 1,000 timesteps and with scale 7.5: ``before=0`` until 500
    (LAION-10k) or 600 to 700 (Imagenette); opposite guidance ``before=-2`` until 650.

    >>> rule, gap = Delayed(until=0.5, scale=7.5), torch.zeros(1)
    >>> rule.begin(1)
    >>> [rule.scale(Level(t, t, 0.6, 0.8), gap).item() for t in (900, 460, 450)]
    [0.0, 0.0, 7.5]
    """

    name = "delayed"

    def __init__(self, until: float | int, scale: float, before: float = 0.0) -> None:
        super().__init__(until=_point("until", until), scale=scale, before=before)
        self.until, self.after, self.before = until, float(scale), float(before)

    def scale(self, level: Level, gap: torch.Tensor) -> torch.Tensor:
        """``scale`` or ``before`` for all samples."""
        value = self.after if self._has_reached(self.until, level) else self.before
        return torch.full((self._count,), value, dtype=torch.float64, device=gap.device)


class DynamicTransition(Rule):
    """``before`` until a sample's branch gap ``|eps(x, c) - eps(x)|_2`` passes its first local minimum, then ``scale``.

    The minimum is seen one state later: the gap fell, and now it rises. The switch is made in that state, sample by
    sample, and is final. A gap that rises from the start has to fall first. A sample whose gap falls to the end never
    gets ``scale``, unless ``latest`` says when to give it at the latest.

    A sampler that asks twice at one timestep (Heun's: for its trial point, then for the state) counts as one: the later
    gap takes the place of the earlier one, and what the trial point decided is decided again.

    Args:
        scale: the guidance after the switch.
        before: the guidance up to it. The paper's text says 0, its script uses 1 (the condition without guidance).
        latest: switch at this timestep (int) or share of the first state's timestep (float) at the latest; None never.

    Source: Jain et al. 2025 (CVPR), SonyResearch/mitigating_memorization, generate_test_dataset_dtp.py.
    """

    name = "dynamic"
    _gaps: list[torch.Tensor]
    _timestep: int | None
    _settled: torch.Tensor
    _switched: torch.Tensor

    def __init__(self, scale: float, before: float = 0.0, latest: float | int | None = None) -> None:
        super().__init__(scale=scale, before=before, latest=None if latest is None else _point("latest", latest))
        self.after, self.before, self.latest = float(scale), float(before), latest

    def scale(self, level: Level, gap: torch.Tensor) -> torch.Tensor:
        """``scale`` for the samples that have switched, ``before`` for the others."""
        late = self.latest is not None and self._has_reached(self.latest, level)
        if self._gaps and level.timestep == self._timestep:
            self._gaps[-1] = gap
        else:
            # Only now is the former state's decision final.
            self._settled = self._switched.to(gap.device)
            self._gaps = [*self._gaps[-2:], gap]
            self._timestep = level.timestep
        self._switched = self._settled | self._passed_minimum() | late
        return torch.where(self._switched, self.after, self.before).double()

    def _passed_minimum(self) -> torch.Tensor:
        if len(self._gaps) < 3:
            return torch.zeros_like(self._settled)
        fell, rises = self._gaps[-2] < self._gaps[-3], self._gaps[-1] > self._gaps[-2]
        return fell & rises

    def _reset(self) -> None:
        self._gaps = []
        self._timestep = None
        self._settled = self._switched = torch.zeros(self._count, dtype=torch.bool)


GUIDANCES: Registry[type[Rule]] = Registry(
    "guidance", (Delayed, DynamicTransition), group="memfast.guidance", base=Rule
)


def choose_guidance(wanted: float | Guidance | Mapping[str, Any]) -> float | Guidance:
    """A guidance as samplers take it.

    Args:
        wanted: a number or a rule, which are given back, or a dictionary: ``name`` of ``GUIDANCES`` and its options.

    Raises:
        InputError: an unknown name or option, a scale that is not finite, something that is neither.

    >>> choose_guidance({"name": "delayed", "until": 0.65, "scale": 7.5, "before": -2}).to_dict()
    {'name': 'delayed', 'until': 0.65, 'scale': 7.5, 'before': -2}
    """
    if isinstance(wanted, Real):
        finite_number("guidance", wanted, words="a finite scale")
        return wanted if isinstance(wanted, int | float) else float(wanted)
    if not isinstance(wanted, Mapping):
        if not callable(getattr(wanted, "scale", None)):
            raise InputError("guidance", expected="a scale, a rule, or a rule's options", received=repr(wanted)[:80])
        return wanted
    return GUIDANCES.build(wanted)


def _number(what: str, value: Any) -> float | int:
    number = finite_number(what, value)
    return value if isinstance(value, int | float) else number


def _point(what: str, value: float | int) -> float | int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value < 0 or (isinstance(value, float) and not value <= 1):
        raise InputError(what, expected="a timestep (int) or a share from 0 to 1 (float)", received=repr(value))
    return value
