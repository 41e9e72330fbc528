"""What a report is made of. Plain data: nothing here computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from memfast.results import AuditFigures, read_figures


@dataclass(frozen=True)
class Pictures:
    """Pictures of pairs, in the order of the pairs.

    Attributes:
        kind: "images" (uint8 ``[P, H, W]`` or ``[P, H, W, C]``) or "signals" (float ``[P, L]``).
        generated: the generated samples.
        training: the training items beside them.
    """

    kind: str
    generated: np.ndarray
    training: np.ndarray


@dataclass(frozen=True)
class ReportRun:
    """One run of a report: an audit, how its model was trained, how its samples score. Each part may be missing.

    Attributes:
        label: what to call it.
        audit: the figures of an audit, ``AuditResult.found``; plain values, as ``AuditResult.figures`` holds them, are
            read into it.
        pairs: rows of its table of pairs, worst first.
        total_pairs: how many pairs there are in all.
        pictures: pictures of the first pairs.
        training: ``steps`` and ``loss`` (equal lengths), maybe ``held_out_steps`` and ``held_out_loss``; ``density``
            and ``contribution`` (one value per timestep: where learning happened); ``audits`` while training, with
            ``steps``, ``fraction``, ``low``, ``high`` and ``floor`` (or None); ``facts``, names and values to list.
        metrics: distribution metrics by name, as `MetricResult.to_dict` gives them: ``value`` and maybe ``interval``,
            ``floor``, ``better``, ``copying``, ``summary``.
    """

    label: str
    audit: AuditFigures | None = None
    pairs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    total_pairs: int = 0
    pictures: Pictures | None = None
    training: Mapping[str, Any] | None = None
    metrics: Mapping[str, Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.audit, Mapping):
            object.__setattr__(self, "audit", read_figures(self.audit))
