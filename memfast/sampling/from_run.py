"""Samples from a trained run, as items like its training data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.foundation.registry import Registry
from memfast.models import Run
from memfast.sampling.guidance import choose_guidance
from memfast.sampling.samplers import ddim, ddpm, heun

METHODS: Registry[Callable[..., torch.Tensor]] = Registry(
    "method", (ddim, ddpm, heun), group="memfast.samplers", name_of=lambda sampler: sampler.__name__
)


def sample(run: Run, count: int, *, method: str = "ddim", **options: Any) -> np.ndarray:
    """Draw samples from a run.

    Args:
        run: from ``memfast.models.load_run``.
        count: how many.
        method: ``ddim``, ``ddpm`` or ``heun``.
        options: that sampler's other arguments (steps, seed, labels, guidance, callback, ...). ``clip`` is by default
            the run's value range. ``guidance`` may be a dictionary, see ``choose_guidance``.

    Returns:
        ``[count, *data_shape]`` in the training data's dtype: uint8 images with channels last, float signals.

    Raises:
        InputError: an unknown method, or labels for a run without classes.
    """
    sampler = METHODS.find(method)
    if options.get("labels") is not None and run.num_classes is None:
        raise InputError("labels", expected="none: the run has no classes", received="labels")
    if "guidance" in options:
        options["guidance"] = choose_guidance(options["guidance"])
    options.setdefault("clip", run.value_range)
    options.setdefault("sigma_data", run.sigma_data)
    values = sampler(
        run.model, run.schedule, shape=run.item_shape, count=count, prediction_type=run.prediction_type, **options
    )
    return run.to_data(values)
