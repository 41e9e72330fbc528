"""The golden values: what the public functions give for fixed seeds, as paths and leaves.

``python tests/golden/compute.py PATH`` computes them with the memfast that Python finds and writes them to ``PATH``.
A change of a value is a change of behaviour: write ``values.json`` anew only where a release means to change it.

Leaves are numbers, texts, flags and None, compared to a tolerance where they are floats, and ``Bits``: the SHA-256 of
an array or a file, compared as it is. ``everywhere`` marks bits that the randomness contract promises on every
machine; other bits may depend on the processor's linear algebra and are compared on the machine that made them.
"""

import csv
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import memfast
from memfast import criteria, detectors, models, neighbors, ops, sampling, schedules, timesteps, trace, training

# Sentences may be edited, and times, versions and machines change: figures may not.
WORDS = {
    "statement", "notes", "why_not", "title", "definition", "source", "provenance", "seconds", "summary", "schema",
    "time", "versions", "machine", "host", "memfast_commit", "words", "how", "better", "copying", "what", "reading",
}  # fmt: skip
SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {}


def section(function: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
    SECTIONS[function.__name__] = function
    return function


def compute() -> dict[str, Any]:
    """Every value, by its path."""
    os.environ.setdefault("MEMFAST_CACHE", tempfile.mkdtemp())
    torch.set_num_threads(1)
    values: dict[str, Any] = {}
    for name, function in SECTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            values |= dict(leaves(function(Path(folder)), name))
    return values


def machine() -> str:
    """What bits of linear algebra depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    model = f"{found.get('model name')}, flags {hashlib.sha256(found.get('flags', '').encode()).hexdigest()[:12]}"
    return f"{model}; torch {torch.__version__}; numpy {np.__version__}"


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if set(value) in ({"sha256"}, {"sha256", "everywhere"}):
            yield path, value
            return
        for key, one in value.items():
            if str(key) not in WORDS:
                yield from leaves(one, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        if (numbers := many_numbers(value)) is not None:
            yield from leaves(both(numbers), path)
            return
        yield f"{path}.length", len(value)
        for index, one in enumerate(value):
            yield from leaves(one, f"{path}.{named(one, index)}")
    elif isinstance(value, np.ndarray | torch.Tensor):
        yield from leaves(np.asarray(value).tolist(), path)
    elif isinstance(value, np.generic):
        yield path, value.item()
    elif isinstance(value, float | int | bool | str | type(None)):
        yield path, value
    else:
        raise TypeError(f"{path}: {type(value)}")


def many_numbers(value: Any) -> np.ndarray | None:
    """A long list of numbers, or of equally long lists of them, as one array: hashed, not written one by one."""
    try:
        found = np.asarray(value)
    except ValueError:
        return None
    return found.astype(np.float64) if found.dtype.kind in "iuf" and found.size > 8 else None


def named(one: Any, index: int) -> str:
    return one["name"] if isinstance(one, dict) and isinstance(one.get("name"), str) else str(index)


def bits(array: Any, *, everywhere: bool = False) -> dict[str, Any]:
    """The hash of an array's dtype, shape and bytes, or of a file."""
    if isinstance(array, Path):
        return {"sha256": hashlib.sha256(array.read_bytes()).hexdigest()}
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.view(torch.int16) if array.dtype == torch.bfloat16 else array
    array = np.ascontiguousarray(np.asarray(array))
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
    return {"sha256": digest, "everywhere": True} if everywhere else {"sha256": digest}


def both(array: Any) -> dict[str, Any]:
    """Bits for this machine, and a few sums of them for others."""
    values = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array, dtype=np.float64)
    ramp = np.linspace(1, 2, values.size).reshape(values.shape)
    return {"bits": bits(array), "norm": float(np.sqrt((values**2).sum())), "ramp": float((values * ramp).sum())}


def first(module: Any, *names: str) -> Any:
    """The function under the first name that the module has: public names change, what they do may not."""
    return next(getattr(module, name) for name in names if name in dir(module) or hasattr(module, name))


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(rng(seed).normal(size=shape).astype(np.float32))


@section
def randomness(folder: Path) -> dict[str, Any]:
    ids, key = torch.tensor([0, 1, 7, 2**33 + 5, 2**56 - 1]), ops.key(seed=2**63 - 9, step=12345)
    counter = torch.arange(32, dtype=torch.int64).view(8, 4)
    words = ops.philox(counter, torch.tensor([3, 9]))
    found = {"philox": bits(words, everywhere=True)}
    for stream in ("noise", "fixed"):
        for backend in ("reference", "auto"):
            values = ops.standard_normal(ids, 1023, key, stream=stream, backend=backend)
            found[f"{stream}-{backend}"] = bits(values, everywhere=True)
    return found


@section
def objective(folder: Path) -> dict[str, Any]:
    x0, prediction = normal(12, 3, 7, 5), normal(12, 3, 7, 5, seed=1)
    ids = torch.arange(12) * 1_000_003 + 2**34
    wheres = {
        "uniform": timesteps.Uniform(),
        "interval": timesteps.ConfidenceInterval(low=60, high=100),
        "normal": timesteps.LogNormal(),
    }
    cases = {
        "epsilon": ("uniform", "epsilon", "min_snr", None),
        "v": ("interval", "v_prediction", "p2", None),
        "sample": ("interval", "sample", "debiased", memfast.Ambient(timestep=40)),
        "flow": ("uniform", "flow_prediction", "sd3", None),
        "edm": ("normal", "edm", "edm", None),
        "importance": ("interval", "epsilon", {"name": "importance", "base": "min_snr"}, None),
        "speed": ("uniform", "epsilon", {"name": "speed", "tau": 70}, None),
    }
    found: dict[str, Any] = {}
    for name, (where, prediction_type, weight, ambient) in cases.items():
        schedule = schedules.edm(100) if name == "edm" else schedules.cosine(100)
        made = memfast.DenoisingObjective(
            schedule, timesteps=wheres[where], prediction_type=prediction_type, loss_weight=weight, ambient=ambient,
            stratified=name == "v",
        )  # fmt: skip
        for dtype in (torch.float32, torch.bfloat16):
            batch = made.noise(x0.to(dtype), ids, memfast.key(seed=5, step=7), fixed_ids=torch.arange(12))
            losses = made.loss(prediction.to(dtype), batch, reduction="none")
            found[f"{name}-{str(dtype)[6:]}"] = {
                "timesteps": bits(batch.timesteps, everywhere=True), "x_t": bits(batch.x_t), "losses": losses.tolist(),
                "loss": float(made.loss(prediction.to(dtype), batch)),
            }  # fmt: skip
        found[f"{name}-table"] = both(made.table)
    continuous = memfast.DenoisingObjective(
        schedules.edm_continuous(), timesteps=timesteps.LogNormal(), prediction_type="edm", loss_weight="edm"
    )
    batch = continuous.noise(x0, ids, memfast.key(seed=5, step=7))
    found["continuous"] = {"x_t": both(batch.x_t), "loss": float(continuous.loss(prediction, batch))}
    return found


@section
def tensors(folder: Path) -> dict[str, Any]:
    parameters = [normal(33, seed=2), normal(5, 7, seed=3).to(torch.bfloat16)]
    averages = [[normal(33, seed=4), normal(5, 7, seed=5)], [normal(33, seed=6), normal(5, 7, seed=7)]]
    ops.ema(parameters, averages, [0.9, 0.9991])
    inner = first(ops, "inner_products", "products")
    pair = [normal(4, 50, seed=8), normal(4, 50, seed=9)]
    return {
        "ema": [bits(one, everywhere=True) for group in averages for one in group],
        "inner_products": inner(pair, [(0, 0), (0, 1), (1, 1)]),
    }


@section
def densities(folder: Path) -> dict[str, Any]:
    grid, ids = schedules.linear(1000), torch.arange(200) * 7
    configs = [
        {"name": "uniform"},
        {"name": "confidence_interval", "low": 600, "high": 1000},
        {"name": "confidence_interval", "low": 300, "high": 500, "coverage": 0.8, "uniform_floor": 0.1},
        {"name": "gaussian_mixture", "centers": [100, 450, 1020], "widths": [30, 60, 80], "shares": [1, 2, 3]},
        {"name": "student_t", "center": 700, "scale": 90, "df": 2.5},
        {"name": "laplace", "mean_log_snr": -0.5, "scale": 0.8},
        timesteps.Beta(1.5, 3.0).to_dict(),
        {"name": "logit_normal", "location": 0.5, "scale": 0.8},
        {"name": "mode", "scale": 1.29},
        {"name": "cosmap"},
        {"name": "log_normal"},
        timesteps.SpeeD().to_dict(),
        timesteps.TimestepBias("range", 3.0, begin=200, end=400).to_dict(),
        {"name": "custom", "weights": rng(0).uniform(0, 1, 1000).tolist()},
        timesteps.Mixture((timesteps.Uniform(), timesteps.Beta(2, 5)), (0.3, 0.7)).to_dict(),
        {"name": "loss_second_moment", "history": 2},
        PLAN,
    ]
    configs[3] = timesteps.GaussianMixture((100, 450, 1020), (30, 60, 80), (1, 2, 3)).to_dict()
    found = {}
    for index, config in enumerate(configs):
        density = timesteps.density_from_dict(config)
        p = density.probabilities(grid)
        drawn = ops.draw_timesteps(torch.as_tensor(timesteps.thresholds(p)), ids, memfast.key(seed=1, step=2))
        spread = ops.draw_timesteps(
            torch.as_tensor(timesteps.thresholds(p)), ids, memfast.key(seed=1, step=2), positions=torch.arange(200),
            total=200,
        )  # fmt: skip
        x = density.quantile([0.1, 0.5, 0.9], 1000)
        found[f"{index}-{config['name']}"] = {
            "probabilities": both(p), "draws": bits(drawn), "stratified": bits(spread),
            "learning": both(timesteps.learning_contribution(grid, density)), "quantiles": x,
            "cdf": density.cdf(x, 1000), "pdf": density.pdf(x, 1000),
        }  # fmt: skip
    adaptive = timesteps.LossSecondMoment(history=2)
    adaptive.update(5, [0, 1, 2, 3, 4] * 3, rng(3).uniform(size=15))
    found["adapted"] = adaptive.probabilities(5)
    return found


PLAN = {
    "name": "plan",
    "stages": [[0, {"name": "uniform"}], [6, {"name": "confidence_interval", "low": 60, "high": 100}]],
    "interpolation": "linear",
}


@section
def noise_schedules(folder: Path) -> dict[str, Any]:
    configs = [
        {"name": "linear"}, {"name": "scaled_linear", "T": 500}, {"name": "cosine"}, {"name": "edm"},
        {"name": "flow", "shift": 3.0}, {"name": "from_betas", "betas": [0.1, 0.2, 0.5]},
        {"name": "from_alphas_cumprod", "alphas_cumprod": [0.9, 0.5, 0.0]},
    ]  # fmt: skip
    found = {}
    for config in configs:
        made = schedules.schedule_from_dict(config)
        finite = np.where(np.isfinite(made.log_snr), made.log_snr, -1e9)
        found[config["name"]] = {"alpha": both(made.alpha), "sigma": both(made.sigma), "log_snr": both(finite)}
    return found


ITEMS = rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
HELD_OUT = rng(1).integers(0, 256, (16, 8, 8), dtype=np.uint8)
TIMED = ("samples_per_second", "seconds", "time", "monitor_seconds")


def trainer(out: Path, **options: Any) -> training.Trainer:
    where = timesteps.ConfidenceInterval(low=60, high=100)
    settings: dict[str, Any] = {
        "steps": 12, "batch_size": 8, "lr": 1e-2, "warmup": 3, "checkpoint_every": 5, "log_every": 1, "device": "cpu",
        "progress": False, "ema": [0.9, "power-0.05"], "compile": False, "hflip": True, "seed": 11, "accumulate": 2,
    }  # fmt: skip
    model = options.pop("model", {"kind": "mlp", "width": 24, "blocks": 1, "dropout": 0.1})
    objective = options.pop("objective", None) or memfast.DenoisingObjective(
        schedules.linear(100), timesteps=where, loss_weight="min_snr"
    )
    return training.Trainer(model, options.pop("data", ITEMS), objective, out=out, **{**settings, **options})


def of_run(folder: Path) -> dict[str, Any]:
    log = [{key: value for key, value in row.items() if key not in TIMED} for row in training.read_log(folder)]
    found = models.newest_checkpoint(folder)
    weights = {}
    for file in sorted(name for name in found.state["files"] if name.endswith(".safetensors")):
        states = sorted(found.tensors(file).items())
        weights[file] = both(torch.cat([one.double().flatten() for _, one in states]))
    return {"log": log, "weights": weights}


@section
def training_run(folder: Path) -> dict[str, Any]:
    monitor = {"every": 4, "samples": 8, "steps": 6, "held_out": HELD_OUT}
    trainer(folder / "whole", hooks=[training.Monitor(**monitor)]).run()
    trainer(folder / "resumed", hooks=[training.Monitor(**monitor)], steps=7).run()
    trainer(folder / "resumed", hooks=[training.Monitor(**monitor)], resume=True).run()
    found = {"whole": of_run(folder / "whole"), "resumed": of_run(folder / "resumed")}
    objectives = {
        "plan": {"timesteps": PLAN, "loss_weight": "importance"},
        "adaptive": {"timesteps": {"name": "loss_second_moment", "history": 1}, "loss_weight": "importance"},
        "ambient": {"ambient": memfast.Ambient(timestep=30), "prediction_type": "sample"},
    }
    for name, options in objectives.items():
        made = memfast.DenoisingObjective(schedules.linear(100 if name != "adaptive" else 6), **options)
        trainer(folder / name, objective=made, steps=10, accumulate=1).run()
        found[name] = of_run(folder / name)
    run = models.load_run(folder / "whole")
    for method, options in (("ddim", {"eta": 0.5}), ("ddpm", {"steps": 20}), ("heun", {"steps": 6})):
        options = {"steps": 8, "seed": 3, **options}
        found[f"sample-{method}"] = both(sampling.sample(run, 4, method=method, **options).astype(np.float64))
        sampler = getattr(sampling, method)
        raw = sampler(run.model, run.schedule, shape=run.item_shape, count=4, **options)
        found[f"sampler-{method}"] = both(raw)
    return found


def labelled_run(folder: Path) -> Any:
    made = memfast.DenoisingObjective(schedules.linear(100))
    data = memfast.data.ArraySource(ITEMS, labels=np.arange(24) % 3)
    model = {"kind": "mlp", "width": 24, "blocks": 1, "num_classes": 3}
    trainer(folder, data=data, model=model, objective=made, labels=True, condition_dropout=0.2).run()
    return models.load_run(folder)


@section
def tracing(folder: Path) -> dict[str, Any]:
    run = labelled_run(folder / "run")
    result = trace.trace_run(
        run, labels=[0, 1, 2], seeds=[0, 3, 5], steps=6, guidance=3.0, targets=[ITEMS[0], ITEMS[1], None],
        memorized=[True, False, True], bank=ITEMS, sweep=(1.0,), rows=6,
    )  # fmt: skip
    other = trace.trace_run(
        run,
        labels=[1],
        seeds=2,
        steps=4,
        guidance={"name": "delayed", "until": 0.65, "scale": 3.0, "before": -2},
        target="final",
    )
    result.save(folder / "saved")
    content = json.loads((folder / "saved" / "trace.json").read_text())
    return {
        "trained": of_run(folder / "run"),
        "train": content,
        "final": other.to_dict(),
        "samples": both(result.samples),
    }


def audited(result: Any, folder: Path) -> dict[str, Any]:
    result.save(folder)
    figures = json.loads((folder / "result.json").read_text())
    with open(folder / "pairs.csv", newline="") as file:
        rows = list(csv.reader(file))
    found = {"figures": figures, "pairs": bits(folder / "pairs.csv"), "header": rows[0], "first": rows[1:4]}
    if result.neighbors is not None:
        for name, (squared, indices) in result.neighbors.items():
            found[f"neighbors-{name}"] = [bits(np.asarray(squared)), bits(np.asarray(indices))]
    return found


def image_sets(side: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = rng(7)
    training_set = generator.integers(0, 256, (90, side, side), dtype=np.uint8)
    training_set[80:85] = training_set[:5]
    training_set[85:90] = training_set[5:10]
    training_set[85:90, 0, 0] ^= 1
    generated = generator.integers(0, 256, (80, side, side), dtype=np.uint8)
    generated[:15] = training_set[40:55]
    generated[5:15, 1, 1] ^= 3
    generated[15:18] = training_set[6:9]
    return generated, training_set, generator.integers(0, 256, (50, side, side), dtype=np.uint8)


@section
def audits(folder: Path) -> dict[str, Any]:
    generated, training_set, test = image_sets()
    labels = {"labels": np.arange(80) % 3, "training_labels": np.arange(90) % 3, "test_labels": np.arange(50) % 3}
    signals = [rng(seed).normal(size=(count, 20)).astype(np.float32) for seed, count in ((1, 30), (2, 60), (3, 25))]
    signals[0][:6] = signals[1][:6]
    signals[0][6:9] = signals[1][6:9] + 1e-3
    large = [images[:20] for images in image_sets(64)]
    cases = {
        "labels": memfast.audit(generated, training_set, test, labels=labels["labels"], planted=20),
        "all": memfast.audit(
            generated, training_set, test, **labels, features="pixels", near_duplicates=0.01, planted=10, k=20
        ),
        "alone": memfast.audit(generated, training_set, controls=False, seed=3, resamples=200),
        "few": memfast.audit(generated[:5], training_set[:7], test[:6], criteria=["nndr", "dcr"], k=50),
        "signals": memfast.audit(*signals, planted=10, features="pixels", value_range=(-3, 3)),
        "tiles": memfast.audit(*large, planted=5, k=10),
        "canaries": memfast.audit(generated, training_set[:40], test, canaries=training_set[40:44], planted=5),
    }
    return {name: audited(result, folder / name) for name, result in cases.items()}


@section
def evaluations(folder: Path) -> dict[str, Any]:
    generated, training_set, test = image_sets()
    few = [rng(seed).normal(size=(count, 6)).astype(np.float64) for seed, count in ((1, 70), (2, 90), (3, 60))]
    few[0][:10] = few[1][:10]
    cases = {
        "pixels": memfast.evaluate(generated, training_set, test, labels=np.arange(80) % 3, seed=1),
        "given": memfast.evaluate(*few, features="given", options={"k": 4, "exact_transport_rows": 50}, seed=2),
        "plain": memfast.evaluate(few[0], few[1], features="given"),
    }
    return {case: {name: one.to_dict() for name, one in found.items()} for case, found in cases.items()}


@section
def searches(folder: Path) -> dict[str, Any]:
    generator = rng(4)
    small, large = (generator.integers(0, 256, (n, 37), dtype=np.uint8) for n in (23, 301))
    large[100:110] = large[:10]
    small[:3] = large[50:53]
    floats = [generator.normal(size=(n, 19)).astype(np.float32) for n in (23, 301)]
    found: dict[str, Any] = {}
    for name, (queries, database) in {"uint8": (small, large), "float": tuple(floats)}.items():
        for metric in ("euclidean", "cosine") if name == "float" else ("euclidean",):
            near = memfast.knn(queries, database, 7, metric=metric)
            exact = name == "uint8"
            found[f"knn-{name}-{metric}"] = {
                "indices": bits(near.indices, everywhere=exact),
                "squared": bits(near.squared_distances, everywhere=exact),
                "first": near.squared_distances[:, 0], "exactness": near.exactness,
            }  # fmt: skip
        kept = memfast.knn(queries, database, 5, checkpoint=folder / name, memory=1 << 20)
        again = memfast.knn(queries, database, 5, checkpoint=folder / name, memory=1 << 20)
        found[f"checkpoint-{name}"] = [
            bits(one) for two in (kept, again) for one in (two.squared_distances, two.indices)
        ]
        own = memfast.knn(database, database, 3, exclude_self=True)
        found[f"self-{name}"] = [bits(own.squared_distances), bits(own.indices)]
        limit = float(np.asarray(own.squared_distances)[:, 1].mean())
        groups = neighbors.duplicates(database, radius_squared=limit)
        found[f"near-{name}"] = bits(groups.representative)
        found[f"equal-{name}"] = bits(neighbors.exact_duplicates(database).representative)
        inside = first(neighbors, "radius_neighbors", "range_search", "within")
        pairs = list(inside(queries, database, radius_squared=limit))
        lines = [
            np.concatenate([np.asarray(one) for one in column]) for column in zip(*map(columns, pairs), strict=True)
        ]
        found[f"radius-{name}"] = [bits(line) for line in lines]
    blocks = ops.nearest(small, large, 4)
    found["block"] = [bits(one, everywhere=True) for one in (blocks.squared_distances, blocks.indices)]
    return found


def columns(pairs: Any) -> list[np.ndarray]:
    return [np.asarray(value) for value in vars(pairs).values() if isinstance(value, np.ndarray)]


def states() -> list[SimpleNamespace]:
    found = []
    for index in range(4):
        sigma = 0.99 - 0.2 * index
        state, conditional, unconditional = normal(3, 4, 2, 12, 12, seed=40 + index)
        found.append(
            SimpleNamespace(
                index=index, alpha=(1 - sigma**2) ** 0.5, sigma=sigma, state=state, noise_hat=conditional,
                conditional=conditional, unconditional=unconditional,
            )
        )  # fmt: skip
    empty = {"noise_hat": None, "conditional": None, "unconditional": None}
    return [*found, SimpleNamespace(index=4, alpha=1.0, sigma=0.0, state=found[-1].state, **empty)]


@section
def detector_scores(folder: Path) -> dict[str, Any]:
    found = {}
    squared = rng(8).uniform(1, 9, (4, 3)).cumsum(1)
    names = [
        "wen", "wen_first", "jeon", "hintersdorf", "nearest_distance", "nearest_ratio", "ren", "ren_first",
        "bright_ending",
    ]  # fmt: skip
    for name in names:
        watcher = detectors.detector(name)
        watcher.begin(4, groups=np.array([0, 0, 1, 1]), tokens=np.array([3, 5, 7, 4]))
        if watcher.needs_distances:
            watcher.distances(squared)
        else:
            for index, step in enumerate(states()):
                more: dict[str, Any] = {}
                if watcher.needs_network:
                    more["difference"] = lambda x: torch.sin(x) * x.roll(1, -1)
                if watcher.needs_attention and index < 4:
                    layers = [normal(4, p, 7, seed=90 + index).softmax(2) for p in (144, 36, 36, 144)]
                    more["attention"] = layers
                watcher.step(step, **more)
        found[name] = watcher.scores()
    curve = detectors.roc(rng(9).normal(size=40), np.arange(40) % 3 == 0)
    found["roc"] = [curve.auc, *curve.auc_interval, *curve.tpr_at(0.1)[1], curve.fpr, curve.tpr]
    return found


@section
def judgements(folder: Path) -> dict[str, Any]:
    generator = rng(10)
    squared = np.sort(generator.integers(0, 4000, (50, 50)), axis=1)
    indices = generator.integers(0, 200, (50, 50))
    evidence = criteria.Evidence(
        squared, indices, values=64, unit=255.0, neighbour_gaps=generator.integers(1, 2000, 50),
        tile_distances=generator.uniform(0, 0.5, (50, 50)), similarities=generator.uniform(-1, 1, 50),
        similar_indices=generator.integers(0, 200, 50),
    )  # fmt: skip
    found = {}
    for criterion in criteria.choose("all"):
        judged = criterion.judge(evidence)
        found[criterion.name] = {
            "scores": judged.scores, "flags": bits(judged.flags), "partners": bits(judged.partners),
            "curve": criterion.curve(evidence, judged), "grid": bits(criterion.grid), "threshold": criterion.threshold,
            "levels": list(criterion.levels), "parameters": criterion.parameters(),
        }  # fmt: skip
    images = generator.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found["worst_tile"] = criteria.worst_tile(images, images[::-1], unit=255.0)
    found["shares"] = [
        *criteria.wilson(3, 40), *criteria.clopper_pearson(3, 40), *criteria.bootstrap(3, 40, seed=5),
        *criteria.difference(3, 40, 9, 50),
    ]  # fmt: skip
    return found


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(json.dumps({"machine": machine(), "values": compute()}, indent=0) + "\n")
