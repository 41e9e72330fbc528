"""Numbers that are none, or out of range: every public entry point says which argument, what it expected, what came."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import memfast
from memfast import criteria, features, metrics, ops, sampling, schedules, timesteps, trace, training
from memfast.detectors import detector
from memfast.foundation.errors import InputError
from memfast.objective import Ambient, weights

NAN, INF = float("nan"), float("inf")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
ROWS = np.random.default_rng(1).standard_normal((30, 4))
FEW = np.random.default_rng(2).standard_normal((20, 4))
SCHEDULE = schedules.linear(10)


def zero(x, times, labels=None):
    """A network that predicts no noise at all."""
    return torch.zeros_like(x)


def sampler(method):
    def call(**changed):
        given = {"shape": (1, 4), "count": 2, "steps": 2, **changed}
        return method(zero, SCHEDULE, **given)

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one step."""
    out = tmp_path_factory.mktemp("trained") / "run"
    objective = memfast.DenoisingObjective(SCHEDULE)
    model = {"kind": "mlp", "width": 8, "blocks": 1}
    training.Trainer(model, IMAGES, objective, out=out, steps=1, batch_size=2, progress=False).run()
    return memfast.models.load_run(out)


def trainer(folder, **changed):
    given = {"steps": 2, "batch_size": 4, "progress": False, **changed}
    return training.Trainer({"kind": "mlp", "width": 8, "blocks": 1}, IMAGES, out=folder / "run", **given)


def by_epochs(folder, epochs):
    return trainer(folder, steps=None, epochs=epochs)


def pairs(**limit):
    return list(memfast.neighbors.range_search(IMAGES, IMAGES, **limit))


# What is not a whole number, and what is none within 0 or 1 and above.
NOT_WHOLE = ("6", 2.5, 6.0, True, NAN, [3], np.float64(2.0))
COUNT = (*NOT_WHOLE, None, -1)
OPTIONAL_COUNT = (*NOT_WHOLE, -1)
# What is not a finite number.
NOT_FINITE = ("0.5", NAN, INF, True, [0.5], 1j)
NUMBER = (*NOT_FINITE, None)

# name of the argument in the message: (call with that argument, values that it cannot be)
ENTRIES = {
    "ops.key": (lambda f, r, seed: ops.key(seed), "seed", (*NOT_WHOLE, None, 2**64)),
    "ops.key step": (lambda f, r, step: ops.key(0, step), "step", (*COUNT, 2**32)),
    "ops.nearest": (lambda f, r, k: ops.nearest(FEW, ROWS, k), "k", (*COUNT, 0)),
    "ops.range_search": (lambda f, r, x: ops.range_search(FEW, ROWS, x), "radius_squared", (*NUMBER, -1.0)),
    "knn": (lambda f, r, k: memfast.knn(FEW, ROWS, k), "k", (*COUNT, 0)),
    "knn memory": (lambda f, r, memory: memfast.knn(FEW, ROWS, 1, memory=memory), "memory", OPTIONAL_COUNT),
    "within": (lambda f, r, x: pairs(radius=x), "radius", (*NOT_FINITE, -1)),
    "within squared": (lambda f, r, x: pairs(radius_squared=x), "radius_squared", (*NOT_FINITE, -1)),
    "within similarity": (lambda f, r, x: pairs(similarity=x, metric="cosine"), "similarity", (*NOT_FINITE, 1.5)),
    "audit k": (lambda f, r, k: memfast.audit(IMAGES, IMAGES, k=k), "k", (*COUNT, 0)),
    "audit planted": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, planted=x), "planted", (*COUNT, 0)),
    "audit resamples": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, resamples=x), "resamples", (*COUNT, 0)),
    "audit seed": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, seed=x), "seed", COUNT),
    "audit pictures": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, pictures=x), "pictures", COUNT),
    "audit memory": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, memory=x), "memory", OPTIONAL_COUNT),
    "audit confidence": (lambda f, r, x: memfast.audit(IMAGES, IMAGES, confidence=x), "confidence", (*NUMBER, 0, 1)),
    "audit range": (
        lambda f, r, x: memfast.audit(FEW, FEW, value_range=x), "value_range", ("01", 1.0, (0, NAN), (0, "1"), (1, 0)),
    ),
    "evaluate seed": (lambda f, r, x: memfast.evaluate(IMAGES, IMAGES, metrics="vendi", seed=x), "seed", COUNT),
    "evaluate k": (
        lambda f, r, x: memfast.evaluate(IMAGES, IMAGES, metrics="prdc", options={"k": x}), "k", (*COUNT, 0),
    ),
    "evaluate option": (lambda f, r, x: memfast.evaluate(IMAGES, IMAGES, options={x: 5}), "options", ("K",)),
    "objective": (lambda f, r, x: memfast.DenoisingObjective(SCHEDULE, sigma_data=x), "sigma_data", (*NUMBER, 0)),
    "ambient": (lambda f, r, x: Ambient(sigma=x), "sigma", (*NOT_FINITE, 0)),
    "ambient timestep": (lambda f, r, x: Ambient(timestep=x), "timestep", OPTIONAL_COUNT),
    "ambient margin": (lambda f, r, x: Ambient(sigma=0.5, margin=x), "margin", (*NUMBER, 0)),
    "min_snr": (lambda f, r, x: weights.MinSNR(x), "gamma", (*NUMBER, 0)),
    "schedule": (lambda f, r, x: schedules.linear(x), "T", (*COUNT, 0)),
    "schedule beta": (lambda f, r, x: schedules.linear(10, beta_start=x), "beta_start", (*NUMBER, 0)),
    "schedule cosine": (lambda f, r, x: schedules.cosine(10, offset=x), "offset", (*NUMBER, 1)),
    "schedule flow": (lambda f, r, x: schedules.flow(10, shift=x), "shift", (*NUMBER, 0)),
    "schedule edm": (lambda f, r, x: schedules.edm_continuous(rho=x), "rho", (*NUMBER, 0)),
    "interval": (lambda f, r, x: timesteps.ConfidenceInterval(x, 900), "low", NUMBER),
    "interval coverage": (
        lambda f, r, x: timesteps.ConfidenceInterval(1, 9, coverage=x), "coverage", (*NUMBER, 0, 1),
    ),
    "interval mix": (lambda f, r, x: timesteps.ConfidenceInterval(1, 9, mix=x), "mix", (*NOT_FINITE, -0.1)),
    "interval floor": (
        lambda f, r, x: timesteps.ConfidenceInterval(1, 9, uniform_floor=x), "uniform_floor", (*NUMBER, 1.1),
    ),
    "interval width": (
        lambda f, r, x: timesteps.ConfidenceInterval.from_mean_width(500, x), "width", (*NUMBER, 0),
    ),
    "gaussian": (lambda f, r, x: timesteps.GaussianMixture((x,), (1,)), "means", NUMBER),
    "gaussian weights": (lambda f, r, x: timesteps.GaussianMixture((1,), (1,), (x,)), "weights", (*NUMBER, -1, 0)),
    "beta": (lambda f, r, x: timesteps.Beta(x, 1), "a", (*NUMBER, 0)),
    "mode": (lambda f, r, x: timesteps.Mode(x), "scale", (*NUMBER, 3, -1.1)),
    "log_normal": (lambda f, r, x: timesteps.LogNormal(std_log=x), "std_log", (*NUMBER, 0)),
    "speed": (lambda f, r, x: timesteps.SpeeD(mirror=x), "mirror", OPTIONAL_COUNT),
    "bias": (lambda f, r, x: timesteps.TimestepBias("range", begin=x), "begin", COUNT),
    "plan": (lambda f, r, x: timesteps.DensitySchedule(((x, timesteps.Uniform()),)), "stages", COUNT),
    "second moment": (lambda f, r, x: timesteps.LossSecondMoment(history=x), "history", (*COUNT, 0)),
    "second moment share": (
        lambda f, r, x: timesteps.LossSecondMoment(uniform_share=x), "uniform_share", (*NUMBER, 1.5),
    ),
    "density grid": (lambda f, r, x: timesteps.Uniform().probabilities(x), ("T", "grid"), (*COUNT, 0)),
    "ddim count": (lambda f, r, x: sampler(sampling.ddim)(count=x), "count", COUNT),
    "ddim steps": (lambda f, r, x: sampler(sampling.ddim)(steps=x), "steps", (*COUNT, 0, 11)),
    "ddim seed": (lambda f, r, x: sampler(sampling.ddim)(seed=x), "seed", (*NOT_WHOLE, None)),
    "ddim eta": (lambda f, r, x: sampler(sampling.ddim)(eta=x), "eta", (*NUMBER, -0.1, 1.1)),
    "ddim batch": (lambda f, r, x: sampler(sampling.ddim)(batch_size=x), "batch_size", (*COUNT, 0)),
    "ddim sigma": (lambda f, r, x: sampler(sampling.ddim)(sigma_data=x), "sigma_data", (*NUMBER, 0)),
    "ddim guidance": (lambda f, r, x: sampler(sampling.ddim)(guidance=x), "guidance", NUMBER),
    "ddim clip": (
        lambda f, r, x: sampler(sampling.ddim)(clip=x), "clip", (1.0, "01", (0,), (1, 0), (0, NAN), ("0", 1)),
    ),
    "ddim shape": (lambda f, r, x: sampler(sampling.ddim)(shape=(1, x)), "shape", (*COUNT, 0)),
    "ddim ids": (
        lambda f, r, x: sampler(sampling.ddim)(count=None, sample_ids=x), "sample_ids", ([0, 1], 3, torch.zeros(2)),
    ),
    "ddpm count": (lambda f, r, x: sampler(sampling.ddpm)(count=x), "count", COUNT),
    "ddpm steps": (lambda f, r, x: sampler(sampling.ddpm)(steps=x), "steps", (*OPTIONAL_COUNT, 0, 11)),
    "heun count": (lambda f, r, x: sampler(sampling.heun)(count=x), "count", COUNT),
    "heun steps": (lambda f, r, x: sampler(sampling.heun)(steps=x), "steps", (*COUNT, 0, 11)),
    "sample count": (lambda f, r, x: sampling.sample(r, x, steps=2), "count", COUNT),
    "sample steps": (lambda f, r, x: sampling.sample(r, 2, steps=x), "steps", (*COUNT, 0)),
    "delayed": (lambda f, r, x: sampling.Delayed(0.5, x), "scale", NUMBER[:-1]),
    "condition batch": (lambda f, r, x: eased(sampling.optimise_condition, batch_size=x), "batch_size", (*COUNT, 0)),
    "condition steps": (lambda f, r, x: eased(sampling.optimise_condition, steps=x), "steps", (*COUNT, 0)),
    "condition lr": (lambda f, r, x: eased(sampling.optimise_condition, lr=x), "lr", (*NUMBER, 0)),
    "condition target": (lambda f, r, x: eased(sampling.optimise_condition, target_loss=x), "target_loss", NOT_FINITE),
    "condition updates": (lambda f, r, x: eased(sampling.optimise_condition, iterations=x), "iterations", COUNT),
    "start batch": (lambda f, r, x: eased(sampling.optimise_start, batch_size=x), "batch_size", (*COUNT, 0)),
    "start threshold": (lambda f, r, x: eased(sampling.optimise_start, threshold=x), "threshold", NOT_FINITE),
    "start lr": (lambda f, r, x: eased(sampling.optimise_start, lr=x), "lr", (*NUMBER, 0)),
    "start norm": (lambda f, r, x: eased(sampling.optimise_start, regularization=x), "regularization", (*NUMBER, -1)),
    "curve": (lambda f, r, x: curve(levels=x), "levels", (*COUNT[:5], None, -1, 0)),
    "curve batch": (lambda f, r, x: curve(levels=1, batch=x), "batch", (*COUNT, 0)),
    "extract": (lambda f, r, x: features.extract(IMAGES, torch.nn.Flatten(), batch_size=x), "batch_size", (*COUNT, 0)),
    "image size": (lambda f, r, x: memfast.data.open_source(png(f), image_size=x), "image_size", (*OPTIONAL_COUNT, 0)),
    "trace steps": (lambda f, r, x: traced(r, steps=x), "steps", (*COUNT, 0)),
    "trace seeds": (
        lambda f, r, x: traced(r, seeds=x), "seeds", ("6", 2.5, True, None, NAN, [0.5], [True], ["1"], 0, -1),
    ),
    "trace seed": (lambda f, r, x: traced(r, seed=x), "seed", (*NOT_WHOLE, None)),
    "trace rows": (lambda f, r, x: traced(r, rows=x), "rows", (*COUNT, 0)),
    "trace guidance": (lambda f, r, x: traced(r, guidance=x), "guidance", NUMBER),
    "trace sweep": (lambda f, r, x: traced(r, sweep=[x]), "guidance", NUMBER),
    "trace clip": (lambda f, r, x: traced(r, clip=x), "clip", (1.0, (1, 0), (0, NAN))),
    "pipeline steps": (lambda f, r, x: traced_pipeline(steps=x), "steps", (*COUNT, 0)),
    "pipeline rows": (lambda f, r, x: traced_pipeline(rows=x), "rows", (*OPTIONAL_COUNT, 0)),
    "pipeline height": (lambda f, r, x: traced_pipeline(height=x), "height", (*OPTIONAL_COUNT, 0)),
    "trainer steps": (lambda f, r, x: trainer(f, steps=x), "steps", (*OPTIONAL_COUNT, 0)),
    "trainer epochs": (lambda f, r, x: by_epochs(f, x), "epochs", (*NOT_FINITE, 0, -1)),
    "trainer batch": (lambda f, r, x: trainer(f, batch_size=x), "batch_size", (*COUNT, 0)),
    "trainer accumulate": (lambda f, r, x: trainer(f, accumulate=x), "accumulate", (*COUNT, 0)),
    "trainer lr": (lambda f, r, x: trainer(f, lr=x), "lr", (*NUMBER, 0, -1)),
    "trainer warmup": (lambda f, r, x: trainer(f, warmup=x), "warmup", COUNT),
    "trainer betas": (
        lambda f, r, x: trainer(f, betas=x), "betas", (0.9, "09", (0.9,), (0.9, 1.0), (0.9, NAN), ("0.9", 0.9), None),
    ),
    "trainer decay": (lambda f, r, x: trainer(f, weight_decay=x), "weight_decay", (*NUMBER, -1)),
    "trainer clip": (lambda f, r, x: trainer(f, grad_clip=x), "grad_clip", (*NOT_FINITE, 0)),
    "trainer ema": (lambda f, r, x: trainer(f, ema=x), "ema decay", ("0.9", NAN, True, [None], 1.0, -0.1)),
    "trainer seed": (lambda f, r, x: trainer(f, seed=x), "seed", (*NOT_WHOLE, None, 2**64)),
    "trainer dropout": (lambda f, r, x: trainer(f, condition_dropout=x), "condition_dropout", (*NUMBER, 1.1)),
    "trainer checkpoints": (lambda f, r, x: trainer(f, checkpoint_every=x), "checkpoint_every", (*OPTIONAL_COUNT, 0)),
    "trainer keep": (lambda f, r, x: trainer(f, keep=x), "keep", (*OPTIONAL_COUNT, 0)),
    "trainer log": (lambda f, r, x: trainer(f, log_every=x), "log_every", (*COUNT, 0)),
    "power": (lambda f, r, x: training.PowerFunction(x), "ema std", (*NUMBER, 0, 0.3)),
    "monitor": (lambda f, r, x: training.Monitor(samples=x), "monitor samples", (*COUNT, 0)),
    "monitor every": (lambda f, r, x: training.Monitor(every=x), "monitor every", (*OPTIONAL_COUNT, 0)),
    "monitor seed": (lambda f, r, x: training.Monitor(seed=x), "monitor seed", (*NOT_WHOLE, None)),
    "monitor neighbours": (lambda f, r, x: training.Monitor(neighbours=x), "monitor neighbours", (*OPTIONAL_COUNT, 0)),
    "budget": (
        lambda f, r, x: training.Monitor(stop_when_memorized=x), "stop_when_memorized", (*NOT_FINITE, 1, -0.1),
    ),
    "control": (lambda f, r, x: training.Control(x), "control target", (*NUMBER, 0, 1)),
    "control stride": (lambda f, r, x: training.Control(0.1, stride=x), "control stride", (*NUMBER, 0)),
    "gate": (lambda f, r, x: training.LossGate(x), "ratio", (*NUMBER, -1)),
    "gate bins": (lambda f, r, x: training.LossGate(bins=x), "bins", (*COUNT, 0)),
    "nn_ratio": (lambda f, r, x: criteria.NnRatio(x), "nn_ratio threshold", (*NUMBER, 0)),
    "calibrated": (lambda f, r, x: criteria.Calibrated(neighbours=x), "neighbours", (*COUNT, 1)),
    "tiles": (lambda f, r, x: criteria.AbsoluteTiles(tiles=x), "tiles", (*COUNT, 0)),
    "wilson": (lambda f, r, x: criteria.wilson(x, 5), "count", (*COUNT, 6)),
    "wilson confidence": (lambda f, r, x: criteria.wilson(1, 5, x), "confidence", (*NUMBER, 1)),
    "jeon": (lambda f, r, x: detector("jeon", steps=x), "steps", (*COUNT, 0)),
    "wasserstein p": (lambda f, r, x: metrics.wasserstein(FEW, ROWS, x), "p", (*NUMBER, 0.5)),
    "wasserstein sliced": (
        lambda f, r, x: metrics.wasserstein(FEW, FEW, method="sliced", projections=x), "projections", (*COUNT, 0),
    ),
    "wasserstein seed": (
        lambda f, r, x: metrics.wasserstein(FEW, FEW, method="sliced", seed=x), "seed", (*NOT_WHOLE, None, 2**64),
    ),
    "wasserstein max": (
        lambda f, r, x: metrics.wasserstein(FEW, FEW, method="max_sliced", restarts=x), "restarts",
        (*OPTIONAL_COUNT, 0),
    ),
    "wasserstein batch": (
        lambda f, r, x: metrics.wasserstein(FEW, FEW, method="minibatch", batch=x), "batch", (*COUNT, 0, 21),
    ),
    "wasserstein sinkhorn": (
        lambda f, r, x: metrics.wasserstein(FEW, FEW, method="sinkhorn", regularization=x), "regularization",
        (*NOT_FINITE, 0),
    ),
    "prdc": (lambda f, r, x: metrics.precision_recall_density_coverage(FEW, FEW, x), "k", (*COUNT, 0)),
    "frechet": (lambda f, r, x: metrics.frechet_infinity(ROWS, FEW, points=x), "points", (*COUNT, 1)),
    "kernel": (lambda f, r, x: metrics.kernel_distance(FEW, FEW, subset_size=x), "subset_size", (*COUNT, 1)),
    "kernel seed": (lambda f, r, x: metrics.kernel_distance(FEW, FEW, subset_size=5, seed=x), "seed", COUNT),
    "kernel bandwidth": (
        lambda f, r, x: metrics.kernel_distance(FEW, FEW, kernel="rbf", subset_size=5, bandwidth=x), "bandwidth",
        (*NOT_FINITE, 0),
    ),
    "c_t": (lambda f, r, x: metrics.c_t(FEW, FEW, FEW, cells=x), "cells", (*COUNT, 0)),
    "c_t components": (
        lambda f, r, x: metrics.c_t(FEW, FEW, FEW, cells=1, components=x), "components", (*OPTIONAL_COUNT, 0),
    ),
    "likelihood": (lambda f, r, x: metrics.feature_likelihood(FEW, FEW, FEW, epochs=x), "epochs", (*COUNT, 0)),
    "projected": (
        lambda f, r, x: metrics.projected_distances(FEW, ROWS, components=x), "components", (*OPTIONAL_COUNT, 0),
    ),
    "jensen_shannon": (lambda f, r, x: metrics.jensen_shannon(FEW[:, 0], FEW[:, 0], bins=x), "bins", (*COUNT, 0)),
    "vendi": (lambda f, r, x: metrics.vendi(FEW, order=x), "order", ("1", NAN, None, True, 0)),
    "bootstrap": (lambda f, r, x: metrics.bootstrap_mean([1.0, 2.0], resamples=x), "resamples", (*COUNT, 0)),
    "nn ratios": (lambda f, r, x: metrics.neighbor_ratios(FEW, ROWS, threshold=x), "threshold", (*NUMBER, 0)),
}  # fmt: skip


def eased(method, **changed):
    limit = {"threshold": 1.0} if method is sampling.optimise_start else {"target_loss": 1.0}
    given = {"shape": (1, 8, 8), "count": 2, "steps": 2, "iterations": 1, **limit, **changed}
    torch.manual_seed(0)
    network = memfast.models.build({"kind": "mlp", "item_shape": [1, 8, 8], "width": 8, "blocks": 1, "num_classes": 2})
    return method(network, SCHEDULE, 0, **given)


def curve(**changed):
    objective = memfast.DenoisingObjective(SCHEDULE)
    return memfast.objective.ideal_gap(zero, torch.zeros(3, 4), objective, **changed)


def png(folder):
    from PIL import Image

    (folder / "images").mkdir(exist_ok=True)
    Image.fromarray(IMAGES[0]).save(folder / "images/a.png")
    return folder / "images"


def traced(run, **changed):
    given = {"labels": None, "seeds": 2, "steps": 2, "guidance": 1.0, "target": "final", **changed}
    return trace.trace_run(run, **given)


def traced_pipeline(**changed):
    return trace.trace_pipeline(SimpleNamespace(scheduler=DDIMScheduler()), prompts=["a"], **changed)


def refusal(call, *given):
    """The text of the InputError of a call, or that it was accepted."""
    try:
        call(*given)
    except InputError as error:
        return str(error)
    return "accepted"


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_no_number_or_out_of_range_is_refused_by_name(tmp_path, trained, entry):
    call, name, values = ENTRIES[entry]
    names = "|".join(map(re.escape, [name] if isinstance(name, str) else name))
    for value in values:
        said = refusal(call, tmp_path, trained, value)
        assert re.match(rf"({names}): expected .*, received ", said), f"{name}={value!r}: {said}"
        assert len(said) < 300
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_train_and_sample_like_pythons(tmp_path):
    numbers = {"steps": np.int64(2), "batch_size": np.int32(4), "lr": np.float32(0.5), "seed": np.uint8(3)}
    made = trainer(tmp_path, **numbers).description
    assert (made["training"]["batch_size"], made["training"]["lr"]["base"], made["training"]["seed"]) == (4, 0.5, 3)
    schedule, density = schedules.linear(np.int64(10), np.float32(1e-3)), timesteps.LogNormal(np.float32(0.3))
    weight, ambient = weights.MinSNR(np.float32(4.5)), Ambient(timestep=np.int64(2))
    objective = memfast.DenoisingObjective(schedule, density, loss_weight=weight, ambient=ambient)
    hooks = [training.Monitor(every=np.int64(1), samples=4, steps=2, stop_when_memorized=np.float32(0.9))]
    for resume in (False, True):
        found = trainer(tmp_path / "numpy", objective=objective, hooks=hooks, resume=resume)
    assert found.run().step == 2
    drawn = [sampler(sampling.ddim)(count=kind(3), steps=kind(2), seed=kind(1)) for kind in (int, np.int64)]
    assert torch.equal(*drawn)


def test_limits_and_orders_of_numpy_mean_what_pythons_do():
    rows = 2.0 * np.arange(200)[:, None]
    for radius in (200, np.uint8(200), np.float16(200)):
        found = list(memfast.neighbors.range_search(rows[:1], rows, radius=radius))
        assert sum(map(len, found)) == 101
    with pytest.raises(InputError, match="radius: expected a number whose square is finite"):
        pairs(radius=10**200)
    assert metrics.vendi(FEW, order=np.float32(INF)) == metrics.vendi(FEW, order=INF)
    ids, key = torch.arange(2), ops.key(0)
    assert torch.equal(ops.standard_normal(ids, 4, key, np.int64(3)), ops.standard_normal(ids, 4, key, 3))
