"""A picture of where a model learns."""

from typing import Any

import numpy as np

from memfast.foundation.errors import MissingPackageError
from memfast.timesteps.density import DEFAULT_T, Density, Grid
from memfast.timesteps.learning import learning_contribution


def plot_densities(densities: dict[str, Density], grid: Grid = DEFAULT_T) -> Any:
    """T * p(t) of each density (1 is uniform), and beside it C(t) = SNR(t) p(t) where ``grid`` is a schedule.

    Args:
        densities: label -> density.
        grid: the number of timesteps, or a schedule.

    Returns:
        a matplotlib Figure; ``.savefig(path)`` writes it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("matplotlib", purpose="plotting densities", extra="audit") from error
    has_snr = hasattr(grid, "snr")
    figure = Figure(figsize=(10 if has_snr else 6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2 if has_snr else 1, squeeze=False)[0]
    for label, density in densities.items():
        p = density.probabilities(grid)
        t = np.arange(1, len(p) + 1)
        axes[0].plot(t, p * len(p), label=label)
        if has_snr:
            axes[1].plot(t, learning_contribution(grid, density), label=label)  # type: ignore[arg-type]
    axes[0].set(xlabel="timestep", ylabel="T p(t)", title="how often (1 = uniform)", ylim=(0, None))
    axes[0].legend()
    if has_snr:
        axes[1].set(xlabel="timestep", ylabel="SNR(t) p(t)", title="learning contribution", yscale="log")
    return figure
