"""The sections of a trace's page, in order: one row each. A section without data gives None and is left out."""

from collections.abc import Callable

from memfast.reports.markup import Markup
from memfast.reports.trace_sections.coefficients import coefficients
from memfast.reports.trace_sections.detection import detection
from memfast.reports.trace_sections.deviation import deviation
from memfast.reports.trace_sections.glance import glance
from memfast.reports.trace_sections.guidance import guidance
from memfast.reports.trace_sections.made import made
from memfast.reports.trace_sections.rows import rows
from memfast.reports.trace_sections.trajectories import alignment, branch_gap, diversity, losses
from memfast.results.trace import TraceFigures

TRACE_SECTIONS: tuple[tuple[str, str, Callable[[TraceFigures], Markup | None]], ...] = (
    ("glance", "At a glance", glance),
    ("coefficients", "What the states are made of", coefficients),
    ("deviation", "Deviation and similarity", deviation),
    ("diversity", "Diversity", diversity),
    ("losses", "Loss along the trajectory", losses),
    ("gap", "What the condition adds", branch_gap),
    ("alignment", "Directions", alignment),
    ("guidance", "Guidance and overestimation", guidance),
    ("detection", "Detectors", detection),
    ("rows", "Every condition and seed", rows),
    ("made", "What was run", made),
)

__all__ = ["TRACE_SECTIONS"]
