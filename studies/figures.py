"""Figures: small SVG files that come out the same, byte for byte, from the same numbers."""

from pathlib import Path
from typing import Any

from memfast.foundation.errors import MissingPackageError
from memfast.runtime.files import atomic_path

COLORS = ("#1b6ca8", "#c8553d", "#3f7d20", "#7b4b94", "#b8860b", "#555555")
STYLE: dict[str, Any] = {
    "svg.hashsalt": "memfast",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "axes.titlesize": 9,
}
INCHES = (3.2, 2.7)


def axes(rows: int = 1, columns: int = 1, *, inches: tuple[float, float] = INCHES, **options: Any) -> tuple[Any, Any]:
    """(figure, array of axes ``[rows, columns]``), each of about ``inches`` (width, height)."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", purpose="the figures of the studies", extra="bench") from error
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(inches[0] * columns, inches[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Any, path: Path) -> None:
    """Write the figure as SVG, whole or not at all, without a date."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
