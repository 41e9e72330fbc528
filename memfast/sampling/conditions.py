"""Wen et al.'s mitigation: move the condition's embedding until it no longer pulls, before anything is drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import InputError
from memfast.sampling.branches import branch_difference, first_states, first_step_signature
from memfast.sampling.descent import Optimised, descend, norms
from memfast.sampling.loop import evaluating
from memfast.sampling.request import SamplingRequest
from memfast.schedules import ContinuousSchedule, Schedule

LEARNING_RATE, ITERATIONS, WEIGHT_DECAY = 0.05, 10, 0.01
NORMS = ("image", "batch")


@first_step_signature
def optimise_condition(
    network: torch.nn.Module,
    schedule: Schedule | ContinuousSchedule,
    labels: torch.Tensor | Sequence[int] | int,
    *,
    target_loss: float | None,
    lr: float = LEARNING_RATE,
    iterations: int = ITERATIONS,
    weight_decay: float = WEIGHT_DECAY,
    norm: str = "image",
    **options: Any,
) -> Optimised:
    """Condition embeddings with a small branch gap ``|eps(x_T, e) - eps(x_T)|_2``, to be used as labels of a sampler.

    ``values`` of the result go in as ``labels=``, with the other arguments of the sampler the same as here (seed and
    sample ids above all: each embedding belongs to its own start)::

        found = optimise_condition(model, schedule, 3, shape=(1, 14, 14), count=4, target_loss=2.0)
        samples = ddim(model, schedule, shape=(1, 14, 14), count=4, labels=found.values, guidance=7.5)

    Args:
        network: one of ``memfast.models`` with classes.
        schedule: as for the sampler.
        labels: as for the sampler.
        target_loss: a sample whose gap is at most this is left alone. There is no value that fits every network: take
            the usual gap of conditions known to be harmless. None goes on for all iterations and spoils those too.
        lr: AdamW's learning rate.
        iterations: updates at most.
        weight_decay: AdamW's; 0.01 is PyTorch's default and the paper's.
        norm: ``image``: each sample has its own embedding, loss and stop. ``batch`` is what the paper's code does: one
            embedding for all, and ONE norm over all samples together, which grows with the square root of their number.
        options: other fields of ``SamplingRequest``, as for the sampler: shape, count, sample_ids, seed, initial,
            steps, spacing, prediction_type, sigma_data, batch_size, device.

    Returns:
        ``values`` float32 ``[B, width]`` and the losses.

    Raises:
        InputError: a network without classes, or different labels under ``norm="batch"``.

    Source: Wen et al. 2024 (ICLR), section 5; YuxinWenRick/diffusion_memorization, local_sd_pipeline.py ``aug_prompt``.
    There lr 0.05, at most 10 iterations at the first step, target 3 for 4 images of Stable Diffusion together.
    """
    request = SamplingRequest(schedule=schedule, labels=labels, **options)
    started = first_states(network, request)
    states = started.scale * started.noise

    def difference(part: slice) -> Callable[[torch.Tensor], torch.Tensor]:
        def of_embedding(embedding: torch.Tensor) -> torch.Tensor:
            return branch_difference(
                network, started.level, embedding, prediction_type=request.prediction_type,
                sigma_data=request.sigma_data,
            )(states[part])  # fmt: skip

        return of_embedding

    found = []
    size = len(states) if norm == "batch" else request.batch_size
    with evaluating(network):
        for start in range(0, len(states), max(1, size)):
            part = slice(start, start + size)
            found.append(
                reduce_gap(
                    difference(part), started.conditions[part], target_loss=target_loss, lr=lr, iterations=iterations,
                    weight_decay=weight_decay, norm=norm,
                )
            )  # fmt: skip
    return joined(found)


def reduce_gap(
    difference: Callable[[torch.Tensor], torch.Tensor],
    conditions: torch.Tensor,
    *,
    target_loss: float | None,
    lr: float = LEARNING_RATE,
    iterations: int = ITERATIONS,
    weight_decay: float = WEIGHT_DECAY,
    norm: str = "image",
    frozen: torch.Tensor | None = None,
) -> Optimised:
    """The same for any network: ``difference`` maps conditions ``[B, ...]`` to branch differences ``[B, ...]``.

    Args:
        difference: conditional minus unconditional noise estimate of fixed states, as a function of the conditions.
        conditions: ``[B, ...]``, where to begin.
        target_loss: as for ``optimise_condition``, and so are lr, iterations, weight_decay, norm.
        lr: see target_loss.
        iterations: see target_loss.
        weight_decay: see target_loss.
        norm: see target_loss.
        frozen: bool, broadcasts against ``conditions``: what stays as it is (the start token).
    """
    if norm not in NORMS:
        raise InputError("norm", expected="one of " + ", ".join(NORMS), received=repr(norm))
    finite_number("lr", lr, above=0)
    finite_number("weight_decay", weight_decay, least=0)
    if target_loss is not None:
        finite_number("target_loss", target_loss)

    def optimizer(values: list[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(values, lr=lr, weight_decay=weight_decay)

    if norm == "image":
        return descend(
            lambda values: norms(difference(values)), conditions, optimizer, limit=target_loss, iterations=iterations,
            frozen=frozen,
        )  # fmt: skip
    if not (conditions == conditions[:1]).all():
        raise InputError("labels", expected='one condition for all under norm="batch"', received="different ones")
    one = descend(
        lambda values: torch.linalg.vector_norm(difference(values.expand_as(conditions))).view(1), conditions[:1],
        optimizer, limit=target_loss, iterations=iterations, frozen=frozen,
    )  # fmt: skip
    count = len(conditions)
    return Optimised(
        one.values.expand_as(conditions).clone(), one.first_loss.expand(count), one.loss.expand(count),
        one.iterations.expand(count), one.reached.expand(count),
    )  # fmt: skip


def joined(parts: list[Optimised]) -> Optimised:
    """The results of batches as one."""
    if not parts:
        raise InputError("count", expected="at least one sample", received="0")
    names = ("values", "first_loss", "loss", "iterations", "reached")
    return Optimised(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
