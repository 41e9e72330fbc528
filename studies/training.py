"""What the studies share: train a network, sample from it, and say how near its samples are to the training set.

Everything goes through the package's public functions, so a study measures what a user would.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import memfast
from memfast import criteria, schedules
from memfast.models import ItemFormat, load_run
from memfast.sampling import sample
from memfast.training import Trainer
from memfast.training.hooks import Hook

T = 1000
NN_THRESHOLD = 1 / 3


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for runs that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="memfast-study-") as folder:
        yield Path(folder)


def objective(timesteps: Any = None, prediction_type: str = "epsilon", **options: Any) -> memfast.DenoisingObjective:
    """An objective on the linear schedule of 1,000 timesteps."""
    return memfast.DenoisingObjective(schedules.linear(T), timesteps, prediction_type, **options)


def train(
    data: np.ndarray,
    *,
    out: Path,
    model: Mapping[str, Any],
    objective: memfast.DenoisingObjective,
    steps: int,
    seed: int,
    lr: float,
    batch_size: int = 64,
    ema: Any = 0.999,
    start: Path | None = None,
    hooks: Sequence[Hook] = (),
    log_every: int | None = None,
    **options: Any,
) -> Path:
    """Train into the folder ``out`` and return it; AdamW without decay, one checkpoint at the end.

    Args:
        data: uint8 images with channels last, or float signals.
        out: a new folder.
        model: a configuration for ``memfast.models.build``; ``item_shape`` is filled in from the data.
        objective: what to learn.
        steps: how many.
        seed: of everything random.
        lr: the learning rate, constant.
        batch_size: draws a step.
        ema: as the Trainer's; None samples from the raw weights.
        start: a run's folder to start from.
        hooks: what runs between steps.
        log_every: steps between log entries; None: one at the end.
        options: the Trainer's other arguments.
    """
    form = ItemFormat.of(data.shape[1:], data.dtype)
    Trainer(
        {"item_shape": list(form.item_shape), **model}, data, objective, out=out, steps=steps, seed=seed, lr=lr,
        batch_size=batch_size, ema=ema, start=start, hooks=hooks, checkpoint_every=None, log_every=log_every or steps,
        progress=False, **options,
    ).run()  # fmt: skip
    return out


def generate(folder: Path, count: int, *, seed: int, steps: int = 50, **options: Any) -> np.ndarray:
    """Samples of a run as items like its training data: DDIM with ``steps`` steps, the same noise for the same seed."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return sample(load_run(folder, device=device), count, steps=steps, seed=seed, **options)


def to_network(items: np.ndarray) -> torch.Tensor:
    """Items as a network sees them: float32, images in [-1, 1]."""
    return ItemFormat.of(items.shape[1:], items.dtype).to_network(torch.from_numpy(np.ascontiguousarray(items)))


def memorized_fraction(generated: np.ndarray, training: np.ndarray, threshold: float = NN_THRESHOLD) -> float:
    """The share of samples with d1/d2 below ``threshold``: nearest over second nearest training item, exact search."""
    found = memfast.knn(generated, training, 2, distributed=False)
    evidence = criteria.Evidence(found.squared_distances, found.indices, values=int(np.prod(training.shape[1:])))
    return float(criteria.NnRatio(threshold).judge(evidence).flags.mean())


def nearest_distance(items: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Each item's squared distance to its nearest training item."""
    return memfast.knn(items, training, 1, distributed=False).squared_distances[:, 0].astype(np.float64)


def closer_than_held_out(generated: np.ndarray, training: np.ndarray, held_out_distances: np.ndarray) -> float:
    """The chance that a sample lies closer to the training set than a held-out item does, 0 to 1.

    0.5: as held-out items; near 1: closer to the training set than fresh data ever are, the symptom of memorization.
    It is graded where ``memorized_fraction`` only counts near-exact copies.
    """
    found = nearest_distance(generated, training)
    return float(criteria.closer_than(found, held_out_distances, permutations=1)["closer"])


def distances(generated: np.ndarray, reference: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Paper 1's distances of samples to a reference set; lower is closer.

    Returns:
        ``l2``: mean RMS distance per value to the nearest reference item; ``l2_pairs``: over all pairs;
        ``wasserstein``: W_1 per principal component of the reference set, mean over 50; ``wasserstein_2``: over 2;
        ``shannon`` and ``shannon_2``: the Jensen-Shannon distance likewise, 0 to 0.833; ``sliced``: sliced W_2 in all
        dimensions.
    """
    found = memfast.evaluate(
        generated, reference, metrics=["l2", "projected", "sliced_wasserstein"], floor=False, seed=seed
    )
    names = {
        "l2": "l2_nearest", "l2_pairs": "l2_all_pairs", "wasserstein": "wasserstein_1_components",
        "wasserstein_2": "wasserstein_1_components_2", "shannon": "jensen_shannon_components",
        "shannon_2": "jensen_shannon_components_2", "sliced": "sliced_wasserstein_2",
    }  # fmt: skip
    return {mine: found[name].value for mine, name in names.items()}
