"""``memfast trace``: follow sampling runs from noise to sample, and see memorization happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from memfast.cli.conditions import TracedCondition, of_labels, read_conditions, targets_of
from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json
from memfast.cli.trace_sources import (
    DTYPES,
    features_of,
    kind_of,
    load_pipeline,
    numbers,
    rule_of,
    seeds_of,
    usable_device,
)  # fmt: skip
from memfast.foundation.errors import InputError

if TYPE_CHECKING:
    from memfast.results.trace import TraceFigures
    from memfast.trace import TraceResult

NAME = "trace"
MOST_PRINTED = 12
SHOWN = ("d1", "d2", "overestimation", "normalised_loss")


SourceArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="What `memfast train` wrote, or a diffusers pipeline's folder.")
]
LabelsOption = Annotated[str | None, typer.Option(help="Classes to follow, comma-separated; default: all of the run.")]
PromptsOption = Annotated[
    Path | None,
    typer.Option(help="Conditions: .txt, .json, .jsonl or .csv (name, label or prompt, memorized, target)."),
]
TargetsOption = Annotated[str | None, typer.Option(help="Training items of the conditions: folder, npy, npz, zip, ...")]
TargetOption = Annotated[
    str | None, typer.Option(help="train: measure against --targets (default with them); final: the own sample.")
]
GuidanceOption = Annotated[
    float | None, typer.Option(help="Guidance scale; default: 7.5, or 1 for a run without classes.")
]
UntilOption = Annotated[
    float | None,
    typer.Option(min=0, help="End of the delay: share of the first timestep (up to 1; default 0.65), or a timestep."),
]
MethodOption = Annotated[
    str | None, typer.Option(help="ddim, ddpm or heun; for a pipeline ddim or own (its scheduler).")
]
FeaturesOption = Annotated[
    str | None, typer.Option(help="For similarity: pixels (default), a model's file or a name on disk.")
]


def run(
    source: SourceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for trace.json, trace.csv and trace.html.")],
    labels: LabelsOption = None,
    prompts: PromptsOption = None,
    targets: TargetsOption = None,
    bank: Annotated[str | None, typer.Option(help="The training set: adds nearest items and the posterior.")] = None,
    target: TargetOption = None,
    seeds: Annotated[str, typer.Option(help="How many starts per condition, or their numbers: 3,5,8.")] = "8",
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 50,
    guidance: GuidanceOption = None,
    guidance_rule: Annotated[str | None, typer.Option(help="delayed, opposite or dynamic: a mitigation.")] = None,
    until: UntilOption = None,
    sweep: Annotated[str | None, typer.Option(help="More guidance scales to compare: 1,3,7.5.")] = None,
    method: MethodOption = None,
    detectors: Annotated[str | None, typer.Option(help="Names, comma-separated; default: all that can run.")] = None,
    features: FeaturesOption = None,
    weights: Annotated[str | None, typer.Option(help="'model' or the name of an average, of a run.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="A checkpoint's folder name, of a run.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cpu.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16, of a pipeline.")] = "float32",
    variant: Annotated[str | None, typer.Option(help="Of a pipeline's weights: fp16 for *.fp16.safetensors.")] = None,
    keep_states: Annotated[bool, typer.Option("--keep-states", help="Also write every state to states.npy.")] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sample every condition of RUN from the same starts, and measure in each state what takes it over.

    Nothing is loaded from a network, and no code of a pipeline's folder is run.
    """
    from memfast.trace.result import PAGE_FILE

    kind = kind_of(source)
    # Whatever is wrong with the options is found before a network is loaded.
    usable_device(device)
    rule_of(guidance_rule, 1.0 if guidance is None else guidance, until)
    conditions = _conditions(labels, prompts)
    options: dict[str, Any] = {
        "seeds": seeds_of(seeds), "steps": steps, "sweep": numbers("--sweep", sweep), "keep_states": keep_states,
        "target": _target(target, targets),
        "detectors": None if detectors is None else [name.strip() for name in detectors.split(",")],
        "progress": not quiet,
    }  # fmt: skip
    if kind == "run":
        from memfast.models import load_run

        _refuse("a diffusers pipeline", "a run of `memfast train`", dtype=dtype != DTYPES[0], variant=variant)
        trained = load_run(source, weights=weights, checkpoint=checkpoint, device=device or "cpu")
        with _claimed(out, overwrite):
            result = _trace_run(
                trained, conditions, guidance, (guidance_rule, until), _open(targets, quiet), _open(bank, quiet),
                features_of(features, device, trained.to_data), {**options, "method": method or "ddim", "seed": seed},
            )  # fmt: skip
    else:
        _refuse(
            "a run of `memfast train`", "a diffusers pipeline", labels=labels, seed=seed, weights=weights,
            checkpoint=checkpoint,
        )  # fmt: skip
        listed = _with_prompts(conditions)
        pipe = load_pipeline(source, method=method, device=device, dtype=dtype, variant=variant)
        with _claimed(out, overwrite):
            result = _trace_pipeline(
                pipe, listed, rule_of(guidance_rule, _default_guidance() if guidance is None else guidance, until),
                targets, bank, features, device, quiet, options,
            )  # fmt: skip
    result.save(out, page=True, states=True)
    page = out / PAGE_FILE
    if as_json:
        print_json({**facts(result), "folder": str(out), "page": str(page)})
    else:
        print_summary(result)
        print(f"page: {page}")


def facts(trace: "TraceFigures") -> dict[str, Any]:
    """A trace without its curves, for JSON."""
    from memfast.foundation.values import plain

    detection = None
    if trace.detection is not None:
        detection = {
            name: {key: value for key, value in plain(one).items() if key != "roc"}
            for name, one in trace.detection.items()
        }
    return {
        "source": plain(trace.source),
        "sampler": plain(trace.sampler),
        "correlations": plain(trace.correlations),
        "detection": detection,
        "conditions": [
            {
                **{key: plain(getattr(one, key)) for key in ("name", "label", "memorized", *SHOWN, "detectors")},
                "similarity": one.similarity.mean,
            }
            for one in trace.conditions
        ],
        "guidance_sweep": plain(trace.guidance_sweep),
    }


def print_summary(trace: "TraceFigures") -> None:
    """The conditions with the largest D1, the correlations, the best detector."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    conditions = sorted(trace.conditions, key=lambda one: -(one.d1 if one.d1 is not None else float("-inf")))
    table = Table("condition", "memorized", "D1", "D2", "similarity", "overestimation", box=None, pad_edge=False)
    for one in conditions[:MOST_PRINTED]:
        known = {True: "yes", False: "no", None: ""}[one.memorized]
        values = (one.d1, one.d2, one.similarity.mean, one.overestimation)
        table.add_row(Text(one.name), known, *("" if value is None else f"{value:.4g}" for value in values))
    Console().print(table)
    if len(conditions) > MOST_PRINTED:
        print(f"... and {len(conditions) - MOST_PRINTED} more with a smaller D1")
    for name in ("d1", "d2"):
        entry = None if trace.correlations is None else getattr(trace.correlations, name)
        if entry is not None and entry.pearson is not None:
            interval = f" ({entry.interval[0]:.2f} to {entry.interval[1]:.2f})" if entry.interval else ""
            print(f"correlation of {name.upper()} with similarity: {entry.pearson:.2f}{interval}")
    if trace.detection:
        name, best = max(trace.detection.items(), key=lambda one: one[1].auc)
        ends = "" if best.auc_interval is None else " ({:.3f} to {:.3f})".format(*best.auc_interval)
        print(f"best detector: {name}, area under the curve {best.auc:.3f}{ends}")


def _conditions(labels: str | None, prompts: Path | None) -> list[TracedCondition] | None:
    """The conditions by their labels or from a file; None where neither is given."""
    if labels is not None and prompts is not None:
        raise InputError("--labels and --prompts", expected="one of them", received="both")
    if labels is not None:
        return of_labels(numbers("--labels", labels, int))
    return None if prompts is None else read_conditions(prompts)


def _target(target: str | None, targets: str | None) -> str:
    """What to measure against: training items where there are some, otherwise each sample's own end."""
    if target not in (None, "train", "final"):
        raise InputError("--target", expected="train or final", received=repr(target))
    if target == "train" and targets is None:
        raise InputError("--target train", expected="--targets beside it", received="none")
    return target or ("final" if targets is None else "train")


def _default_guidance() -> float:
    from memfast.trace import TraceConfig

    return cast(float, TraceConfig.guidance)


def _refuse(belongs_to: str, traced: str, **given: Any) -> None:
    """Refuse options that belong to the other kind of subject."""
    for name, value in given.items():
        if value:
            raise InputError(f"--{name}", expected=belongs_to, received=traced)


@contextmanager
def _claimed(out: Path, overwrite: bool) -> Iterator[None]:
    """Take the output folder; a new one is given back where the trace cannot be made."""
    from memfast.runtime.files import claim_output_folder

    claim_output_folder(out, overwrite=overwrite)
    try:
        yield
    except BaseException:
        if not any(out.iterdir()):
            out.rmdir()
        raise


def _trace_run(
    trained: Any, conditions: list[TracedCondition] | None, guidance: float | None,
    rule: tuple[str | None, float | None], targets: Any, bank: Any, features: Any, options: dict[str, Any],
) -> "TraceResult":  # fmt: skip
    from memfast.trace import trace_run

    classes = trained.num_classes
    if conditions is None:
        conditions = of_labels(range(classes)) if classes else [TracedCondition("no condition")]
    elif classes is None:
        raise InputError("--labels or --prompts", expected="none: the run has no classes", received="conditions")
    lacking = next((one for one in conditions if classes and one.label is None), None)
    if lacking is not None:
        raise InputError(f"condition {lacking.name!r}", expected=f"a label from 0 to {classes - 1}", received="none")
    labels = [one.label for one in conditions if one.label is not None]
    scale = guidance if guidance is not None else _default_guidance() if classes else 1.0
    return trace_run(
        trained, labels=labels if classes else None,
        names=[one.name for one in conditions], memorized=[one.memorized for one in conditions],
        targets=None if targets is None else targets_of(conditions, targets, classes),
        bank=None if bank is None else bank.take(range(len(bank))), guidance=rule_of(rule[0], scale, rule[1]),
        features=features, **options,
    )  # fmt: skip


def _trace_pipeline(
    pipe: Any, conditions: list[TracedCondition], guidance: Any, targets: str | None, bank: str | None,
    features: str | None, device: str | None, quiet: bool, options: dict[str, Any],
) -> "TraceResult":  # fmt: skip
    from memfast.integrations import guided_by
    from memfast.trace import trace_pipeline
    from memfast.trace.subjects.pipeline import image_size

    height, width = image_size(pipe)
    items, known = (
        _open(path, quiet, mode="RGB", image_size=height if height == width else None) for path in (targets, bank)
    )
    return trace_pipeline(
        pipe, prompts=[one.prompt or "" for one in conditions], names=[one.name for one in conditions],
        memorized=[one.memorized for one in conditions],
        targets=None if items is None else targets_of(conditions, items),
        bank=None if known is None else list(known.block(0, len(known))),
        guidance=guidance, guided_by=guided_by,
        features=features_of(features, device, lambda images: images), **options,
    )  # fmt: skip


def _with_prompts(conditions: list[TracedCondition] | None) -> list[TracedCondition]:
    if conditions is None:
        raise InputError("--prompts", expected="a file of prompts: a pipeline needs them", received="none")
    for one in conditions:
        if one.prompt is None:
            raise InputError(f"condition {one.name!r}", expected="a prompt", received="a label")
    return conditions


def _open(path: str | None, quiet: bool, **options: Any) -> Any:
    from memfast.data import open_source

    return None if path is None else open_source(path, progress=not quiet, **options)
