"""What was run: the model, the sampler, versions, machine, hashes."""

from collections.abc import Iterator, Mapping
from typing import Any

from memfast.foundation.values import plain
from memfast.reports.markup import Markup, folded, join, table
from memfast.results.trace import TraceFigures


def made(trace: TraceFigures) -> Markup:
    """One table of what was traced, one of what it ran on."""
    first = [*_flat(plain(trace.source)), *_flat(plain(trace.sampler), "sampler: ")]
    second = list(_flat(plain(trace.provenance)))
    return join(
        table(["What", "Value"], [list(row) for row in first]),
        folded("Versions, machine, content hashes", table(["What", "Value"], [list(row) for row in second]))
        if second
        else None,
    )


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in (values or {}).items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}: ")
        elif value is not None:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
