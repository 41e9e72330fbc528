"""What a sampler is asked for: the arguments that every sampler takes, checked once."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cached_property, wraps
from typing import Any, TypeVar

import torch

from memfast.foundation.arguments import seed_number, whole_number
from memfast.foundation.errors import InputError
from memfast.ops.addresses import check_sample_ids
from memfast.sampling.denoiser import Guidance
from memfast.sampling.state import Callback
from memfast.schedules import ContinuousSchedule, Schedule
from memfast.schedules.predictions import SIGMA_DATA

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, kw_only=True)
class SamplingRequest:
    """What to sample, and how.

    Args:
        schedule: the schedule that the network was trained with.
        shape: shape of one sample.
        count: how many samples; their ids are 0, 1, ...
        sample_ids: int64 ``[B]``, the ids themselves; an id makes the same sample in any company.
        steps: steps of the sampler; None takes the sampler's own default.
        seed: the seed of all noise.
        prediction_type: what the network predicts.
        sigma_data: the data's standard deviation, for ``prediction_type="edm"``.
        labels: a label for all, or one for each sample; or one embedding for each, float ``[B, width]``.
        guidance: classifier-free guidance; 1 is none. Needs a network that takes ``labels=None``. Or a rule that
            changes it along the way.
        clip: the least and greatest value of a clean sample, applied to the estimate at every step, or None. The
            noise estimate then follows from the clipped one.
        spacing: which timesteps to visit, see ``memfast.sampling.levels``; None takes the sampler's own default.
        initial: ``[B, *shape]`` states to start from in place of noise by address.
        batch_size: samples per call of the network.
        callback: called with a ``Step`` for each state of each batch.
        device: where to compute; None is the network's device.

    Raises:
        InputError: arguments that cannot be used, or do not fit each other.
    """

    schedule: Schedule | ContinuousSchedule
    shape: Sequence[int]
    count: int | None = None
    sample_ids: torch.Tensor | None = None
    steps: int | None = None
    seed: int = 0
    prediction_type: str = "epsilon"
    sigma_data: float = SIGMA_DATA
    labels: torch.Tensor | Sequence[int] | int | None = None
    guidance: float | Guidance = 1.0
    clip: tuple[float, float] | None = None
    spacing: str | None = None
    initial: torch.Tensor | None = None
    batch_size: int = 256
    callback: Callback | None = None
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        _ = self.conditions
        whole_number("batch_size", self.batch_size, least=1)
        seed_number("seed", self.seed)
        for side in self.shape:
            whole_number("shape", side, least=1)
        if self.initial is not None and tuple(self.initial.shape) != (count, *self.shape):
            raise InputError(
                "initial", expected=f"shape {[count, *self.shape]}", received=f"shape {list(self.initial.shape)}"
            )

    @cached_property
    def ids(self) -> torch.Tensor:
        """The sample ids, int64 ``[B]``."""
        if self.sample_ids is not None:
            check_sample_ids(self.sample_ids)
            if self.count is not None and self.count != len(self.sample_ids):
                expected = f"{len(self.sample_ids)}, one per sample id, or None"
                raise InputError("count", expected=expected, received=str(self.count))
            return self.sample_ids
        count = len(self.initial) if self.count is None and self.initial is not None else self.count
        if count is None:
            raise InputError("count", expected="how many samples to draw, or sample_ids", received="None")
        return torch.arange(whole_number("count", count, least=0))

    @cached_property
    def conditions(self) -> torch.Tensor | None:
        """One label per sample, int64 ``[B]``; or one embedding of a condition per sample, float ``[B, width]``."""
        if self.labels is None:
            return None
        count, values = len(self.ids), torch.as_tensor(self.labels)
        if values.is_floating_point() and values.ndim == 2 and len(values) == count:
            return values
        if values.is_floating_point() and not (values == values.round()).all():
            expected = "whole numbers, or [B, width] embeddings"
            raise InputError("labels", expected=expected, received=str(values)[:80])
        values = values.to(torch.int64)
        values = values.expand(count) if values.ndim == 0 else values
        if values.shape != (count,):
            expected = f"one label, or {count} of them"
            raise InputError("labels", expected=expected, received=f"shape {list(values.shape)}")
        return values


def takes_request(
    *, without: Iterable[str] = (), own: Iterable[Field[Any]] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Write the fields of a request into the signature of a function whose ``**options`` make one.

    So they, and their defaults, stand in one place, and ``help`` and editors still show them all. Arguments that are
    missing or unknown are a TypeError in the function's own name.

    Args:
        without: fields that the function does not take.
        own: further fields, of the sampler.
        defaults: other defaults than the request's.
    """
    left_out, given = {"schedule", *without}, defaults or {}
    taken = [field for field in fields(SamplingRequest) if field.name not in left_out]
    added = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.type,
            default=given.get(field.name, inspect.Parameter.empty if field.default is MISSING else field.default),
        )
        for field in (*taken, *own)
    ]  # fmt: skip

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        whole = inspect.signature(function)
        named = [one for one in whole.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        signature = whole.replace(parameters=[*named, *added])

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Result:
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}(): {error}") from None
            return function(*arguments, **options)

        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
