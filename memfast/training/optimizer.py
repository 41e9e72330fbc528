"""From gradients to new weights: clipping, the learning rate, the optimizer and its state as plain tensors."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from memfast.foundation.errors import CheckpointError, InputError
from memfast.training.sharding import full_tensor, shard_like

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def learning_rate(step: int, *, base: float, warmup: int = 0, decay: str = "none", total: int = 0) -> float:
    """The learning rate of a 0-based step: a linear rise over ``warmup`` steps, then constant or half a cosine to 0.

    >>> [learning_rate(step, base=1.0, warmup=4) for step in (0, 3, 9)]
    [0.25, 1.0, 1.0]
    """
    if step < warmup:
        return base * (step + 1) / warmup
    if decay == "none":
        return base
    return base * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def adamw(betas: tuple[float, float], weight_decay: float) -> OptimizerFactory:
    """AdamW with its fused kernel where the parameters allow it (one call for all of them)."""

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        parameters = list(parameters)
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
        return torch.optim.AdamW(parameters, betas=betas, weight_decay=weight_decay, fused=fused or None)

    return make


def describe_optimizer(factory: OptimizerFactory) -> dict[str, Any]:
    """The class and options of the optimizer that a factory makes, the learning rate aside, as plain values.

    >>> describe_optimizer(lambda parameters: torch.optim.SGD(parameters, momentum=0.9))["momentum"]
    0.9
    """
    made = factory([nn.Parameter(torch.zeros(1))])
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError("optimizer", expected="a function that returns an optimizer", received=repr(made))
    plain = (bool, int, float, str, type(None))
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in made.defaults.items()}
    kept = {name: value for name, value in options.items() if isinstance(value, (*plain, list)) and name != "lr"}
    return {"name": type(made).__name__, **kept}


class OptimizerStep:
    """Clips and applies gradients.

    Args:
        parameters: by name.
        make_optimizer: makes the optimizer.
        clip: the greatest norm of all gradients together, or None.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], make_optimizer: OptimizerFactory, clip: float | None
    ) -> None:
        self.parameters = dict(parameters)
        self.optimizer = make_optimizer(self.parameters.values())
        self.clip = clip
        self._reads_found_inf = all(group.get("fused") for group in self.optimizer.param_groups)

    @torch.no_grad()
    def __call__(self, lr: float) -> torch.Tensor:
        """Take one step at learning rate ``lr``; returns the gradients' norm before clipping.

        Gradients that are not finite leave the weights alone, with a fused optimizer on a GPU without waiting for the
        device: it reads ``found_inf``. The loop stops when it next reads the losses.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients))
        if norm.device.type == "cpu" or not self._reads_found_inf:
            length = norm.item()
            if not math.isfinite(length):
                self.optimizer.zero_grad(set_to_none=True)
                return norm
            if self.clip is not None and length > self.clip:
                torch._foreach_mul_(gradients, self.clip / (length + 1e-6))
        else:
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip, norm)
            self.optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The optimizer's state: tensors by ``parameter.entry``, and what are not tensors."""
        tensors: dict[str, torch.Tensor] = {}
        others: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            for entry, value in self.optimizer.state.get(parameter, {}).items():
                target: dict[str, Any] = tensors if isinstance(value, torch.Tensor) else others
                target[f"{name}.{entry}"] = value
        return tensors, others

    def load(self, tensors: Mapping[str, torch.Tensor], others: Mapping[str, Any]) -> None:
        """Set the optimizer's state.

        Raises:
            CheckpointError: it belongs to other parameters.
        """
        values = {**tensors, **others}
        self.optimizer.state.clear()
        for full_name, value in values.items():
            name, entry = full_name.rsplit(".", 1)
            if name not in self.parameters:
                raise CheckpointError(f"optimizer state: it has {full_name}, which is no parameter of this model.")
            parameter = self.parameters[name]
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise CheckpointError(
                    f"optimizer state: {full_name} is {list(value.shape)}, the parameter is {list(parameter.shape)}."
                )
            # Adam's scalar counts stay where its kernels want them; everything else goes with the parameter.
            on_cpu = isinstance(value, torch.Tensor) and value.ndim == 0 and parameter.device.type == "cpu"
            moved = value if on_cpu or not isinstance(value, torch.Tensor) else value.to(parameter.device)
            if isinstance(moved, torch.Tensor) and moved.ndim:
                moved = shard_like(moved, parameter)
            self.optimizer.state[parameter][entry] = moved
