"""Samples from a trained run, as items like its training data."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memfast.foundation.errors import InputError
from memfast.models import Run
from memfast.sampling.guidance import choose_guidance
from memfast.sampling.request import SamplingRequest
from memfast.sampling.samplers import Sampler, choose_sampler


def sample(run: Run, count: int, *, method: str | Mapping[str, Any] | Sampler = "ddim", **options: Any) -> np.ndarray:
    """Draw samples from a run.

    Args:
        run: from ``memfast.models.load_run``.
        count: how many.
        method: a name of ``SAMPLERS``, or a dictionary with ``name`` and the sampler's options, or a sampler.
        options: the sampler's own (``eta``, ...) and the other fields of ``SamplingRequest`` (steps, seed, labels,
            guidance, callback, ...). ``clip`` is by default the run's value range. ``guidance`` may be a dictionary,
            see ``choose_guidance``.

    Returns:
        ``[count, *data_shape]`` in the training data's dtype: uint8 images with channels last, float signals.

    Raises:
        InputError: an unknown method, or labels for a run without classes.
    """
    sampler, options = _with_own_options(choose_sampler(method), options)
    if options.get("labels") is not None and run.num_classes is None:
        raise InputError("labels", expected="none: the run has no classes", received="labels")
    if "guidance" in options:
        options["guidance"] = choose_guidance(options["guidance"])
    request = request_of(run, **{"clip": run.value_range, "count": count, **options})
    return run.to_data(sampler.sample(run.model, request))


def request_of(run: Run, **options: Any) -> SamplingRequest:
    """A request for samples of a run: its schedule, shape and prediction type, and what ``options`` say."""
    own = {"prediction_type": run.prediction_type, "sigma_data": run.sigma_data}
    return SamplingRequest(schedule=run.schedule, shape=run.item_shape, **{**own, **options})


def _with_own_options(sampler: Sampler, options: dict[str, Any]) -> tuple[Sampler, dict[str, Any]]:
    """The sampler with those options that are fields of its own, and the other options."""
    known = sampler.to_dict()
    own = {name: value for name, value in options.items() if name in known and name != "name"}
    rest = {name: value for name, value in options.items() if name not in own}
    return choose_sampler({**known, **own}) if own else sampler, rest
