"""``run.json``: what a run is, and the first field in which two runs differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memfast.foundation import provenance
from memfast.foundation.errors import CheckpointError
from memfast.models.checkpoints import read_run

# What must agree for a resumed run to be the uninterrupted one; the rest of run.json says how it came about.
DECISIVE = ("model", "objective", "data", "training")
RUN_FORMAT = 1


def describe(
    *, model: dict[str, Any] | None, objective: Any, data: dict[str, Any], training: dict[str, Any]
) -> dict[str, Any]:
    """The content of ``run.json``."""
    return {
        "format": RUN_FORMAT,
        "model": model,
        "objective": objective.to_dict(),
        "schedule": objective.schedule.to_dict(),
        "prediction_type": objective.prediction_type,
        "sigma_data": float(getattr(objective, "sigma_data", 0.5)),
        "data": data,
        "training": training,
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
    }


def check_same_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise unless ``settings`` describe the run in ``folder``.

    Raises:
        CheckpointError: a field differs, and the text names it with both values; or ``run.json`` is damaged.
    """
    found, settings = read_run(folder), dict(settings)
    if None in (found["data"].get("hash"), settings["data"].get("hash")):
        # Data are hashed where they fit the memory, and the memory that is free may differ.
        found["data"], settings["data"] = ({**side["data"], "hash": None} for side in (found, settings))
    else:
        # The hash says whether the data are the same, wherever they lie now.
        found["data"] = {**found["data"], "name": settings["data"].get("name")}
    for field in DECISIVE:
        difference = first_difference(found.get(field), settings[field], field)
        if difference:
            raise CheckpointError(
                f"{folder}: this run cannot be resumed: {difference}. Give the same arguments, or start another run "
                "from its weights with start=."
            )


def first_difference(old: Any, new: Any, path: str) -> str | None:
    """The first place where two plain values differ, or None.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]}, "run")
    'run.a[1] is 2 in the checkpoint and 3 now'
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(name for name in new if name not in old)]:
            if name not in old or name not in new:
                where, value = ("the checkpoint", old[name]) if name in old else ("this run", new[name])
                return f"only {where} has {path}.{name} ({value!r})"
            difference = first_difference(old[name], new[name], f"{path}.{name}")
            if difference:
                return difference
        return None
    if isinstance(old, list) and isinstance(new, (list, tuple)) and len(old) == len(new):
        differences = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=True)))
        return next((difference for difference in differences if difference), None)
    if isinstance(old, list) and isinstance(new, (list, tuple)):
        return f"{path} has {len(old)} entries in the checkpoint and {len(new)} now"
    return None if old == new else f"{path} is {old!r} in the checkpoint and {new!r} now"
