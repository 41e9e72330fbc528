"""What a study is: one published claim, how it is re-run, and the stated rule by which its verdict follows.

To add one, write a file in this folder, named as its slug, with a module attribute ``STUDY``; it is found by that name.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VERDICTS = ("holds", "holds in part", "not here")

Result = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large a study is run. A study subclasses it with its own fields, as data: numbers, names, tuples.

    Attributes:
        name: ``"quick"`` (minutes on two cores) or ``"full"`` (hours, or a GPU).
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """Every field as plain values; what a result must agree with to be reused."""
        return asdict(self)


@dataclass(frozen=True)
class Table:
    """A table of the page: cells are text, already rounded."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Judgement:
    """What the numbers say of the claim.

    Attributes:
        verdict: one of ``VERDICTS``, computed by the study's stated rule.
        summary: one or two plain sentences made from the numbers.
        tables: the numbers.
        readings: other readings of the claim that were tried, one sentence each, made from the numbers.
        headline: one short sentence for the page's five lines, made from the numbers; empty: the summary.
    """

    verdict: str
    summary: str
    tables: Sequence[Table] = ()
    readings: Sequence[str] = ()
    headline: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict: expected one of {', '.join(VERDICTS)}, received {self.verdict!r}")


@dataclass(frozen=True)
class Study:
    """One claim.

    Attributes:
        number: its place on the page.
        slug: its name in commands and file names.
        title: a few words.
        claim: what the paper says, with its numbers.
        source: paper, and where the numbers come from.
        setup: what is run; ``{field}`` is replaced by the size's field.
        rule: how the verdict follows from the numbers.
        differences: what differs from the paper; ``{field}`` as in ``setup``.
        sizes: one ``quick`` and one ``full``.
        run: (size, seed) -> plain values for JSON, floats finite. It uses one thread and a folder of its own.
        judge: the runs' results, one a seed -> judgement.
        figure: (the runs' results, path of an SVG) -> writes it, with ``studies.figures.axes`` and ``save``.
        caption: what the figure shows, for a reader who sees only it.
    """

    number: int
    slug: str
    title: str
    claim: str
    source: str
    setup: str
    rule: str
    differences: str
    sizes: Sequence[Size]
    run: Callable[[Any, int], Result]
    judge: Callable[[list[Result]], Judgement]
    figure: Callable[[list[Result], Path], None]
    caption: str = ""

    def size(self, name: str) -> Size:
        """The size of this name."""
        for size in self.sizes:
            if size.name == name:
                return size
        raise ValueError(f"{self.slug}: expected a size among {[size.name for size in self.sizes]}, received {name!r}")


def study_of(slug: str) -> Study:
    """The study in the file of this name: a study's slug is its file's."""
    return importlib.import_module(f"studies.{slug}").STUDY


def studies() -> list[Study]:
    """Every study of this folder, by number and slug."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    modules = (importlib.import_module(f"studies.{name}") for name in names)
    found = [module.STUDY for module in modules if hasattr(module, "STUDY")]
    return sorted(found, key=lambda study: (study.number, study.slug))
