"""The whole training step as rows: the Trainer's against the plain loop, eager with eager, compiled with compiled.

That both learn the same is the matter of `tests/training/test_trainer.py`.
"""

from functools import partial

from benchmarks.rows import Row, Timed
from benchmarks.training.whole_step import CASES, ours, plain

GOAL = 1.15
WARMUP = 3


def step(case: str, compiled: bool) -> tuple[Timed, Timed]:
    """One step of ours and one of the plain loop."""
    config, shape, batch = CASES[case]
    loops = [make(config, shape, batch, "cpu", compiled) for make in (ours, plain)]
    for _ in range(WARMUP):
        for loop in loops:
            next(loop)
    return partial(next, loops[0]), partial(next, loops[1])


ROWS = (
    Row("step mlp-140", "plain eager loop", GOAL, partial(step, "mlp-140", False)),
    Row("step mlp-140 compiled", "torch.compile of the plain loop", GOAL, partial(step, "mlp-140", True)),
    Row("step unet1d-140", "plain eager loop", GOAL, partial(step, "unet1d-140", False)),
    Row("step unet2d-28", "plain eager loop", GOAL, partial(step, "unet2d-28", False)),
)
