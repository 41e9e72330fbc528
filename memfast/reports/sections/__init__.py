"""The sections of a report, in order: one file and one row each. A section without data gives None and is left out."""

from collections.abc import Callable, Sequence

from memfast.reports.markup import Markup
from memfast.reports.run import ReportRun
from memfast.reports.sections.canaries import canaries
from memfast.reports.sections.classes import classes
from memfast.reports.sections.criteria import criteria
from memfast.reports.sections.distribution import distribution
from memfast.reports.sections.gallery import gallery
from memfast.reports.sections.glance import glance
from memfast.reports.sections.learning import learning, training
from memfast.reports.sections.made import made
from memfast.reports.sections.metrics import metrics
from memfast.reports.sections.power import power

SECTIONS: tuple[tuple[str, str, Callable[[Sequence[ReportRun]], Markup | None]], ...] = (
    ("glance", "How much was copied", glance),
    ("pairs", "Which samples copy which training items", gallery),
    ("criteria", "Copies over thresholds", criteria),
    ("learning", "Where learning happened", learning),
    ("training", "How training went", training),
    ("classes", "Copies by class", classes),
    ("canaries", "Which canaries came back", canaries),
    ("power", "What this audit would have found", power),
    ("distribution", "Where the sets lie", distribution),
    ("metrics", "Distribution metrics", metrics),
    ("made", "What was run", made),
)

__all__ = ["SECTIONS"]
