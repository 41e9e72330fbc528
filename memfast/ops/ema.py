"""Several exponential moving averages of a network's parameters in one pass, each parameter read once."""

from collections.abc import Sequence

import torch

from memfast.foundation.errors import InputError
from memfast.ops.checks import FLOAT_DTYPES, check_device, check_memory, describe
from memfast.ops.registry import implementation

_OTHER_ORDERS = (torch.channels_last, torch.channels_last_3d)


@torch.no_grad()
def ema(
    parameters: Sequence[torch.Tensor],
    averages: Sequence[Sequence[torch.Tensor]],
    decays: Sequence[float] | torch.Tensor,
    *,
    backend: str = "auto",
) -> None:
    """``averages[k][i] += (1 - decays[k]) * (parameters[i] - averages[k][i])``, in place, for all k in one pass.

    Args:
        parameters: tensors, float32, bfloat16 or float16.
        averages: K lists of float32 tensors, one per parameter, in its shape.
        decays: K decays from 0 (the average becomes the parameter) to 1 (it never moves).
        backend: a backend's name, or ``auto``.

    Raises:
        InputError: shapes, dtypes, devices or counts do not fit.

    >>> weight, average = torch.ones(2), torch.zeros(2)
    >>> ema([weight], [[average]], [0.75])
    >>> average
    tensor([0.2500, 0.2500])
    """
    weights = torch.as_tensor(decays, dtype=torch.float64, device="cpu")
    if weights.ndim != 1 or len(weights) != len(averages) or not bool(((weights >= 0) & (weights <= 1)).all()):
        expected = f"{len(averages)} numbers from 0 to 1, one per list of averages"
        raise InputError("decays", expected=expected, received=str(weights.tolist()))
    for tensors in averages:
        _check(parameters, tensors)
    if not len(parameters) or not len(averages):
        return
    compute = implementation("ema", parameters[0].device, backend)
    groups = [_in_one_order(group) for group in zip(parameters, *averages, strict=True)]
    sources, *stored = map(list, zip(*groups, strict=True))
    compute(sources, stored, weights)
    for tensors, results in zip(averages, stored, strict=True):
        for average, result in zip(tensors, results, strict=True):
            if result is not average:
                average.copy_(result)


def _check(parameters: Sequence[torch.Tensor], averages: Sequence[torch.Tensor]) -> None:
    if len(parameters) != len(averages):
        raise InputError("averages", expected=f"{len(parameters)} tensors in each list", received=str(len(averages)))
    for parameter, average in zip(parameters, averages, strict=True):
        if parameter.dtype not in FLOAT_DTYPES:
            raise InputError("parameters", expected="float32, bfloat16 or float16", received=describe(parameter))
        if average.dtype != torch.float32 or average.shape != parameter.shape:
            raise InputError("averages", expected=f"float32 {list(parameter.shape)}", received=describe(average))
        check_device("averages", average, parameters[0])
        check_device("parameters", parameter, parameters[0])
        check_memory("parameters", parameter)
        check_memory("averages", average)


def _in_one_order(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """The tensors themselves where their elements lie in memory in one order, otherwise contiguous copies."""
    # Networks have thousands of parameters: a plain loop costs a quarter of what a generator does.
    for tensor in tensors:
        if not tensor.is_contiguous():
            break
    else:
        return tensors
    for order in _OTHER_ORDERS:
        if all(tensor.is_contiguous(memory_format=order) for tensor in tensors):
            return tensors
    return [tensor.contiguous() for tensor in tensors]
