"""The gallery of pairs: its controls, and the data its script pages through."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memfast.reports.markup import Markup, join, tag
from memfast.reports.run import Pictures, ReportRun
from memfast.reports.sections.classes import class_name
from memfast.reports.sprites import COLUMNS, PER_SHEET, drawable, sprite_sheets
from memfast.results import AuditFigures

DIGITS = 4
WITHOUT_SCRIPT = "The gallery needs scripts. All pairs are in pairs.csv beside this page."


def gallery(runs: Sequence[ReportRun]) -> Markup | None:
    """The controls and an empty grid; the script fills it page by page."""
    shown = [run for run in runs if run.pairs]
    if not shown:
        return None
    return join(
        tag(
            "p",
            "Each generated sample beside the training item it is nearest to, and their difference, brightened. Worst "
            "first: more criteria fire, then the lower ratio of distances.",
        ),
        tag(
            "div",
            tag("label", "Run ", tag("select", id="gallery-run")) if len(shown) > 1 else None,
            tag("label", "Show ", tag("select", id="gallery-filter")),
            tag("label", "Order ", tag("select", id="gallery-order")),
            tag("label", "Search names ", tag("input", type="search", id="gallery-search", autocomplete="off")),
            _brightness(),
            class_="toolbar",
        ),
        tag("div", "", id="gallery-grid", class_="pairs"),
        tag(
            "div",
            tag("button", "Previous", type="button", id="gallery-back"),
            tag("label", "Page ", tag("input", type="number", id="gallery-page", min="1", value="1")),
            tag("span", "", id="gallery-place", role="status"),
            tag("button", "Next", type="button", id="gallery-on"),
            class_="toolbar pager",
        ),
        tag("noscript", tag("p", WITHOUT_SCRIPT, class_="warning")),
        [tag("p", text, class_="note") for text in _left_out(shown)],
    )


def gallery_data(runs: Sequence[ReportRun]) -> list[dict[str, Any]]:
    """What the script reads: per run its pairs and the sheets with their pictures."""
    return [_run_data(run) for run in runs if run.pairs]


def _brightness() -> Markup:
    slider = tag("input", type="range", id="gallery-gain", min="1", max="16", value="4")
    return tag("label", "Brighten ", slider, tag("output", "4 x", id="gallery-gain-text"))


def _run_data(run: ReportRun) -> dict[str, Any]:
    entries = run.audit.applicable if run.audit is not None else ()
    names = [entry.name for entry in entries]
    return {
        "label": run.label,
        "criteria": [[entry.name, entry.title, entry.copies_are_low] for entry in entries],
        "pairs": [_pair(row, names, run.audit) for row in run.pairs],
        **(_pictures(run.pictures) if run.pictures is not None else {"kind": "values"}),
    }


def _pair(row: Mapping[str, Any], names: Sequence[str], audit: AuditFigures | None) -> list[Any]:
    """[generated name, training name, distance, ratio, numbers of the criteria that fire, scores]."""
    fired = str(row["criteria"]).split()
    return [
        _name(row, "generated", audit), _name(row, "training", audit),
        _rounded(row["distance"]), _rounded(row["ratio"]),
        [number for number, name in enumerate(names) if name in fired],
        [_rounded(row.get(f"score_{name}")) for name in names],
    ]  # fmt: skip


def _name(row: Mapping[str, Any], side: str, audit: AuditFigures | None) -> str:
    index, name, label = row[side], str(row[f"{side}_name"]), row.get(f"{side}_label")
    text = f"{index}" if name == str(index) else f"{index}: {name}"
    return text if label is None else f"{text} ({class_name(audit, label)})"


def _pictures(pictures: Pictures) -> dict[str, Any]:
    if pictures.kind == "signals":
        low = float(min(pictures.generated.min(), pictures.training.min()))
        high = float(max(pictures.generated.max(), pictures.training.max()))
        scale = 1000 / ((high - low) or 1.0)
        return {
            "kind": "signals",
            "generated": np.rint((pictures.generated - low) * scale).astype(int).tolist(),
            "training": np.rint((pictures.training - low) * scale).astype(int).tolist(),
        }
    generated, training = drawable(pictures.generated), drawable(pictures.training)
    height, width = generated.shape[1:3]
    return {
        "kind": "images",
        "width": width,
        "height": height,
        "columns": COLUMNS,
        "per_sheet": PER_SHEET,
        "count": len(generated),
        "generated": sprite_sheets(generated),
        "training": sprite_sheets(training),
    }


def _left_out(runs: Sequence[ReportRun]) -> list[str]:
    return [
        f"{run.label}: the {len(run.pairs):,} worst of {run.total_pairs:,} pairs are shown; all are in pairs.csv."
        for run in runs
        if run.total_pairs > len(run.pairs)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
