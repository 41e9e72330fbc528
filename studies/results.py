"""Committed results: one JSON file a study and size, written whole after every finished job."""

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

from memfast.foundation import provenance
from memfast.runtime.files import read_json, write_json
from studies.study import Size, Study

FOLDER = Path(__file__).parent / "results"
# What a run of the studies itself changes in the checkout.
MADE_HERE = ("studies/results", "docs/evidence.md", "docs/evidence")


def file_of(study: Study, size: Size, folder: Path | None = None) -> Path:
    """Where the results of a study at a size are."""
    return (folder or FOLDER) / f"{study.slug}.{size.name}.json"


def settings_hash(study: Study, size: Size) -> str:
    """Of everything that is set beside the seed."""
    text = json.dumps({"study": study.slug, "settings": size.settings()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read(study: Study, size: Size, folder: Path | None = None) -> dict[str, Any] | None:
    """The results so far, or None."""
    path = file_of(study, size, folder)
    return read_json(path) if path.is_file() else None


def finished_seeds(study: Study, size: Size, folder: Path | None = None) -> set[int]:
    """Seeds whose results were made with these settings."""
    found = read(study, size, folder)
    if found is None or found["settings_hash"] != settings_hash(study, size):
        return set()
    return {run["seed"] for run in found["runs"]}


def entry(seed: int, result: dict[str, Any], seconds: float, cpu_seconds: float) -> dict[str, Any]:
    """One finished job, with what it was made with."""
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": provenance.commit(apart=MADE_HERE),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "result": result,
    }


def add(study: Study, size: Size, run: dict[str, Any], *, fresh: bool, folder: Path | None = None) -> None:
    """Write a finished job into the study's file.

    Args:
        study: the study.
        size: its size.
        run: from ``entry``.
        fresh: begin the file anew, instead of keeping the runs of other seeds with the same settings.
        folder: where the files are.
    """
    found, key = read(study, size, folder), settings_hash(study, size)
    keep = [] if fresh or found is None or found["settings_hash"] != key else found["runs"]
    runs = sorted([*(old for old in keep if old["seed"] != run["seed"]), run], key=lambda one: one["seed"])
    write_json(
        file_of(study, size, folder),
        {
            "study": study.slug,
            "size": size.name,
            "settings": size.settings(),
            "settings_hash": key,
            "runs": runs,
        },
    )
