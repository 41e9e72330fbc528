"""``memfast audit``: generated samples against a training set."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.auditing.config import SETS, AuditConfig
from memfast.cli.labels import read_labels
from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json, print_lines
from memfast.cli.story import training_story
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import CheckpointError, InputError
from memfast.foundation.values import in_percent, percent, plain
from memfast.runtime.files import claim_output_folder, remove_folder, remove_unfinished, write_together

if TYPE_CHECKING:
    import numpy as np

    from memfast.auditing import AuditResult
    from memfast.criteria import Criterion
    from memfast.data import Source

NAME = "audit"
GATE_NOT_MET = 3
PROGRESS = ".progress"


def _option(name: str, *spellings: str, **limits: Any) -> Any:
    """The flag of one of the audit's options, with the words that stand beside its default."""
    return typer.Option(*spellings, help=AuditConfig.words(name), **limits)


def run(
    paths: Annotated[
        list[str], typer.Argument(metavar="GENERATED... TRAINING", help="Folders, npy, npz, zip, tar, parquet, ...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for result.json, pairs.csv and report.html.")],
    training: Annotated[
        str | None, typer.Option("--training", "-t", help="The training set; then every GENERATED is audited.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Held-out data of the same distribution.")] = None,
    k: Annotated[int, _option("k", "-k", min=1)] = AuditConfig.k,
    criteria: Annotated[str | None, _option("criteria")] = AuditConfig.criteria,
    features: Annotated[str | None, _option("features")] = AuditConfig.features,
    similarity: Annotated[
        str | None, typer.Option(help="Thresholds of similarity, comma-separated; the first decides.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Classes of GENERATED: npy or text.")] = None,
    training_labels: Annotated[Path | None, typer.Option(help="Classes of TRAINING: npy or text.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Classes of --test: npy or text.")] = None,
    value_range: Annotated[list[str] | None, _option("value_range", metavar="[SET=]LOW,HIGH")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Also evaluate: 'all', or names of metrics, comma-separated.")
    ] = None,
    max_memorized: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Exit with code 3 if a larger share was copied by the first criterion."),
    ] = None,
    approximate: Annotated[str | None, _option("approximate")] = AuditConfig.approximate,
    near_duplicates: Annotated[float | None, _option("near_duplicates")] = AuditConfig.near_duplicates,
    controls: Annotated[bool, _option("controls")] = AuditConfig.controls,
    memory: Annotated[float | None, _option("memory")] = AuditConfig.memory,
    skip_bad: Annotated[bool, _option("skip_bad", "--skip-bad")] = AuditConfig.skip_bad,
    strict: Annotated[bool, _option("strict", "--strict")] = AuditConfig.strict,
    image_size: Annotated[int | None, typer.Option(min=1, help="Crop and resize all images to this side.")] = None,
    mode: Annotated[str, typer.Option(help="auto, L (gray) or RGB.")] = "auto",
    run_folder: Annotated[Path | None, typer.Option("--run", help="The training run, to show in the report.")] = None,
    canaries: Annotated[
        str | None, typer.Option(help="A run trained with canaries, or its canaries; default: those of --run.")
    ] = None,
    backend: Annotated[str, _option("backend")] = AuditConfig.backend,
    seed: SeedOption = AuditConfig.seed,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every generated sample with the whole training set, and say who was copied.

    A killed audit continues where it was when the same command runs again. `torchrun --nproc-per-node N -m memfast
    audit ...` shares the work, with the same result.
    """
    from memfast.runtime import distributed

    generated, training = _split(paths, training)
    if memory is not None:
        finite_number("--memory", memory, above=0)
    options = {
        "k": k, "features": features, "value_range": _ranges(value_range or []), "controls": controls,
        "memory": None if memory is None else int(memory * 2**30), "approximate": approximate, "backend": backend,
        "seed": seed, "skip_bad": skip_bad, "strict": strict,
    }  # fmt: skip
    with distributed.session() as ranks:
        progress = ranks.is_main and not quiet
        request = _Request(
            generated, training, test, out, metrics, max_memorized, run_folder,
            reading={"skip_bad": skip_bad, "image_size": image_size, "mode": mode, "progress": progress},
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
        with ranks.fail_together():
            # Whatever can be wrong is found before the search, which may take hours.
            if near_duplicates is not None:
                finite_number("--near-duplicates", near_duplicates, above=0)
            chosen = _criteria(criteria, similarity, features)
            config = AuditConfig(
                criteria=chosen, near_duplicates=near_duplicates, require=_gate(chosen, max_memorized), **options
            )
            opened = _open(request, (labels, training_labels, test_labels), canaries)
            if ranks.is_main:
                _claim(out, overwrite)
        results = _audit_each(request, config, opened, alone=ranks.size == 1)
        if not ranks.is_main:
            return
    printed = _write(request, config, opened, results)
    _print(request, results, printed if as_json else None)
    _check_gate(results, max_memorized)


@dataclass(frozen=True)
class _Request:
    """What one call of the command asks for, beside the audit's own options."""

    generated: list[str]
    training: str
    test: str | None
    out: Path
    metrics: str | None
    max_memorized: float | None
    run_folder: Path | None
    reading: Mapping[str, Any]
    overwrite: bool
    progress: bool


@dataclass(frozen=True)
class _Opened:
    """The sets, their labels and the canaries; the generated sets by the name that each gets in the output."""

    generated: "dict[str, Source]"
    training: "Source"
    test: "Source | None"
    labels: "tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]"
    canaries: Any
    story: dict[str, Any] | None


def _open(request: _Request, labels: tuple[Path | None, Path | None, Path | None], canaries: str | None) -> _Opened:
    """Open everything that the command names, and say on stderr what was not read."""
    from memfast.data import open_source
    from memfast.metrics.registry import choose

    if request.metrics is not None:
        choose(request.metrics, has_test=request.test is not None)
    story = None if request.run_folder is None else training_story(request.run_folder)
    added = _canaries(canaries, request.run_folder, request.reading)
    names = ("--labels", "--training-labels", "--test-labels")
    given = tuple(read_labels(name, path) for name, path in zip(names, labels, strict=True))
    training = open_source(request.training, **request.reading)
    # Tables take the training set's scale and categories.
    alike = {**request.reading, "like": training}
    test = None if request.test is None else open_source(request.test, **alike)
    generated = {label: open_source(path, **alike) for label, path in _labels(request.generated).items()}
    if given[0] is not None and len(generated) > 1:
        raise InputError(
            "--labels", expected="one generated set", received=f"{len(generated)}",
            do="Give each set its own labels, in a file of its own with its samples, or audit one at a time.",
        )  # fmt: skip
    if given[2] is not None and test is None:
        raise InputError("--test-labels", expected="--test beside it", received="no held-out set")
    return _Opened(generated, training, test, (given[0], given[1], given[2]), added, story)


def _audit_each(request: _Request, config: AuditConfig, opened: _Opened, *, alone: bool) -> "dict[str, AuditResult]":
    """The audit of every generated set; the controls of the first serve the others."""
    from memfast.auditing.opened import AuditData

    if request.progress and request.metrics is not None and config.features in (None, "pixels", "given"):
        _announce(opened, request.metrics)
    results: dict[str, AuditResult] = {}
    for label, source in opened.generated.items():
        data = AuditData(source, opened.training, opened.test, *opened.labels, opened.canaries)
        reuse = next(iter(results.values()), None)
        results[label] = _audit_one(request, config, data, request.out / PROGRESS / label, reuse, alone=alone)
    return results


def _audit_one(
    request: _Request, config: AuditConfig, data: Any, checkpoint: Path, reuse: "AuditResult | None", *, alone: bool
) -> "AuditResult":
    """One audit; with --overwrite an unfinished one of other data or options is started again."""
    import memfast

    audited = partial(
        memfast.audit, data.generated, data.training, data.test, labels=data.labels,
        training_labels=data.training_labels, test_labels=data.test_labels, canaries=data.canaries,
        checkpoint=checkpoint, reuse=reuse, progress=request.progress, **config.given(),
    )  # fmt: skip
    try:
        return audited()
    except CheckpointError as error:
        if not alone:
            raise
        if not request.overwrite:
            raise CheckpointError(f"{error} Or start the audit again with --overwrite.") from error
        print_lines(f"memfast: {error} Starting again, as --overwrite says.", error=True)
        shutil.rmtree(checkpoint, ignore_errors=True)
        return audited()


def _write(
    request: _Request, config: AuditConfig, opened: _Opened, results: "dict[str, AuditResult]"
) -> dict[str, dict[str, Any]]:
    """Evaluate where metrics were asked for, write every result and the page; what `--json` prints, by set."""
    import memfast
    from memfast.auditing.result import FILES, REPORT_FILE
    from memfast.reports import render

    runs, printed = [], {}
    for label, result in results.items():
        measured = None
        if request.metrics is not None:
            measured = memfast.evaluate(
                opened.generated[label], opened.training, opened.test, metrics=request.metrics,
                features=config.features or "pixels", labels=result.pairs.labels("generated"), seed=config.seed,
                progress=request.progress, neighbors=result.neighbors,
            )  # fmt: skip
        folder = request.out if len(results) == 1 else request.out / label
        result.report(folder, label=label, training=opened.story, metrics=measured)
        runs.append(result.report_run(label, training=opened.story, metrics=measured))
        printed[label] = {**result.figures, "metrics": plain(runs[-1].metrics)}
    if len(runs) > 1:
        # Files of an earlier audit of one set, which this page is not about, go.
        write_together(request.out, {REPORT_FILE: render(runs)}, remove=FILES)
    remove_folder(request.out / PROGRESS)
    return printed


def _print(request: _Request, results: "dict[str, AuditResult]", as_json: dict[str, dict[str, Any]] | None) -> None:
    from memfast.auditing.result import REPORT_FILE, unread_sentences

    if as_json is None:
        for label, result in results.items():
            print_lines(f"{label}\n{result.summary()}" if len(results) > 1 else result.summary())
        print_lines(f"report: {request.out / REPORT_FILE}")
        return
    print_json(next(iter(as_json.values())) if len(as_json) == 1 else as_json)
    said: dict[str, None] = {}
    for label, result in results.items():
        inputs = result.found.inputs
        name = label if len(results) > 1 else "generated"
        for sentence in unread_sentences(
            [(name, inputs.generated), ("training", inputs.training), ("held-out", inputs.held_out)]
        ):
            said[sentence] = None
    for sentence in said:
        print_lines(f"memfast: {sentence}", error=True)


def _split(paths: list[str], training: str | None) -> tuple[list[str], str]:
    if training is not None:
        return paths, training
    if len(paths) != 2:
        raise typer.BadParameter(
            f"expected GENERATED and TRAINING, received {len(paths)} path(s); "
            "name the training set with --training to audit several sets"
        )
    return paths[:1], paths[1]


def _labels(paths: list[str]) -> dict[str, str]:
    """A short name for each set: its file's or folder's; those of one name get their folders' names before it."""
    places = [_parts(path) for path in paths]
    named: dict[str, str] = {}
    for at, path in enumerate(paths):
        others = places[:at] + places[at + 1 :]
        # A name behind `::` says little without its file's.
        least = min(len(places[at]), 2 if "::" in path else 1)
        counts = range(least, len(places[at]) + 1)
        count = next((n for n in counts if all(one[-n:] != places[at][-n:] for one in others)), least)
        base = name = "-".join(places[at][-count:])
        number = 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = path
    return named


def _parts(path: str) -> list[str]:
    """The folders above a set, its own name without its ending, and what stands behind ``::``."""
    location, *parts = path.split("::")
    place = Path(location).resolve()
    name = place.name if place.is_dir() else place.stem
    return [*place.parts[1:-1], name or "generated", *(part.replace("/", "-") for part in parts if part)]


def _ranges(given: list[str]) -> Any:
    """``--value-range`` as the audit takes it: one pair, or a pair for each named set."""
    ranges: dict[str, tuple[float, float]] = {}
    for text in given:
        name, _, numbers = text.rpartition("=")
        try:
            low, high = (float(word) for word in numbers.split(","))
        except ValueError as error:
            raise InputError(
                "--value-range", expected="LOW,HIGH or SET=LOW,HIGH, like -1,1 or generated=0,1", received=repr(text)
            ) from error
        if name not in ("", *SETS) or name in ranges:
            received = repr(name) + (" twice" if name in ranges else "")
            raise InputError("--value-range", expected=f"each of {', '.join(SETS)} at most once", received=received)
        ranges[name] = (low, high)
    if "" in ranges and len(ranges) > 1:
        raise InputError("--value-range", expected="one range for all sets, or ranges of named sets", received="both")
    return ranges.get("", ranges or None)


def _criteria(names: str | None, similarity: str | None, features: str | None) -> "list[str | Criterion] | None":
    """The chosen criteria; the first threshold of --similarity decides, the others are reported beside it."""
    chosen: list[str | Criterion] | None = None if names is None else [name.strip() for name in names.split(",")]
    if similarity is None:
        return chosen
    from memfast.criteria import Similarity, choose

    if features is None:
        raise InputError("--similarity", expected="--features beside it", received="no features")
    try:
        thresholds = [float(word) for word in similarity.split(",")]
    except ValueError as error:
        expected = "thresholds separated by commas, like 0.75,0.5"
        raise InputError("--similarity", expected=expected, received=repr(similarity)) from error
    every = [one.name for one in choose()] if chosen is None else [one for one in chosen if one != Similarity.name]
    own = Similarity(thresholds[0], thresholds[1:])
    return [own if one == Similarity.name else one for one in every] + ([] if chosen is None else [own])


def _gate(chosen: "list[str | Criterion] | None", max_memorized: float | None) -> "tuple[Criterion, ...]":
    """The criterion that --max-memorized judges by, which must then apply: the first."""
    from memfast.criteria import choose

    return () if max_memorized is None else tuple(choose(chosen)[:1])


def _canaries(given: str | None, run_folder: Path | None, options: Mapping[str, Any]) -> Any:
    """The canaries of a run, items that were added by hand, or None."""
    from memfast.data import open_source
    from memfast.data.canaries import REPEATS_FILE, Canaries

    for folder in (given, run_folder):
        if folder is not None and (Path(folder) / REPEATS_FILE).is_file():
            return Canaries.load(folder)
        if given is not None:
            return open_source(given, **options)
    return None


def _announce(opened: _Opened, metrics: str) -> None:
    """What the audit's searches and the metrics will take together, before anything starts."""
    from memfast.evaluation import announce
    from memfast.metrics.cost import estimate_cost

    operations: dict[str, float] = {}
    seconds: dict[str, float] = {}
    training, test = opened.training, opened.test
    for source in opened.generated.values():
        sets = {"generated": source, "training": training} | ({} if test is None else {"test": test})
        shapes = {name: (len(one), prod(one.item_shape)) for name, one in sets.items()}
        cost = estimate_cost(shapes, metrics)
        searched = sum(2.0 * len(one) * len(training) * prod(training.item_shape) for one in (source, test or source))
        rate = sum(cost.operations.values()) / max(cost.total_seconds, 1e-9)
        for name, count in {**cost.operations, "the audit's searches": searched}.items():
            operations[name] = operations.get(name, 0.0) + count
            seconds[name] = seconds.get(name, 0.0) + count / rate
    announce(type(cost)(operations, seconds), "audit")


def _claim(out: Path, overwrite: bool) -> None:
    """Take the output folder; one that holds an unfinished audit is taken up again."""
    from memfast.auditing.result import FILES

    if out.is_dir():
        # What a killed process left of files that it wrote or removed is no result.
        remove_unfinished(out, (PROGRESS, *FILES))
    claim_output_folder(out, overwrite=overwrite or (out / PROGRESS).is_dir())
    (out / PROGRESS).mkdir(exist_ok=True)


def _check_gate(results: "dict[str, AuditResult]", max_memorized: float | None) -> None:
    """End with exit code 3 where a set's share of copies by the first criterion is above the limit."""
    if max_memorized is None:
        return
    shares = {label: result.criteria[0].copies for label, result in results.items()}
    label, worst = max(shares.items(), key=lambda one: one[1].fraction)
    if worst.fraction > max_memorized:
        name = results[label].criteria[0].name
        print_lines(
            f"memfast: gate not met: {worst.count:,} of {worst.total:,} samples of {label} ({percent(worst.fraction)}) "
            f"count as copies by {name}, at most {in_percent(max_memorized)} allowed",
            error=True,
        )
        raise typer.Exit(GATE_NOT_MET)
