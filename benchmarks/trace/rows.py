"""What tracing costs: the pass over recorded latents against reading them and against the authors' way, and a run of
sampling that is traced against one that is not.

The latents are Stable Diffusion's: 50 steps, 10 seeds, 4x64x64. ``PROMPTS`` of them are far beyond the last-level
cache; 100 prompts are 3.3 GB and take ten times as long.
"""

import torch

from benchmarks.rows import Row, Timed
from benchmarks.trace.test_bed import BLOCKS, PER_CLASS, SIDE, WIDTH
from memfast import models, schedules
from memfast.sampling import ddim
from memfast.trace import decompose
from memfast.trace.measure import BatchObserver

STEPS, SEEDS, NUMEL, PROMPTS = 50, 10, 4 * 64 * 64, 10
# The authors' way is two orders slower: some of the states will do, for both sides.
FEW_STATES = 4
CONDITIONS = 10 * PER_CLASS


def latents(steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States ``[steps, B, D]``, targets and initial noise ``[B, D]``."""
    generator = torch.Generator().manual_seed(0)
    rows = PROMPTS * SEEDS
    target, initial = (torch.randn(rows, NUMEL, generator=generator) for _ in range(2))
    shares = torch.linspace(0.9, 0.1, steps)[:, None, None]
    states = shares * initial + (1 - shares) * target
    return states + 0.1 * torch.randn(states.shape, generator=generator), target, initial


def against_reading() -> tuple[Timed, Timed]:
    states, target, initial = latents(STEPS)
    return lambda: decompose(states, target, initial), states.sum


def by_lstsq(states: torch.Tensor, target: torch.Tensor, initial: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights ``[S, B, 2]`` and residuals ``[S, B]`` as the authors' script takes them, one problem each."""
    design = torch.stack([target, initial], dim=2)
    weights = torch.stack([torch.linalg.lstsq(design, state[..., None]).solution[..., 0] for state in states])
    rest = states - (design @ weights[..., None])[..., 0]
    return weights, rest.square().mean(2).sqrt()


def against_lstsq() -> tuple[Timed, Timed]:
    states, target, initial = latents(FEW_STATES)
    found, (weights, rest) = decompose(states, target, initial), by_lstsq(states, target, initial)
    torch.testing.assert_close(found.w_target.float(), weights[..., 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.residual.float(), rest, rtol=1e-4, atol=1e-5)
    return lambda: decompose(states, target, initial), lambda: by_lstsq(states, target, initial)


def against_untraced(steps: int = 10, seeds: int = 8) -> tuple[Timed, Timed]:
    """The test bed's network under guidance; ours also measures every state."""
    torch.manual_seed(0)
    model = models.build(
        {"kind": "mlp", "item_shape": [1, SIDE, SIDE], "width": WIDTH, "blocks": BLOCKS, "num_classes": CONDITIONS}
    ).eval()
    torch.nn.init.normal_(model.get_parameter("last.weight"), std=0.02)
    schedule, targets = schedules.linear(1000), torch.randn(CONDITIONS, 1, SIDE, SIDE)
    names = [str(label) for label in range(CONDITIONS)]
    options = {
        "shape": (1, SIDE, SIDE), "sample_ids": torch.arange(seeds).repeat(CONDITIONS), "steps": steps, "guidance": 7.5,
        "labels": torch.arange(CONDITIONS).repeat_interleave(seeds), "prediction_type": "sample", "batch_size": 400,
    }  # fmt: skip

    def traced() -> object:
        observer = BatchObserver(names, range(seeds), targets)
        ddim(model, schedule, callback=observer, **options)
        return observer.result()

    return traced, lambda: ddim(model, schedule, **options)


ROWS = (
    Row("decompose recorded latents", "torch.sum: reading them once", 0.7, against_reading),
    Row("decompose, the authors' way", "torch.linalg.lstsq and a residual pass", 20, against_lstsq),
    Row("traced sampling of the test bed", "the same run untraced", 0.95, against_untraced),
)
