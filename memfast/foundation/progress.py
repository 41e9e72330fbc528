"""Progress: a bar on a terminal, plain lines now and then in a pipe, nothing when switched off."""

import sys
import time
from types import TracebackType
from typing import Any

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a task is, its rate and the time left. Use as a context manager.

    Args:
        label: what is being done, for example ``"training"``.
        total: the number of units, or None where it is not known.
        unit: the name of a unit, for example ``"steps"``.
        show: True shows progress, False shows none.

    >>> with Progress("reading", 3, "images", show=False) as progress:
    ...     progress.advance(3)
    """

    def __init__(self, label: str, total: int | None, unit: str, *, show: bool = True) -> None:
        self.label, self.total, self.unit, self.show = label, total, unit, show
        self.done = 0
        self._note = ""
        self._bar: Any = None
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> "Progress":
        self._started = self._last_line = time.monotonic()
        if self.show and sys.stderr.isatty():
            self._bar = _rich_bar()
            self._task = self._bar.add_task(self.label, total=self.total, unit=self.unit, note="")
            self._bar.start()
        return self

    def advance(self, units: int = 1, note: str = "") -> None:
        """Say that ``units`` more are done; ``note`` is shown beside them (a loss, a fraction)."""
        self.done += units
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, advance=units, note=self._note)
        elif self.show and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._print_line()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.show and kind is None:
            self._print_line()

    def _print_line(self) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = self.done / seconds
        line = f"{self.label}: {self.done}" + (f"/{self.total}" if self.total else "") + f" {self.unit}"
        line += f", {rate:.3g} {self.unit}/s"
        if self.total and self.done < self.total and rate > 0:
            line += f", {(self.total - self.done) / rate:.0f} s left"
        print(line + (f", {self._note}" if self._note else ""), file=sys.stderr, flush=True)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    return RichProgress(*columns, console=Console(stderr=True), transient=False)
