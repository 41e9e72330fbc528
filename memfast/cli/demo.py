"""``memfast demo``: two small models on the embedded data, one trained late, both audited; minutes on two cores."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json
from memfast.foundation.values import percent

if TYPE_CHECKING:
    from memfast.auditing import AuditResult
    from memfast.data import ArraySource

NAME = "demo"

# Chosen so that a model trained on uniform timesteps visibly memorizes within the minutes a demo may take. A network
# this small memorizes ten times sooner when it predicts the clean sample than when it predicts the noise.
SIDE = 14
TRAINING_ITEMS, HELD_OUT_ITEMS = 200, 1000
STEPS, BATCH_SIZE, LEARNING_RATE = 5000, 64, 2e-3
SAMPLES, SAMPLING_STEPS = 1000, 50
MODEL = {"kind": "mlp", "width": 256, "blocks": 3}
PREDICTION_TYPE = "sample"
RUNS: dict[str, dict[str, Any]] = {
    "uniform": {"name": "uniform"},
    "late": {"name": "confidence_interval", "low": 800, "high": 1000},
}


def run(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.")] = Path("memfast-demo"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each model.")] = STEPS,
    samples: Annotated[int, typer.Option(min=2, help="Samples drawn from each model.")] = SAMPLES,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train two small models on 200 Fashion-MNIST images, sample, audit, and write report.html.

    One model learns at uniform timesteps, one mostly at late (noisy) ones. Both are audited against the images they
    were trained on and against images that neither has seen.
    """
    from memfast.reports import write_report
    from memfast.runtime.files import claim_output_folder, write_json

    started = time.monotonic()
    claim_output_folder(out, overwrite=overwrite)
    training, held_out = demo_sets()
    results, runs = {}, []
    for label, timesteps in RUNS.items():
        if not quiet and not as_json:
            typer.echo(f"{label} timesteps: training on {len(training)} images")
        folder = out / label
        train_one(folder, training, timesteps, steps=steps, seed=seed, progress=not quiet)
        result = audit_one(folder, training, held_out, samples=samples, seed=seed, progress=not quiet)
        results[label] = result
        runs.append(_report_run(result, label, folder))
    write_report(out / "report.html", runs, title="memfast demo: the same data, two timestep densities")
    facts = _facts(results, seconds=time.monotonic() - started)
    write_json(out / "result.json", facts)
    if as_json:
        print_json(facts)
        return
    for label, result in results.items():
        headline = result.found.headline
        if headline is not None:
            share = headline.copies
            low, high = (percent(end) for end in share.wilson)
            typer.echo(f"{label:8} {percent(share.fraction):>7} of samples copy a training image  [{low} to {high}]")
    typer.echo(f"report: {out / 'report.html'}")


def demo_sets() -> "tuple[ArraySource, ArraySource]":
    """The training images and the held-out images of the demo, balanced over the classes."""
    from memfast.data import ArraySource
    from memfast.data.demo_images import demo_images

    source = demo_images(SIDE)
    parts = []
    for name, start, stop in (
        ("training images", 0, TRAINING_ITEMS), ("held-out images", len(source) - HELD_OUT_ITEMS, len(source)),
    ):  # fmt: skip
        names = [source.item_name(index) for index in range(start, stop)]
        labels = None if source.labels is None else source.labels[start:stop]
        parts.append(ArraySource(source.block(start, stop), name=name, labels=labels, names=names))
    return parts[0], parts[1]


def train_one(
    folder: Path, training: "ArraySource", timesteps: dict[str, Any], *, steps: int, seed: int, progress: bool
) -> None:
    """Train the demo's network into ``folder``."""
    from memfast.objective import DenoisingObjective
    from memfast.training import Trainer

    objective = DenoisingObjective.from_dict(
        {"schedule": {"name": "linear", "T": 1000}, "timesteps": timesteps, "prediction_type": PREDICTION_TYPE}
    )
    model = {**MODEL, "item_shape": [1, SIDE, SIDE]}
    Trainer(
        model, training, objective, out=folder, steps=steps, batch_size=BATCH_SIZE, lr=LEARNING_RATE, warmup=100,
        lr_decay="cosine", ema=0.999, seed=seed, compile=False, checkpoint_every=2000, keep=1, device="cpu",
        overwrite=True, progress=progress,
    ).run()  # fmt: skip


def audit_one(
    folder: Path, training: "ArraySource", held_out: "ArraySource", *, samples: int, seed: int, progress: bool
) -> "AuditResult":
    """Sample from the run in ``folder``, keep the samples there, and audit them."""

    import memfast
    from memfast.data import ArraySource
    from memfast.models import load_run
    from memfast.runtime.files import write_npy
    from memfast.sampling import sample

    made = sample(load_run(folder), samples, steps=SAMPLING_STEPS, seed=seed)
    write_npy(folder / "samples.npy", made)
    generated = ArraySource(made, name=f"samples of {folder.name}")
    result = memfast.audit(generated, training, held_out, seed=seed, progress=progress)
    result.save(folder / "audit")
    return result


def _report_run(result: "AuditResult", label: str, folder: Path) -> Any:
    from memfast.cli.story import training_story

    return result.report_run(label, training=training_story(folder))


def _facts(results: "dict[str, AuditResult]", *, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "runs": {label: result.figures for label, result in results.items()},
    }
