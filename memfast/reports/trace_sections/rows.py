"""Every condition and every seed as tables that the page's script sorts, filters and pages through."""

from collections.abc import Sequence
from typing import Any

from memfast.reports.markup import Markup, folded, join, tag
from memfast.results.trace import NearestItem, TraceFigures

MOST_ROWS = 20_000
DIGITS = 5
WITHOUT_SCRIPT = "The tables need scripts. All rows are in trace.csv beside this page."
CHOICES = (("", "all"), ("yes", "memorized"), ("no", "others"))
KINDS = {True: "yes", False: "no", None: ""}

Table = dict[str, Any]


def rows(trace: TraceFigures) -> Markup:
    """Two empty tables with their controls; the script fills them."""
    tables = tables_data(trace)
    return join(
        tag("p", "A click on a heading sorts by it. The numbers are means over the seeds."),
        _widget("conditions", "Conditions", tables["conditions"]),
        folded("Every seed of every condition", _widget("seeds", "Seeds", tables["seeds"])),
        tag("noscript", tag("p", WITHOUT_SCRIPT, class_="warning")),
        tag("p", f"The {MOST_ROWS:,} seeds of the first conditions are shown; all are in trace.csv.", class_="note")
        if tables["seeds"]["total"] > MOST_ROWS
        else None,
    )


def tables_data(trace: TraceFigures) -> dict[str, Table]:
    """What the script reads: columns (title, whether numbers) and rows of each table."""
    names = list(dict.fromkeys(name for one in trace.conditions for name in one.detectors))
    columns = [
        ("Condition", False), ("Label", True), ("Memorized", False), ("D1", True), ("D2", True), ("Similarity", True),
        ("Overestimation", True), ("Normalised loss", True), *((name, True) for name in names),
    ]  # fmt: skip
    lines = [
        [
            one.name, one.label, KINDS[one.memorized], _number(one.d1), _number(one.d2),
            _number(one.similarity.mean), _number(one.overestimation), _number(one.normalised_loss),
            *(_number(one.detectors.get(name)) for name in names),
        ]
        for one in trace.conditions
    ]  # fmt: skip
    each = [
        [
            one.name, KINDS[one.memorized], seed.seed, _number(seed.d1), _number(seed.d2), _number(seed.similarity),
            *_nearest(seed.nearest),
        ]
        for one in trace.conditions
        for seed in one.seeds
    ]  # fmt: skip
    of_seeds = [
        ("Condition", False), ("Memorized", False), ("Seed", True), ("D1", True), ("D2", True), ("Similarity", True),
        ("Nearest item", True), ("Its distance (RMS)", True),
    ]  # fmt: skip
    return {"conditions": _table(columns, lines), "seeds": _table(of_seeds, each)}


def _table(columns: Sequence[tuple[str, bool]], lines: Sequence[Sequence[Any]]) -> Table:
    """Columns without a single value are left out."""
    kept = [at for at in range(len(columns)) if at == 0 or any(line[at] not in (None, "") for line in lines)]
    return {
        "columns": [list(columns[at]) for at in kept],
        "rows": [[line[at] for at in kept] for line in lines[:MOST_ROWS]],
        "total": len(lines),
    }


def _nearest(item: NearestItem | None) -> tuple[int | None, float | None]:
    return (None, None) if item is None else (item.index, _number(item.rms))


def _number(value: Any) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _widget(name: str, caption: str, content: Table) -> Markup:
    """A search field, the table, and a pager; ids begin with the table's name."""
    kinds = any(title == "Memorized" for title, _ in content["columns"])
    choices = [tag("option", text, value=value) for value, text in CHOICES]
    return tag(
        "div",
        tag(
            "div",
            tag("label", "Name contains ", tag("input", type="search", id=f"{name}-search")),
            tag("label", "Show ", tag("select", choices, id=f"{name}-filter")) if kinds else None,
            class_="toolbar",
        ),
        tag("div", tag("table", tag("caption", caption), id=f"{name}-table"), class_="scroll"),
        tag(
            "div",
            tag("button", "Previous", type="button", id=f"{name}-back"),
            tag("span", "", id=f"{name}-place", role="status"),
            tag("button", "Next", type="button", id=f"{name}-on"),
            class_="toolbar pager",
        ),
        class_="sortable",
        id=name + "-box",
    )
