"""``memfast audit``: generated samples against a training set."""

import shutil
import sys
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.cli.labels import read_labels
from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json
from memfast.cli.story import training_story
from memfast.foundation.arguments import finite_number
from memfast.foundation.errors import CheckpointError, InputError
from memfast.foundation.values import percent
from memfast.runtime.files import claim_output_folder, write_json

if TYPE_CHECKING:
    import numpy as np

    from memfast.auditing import AuditResult
    from memfast.criteria import Criterion
    from memfast.data import Source

NAME = "audit"
GATE_NOT_MET = 3
PROGRESS, METRICS_FILE = ".progress", "metrics.json"


def run(
    paths: Annotated[
        list[str], typer.Argument(metavar="GENERATED... TRAINING", help="Folders, npy, npz, zip, tar, parquet, ...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for result.json, pairs.csv and report.html.")],
    training: Annotated[
        str | None, typer.Option("--training", "-t", help="The training set; then every GENERATED is audited.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Held-out data of the same distribution.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Nearest training items to know per sample.")] = 50,
    criteria: Annotated[str | None, typer.Option(help="Names, comma-separated; default: all that apply.")] = None,
    features: Annotated[
        str | None, typer.Option(help="For similarity and metrics: pixels, given, a file or a name on disk.")
    ] = None,
    similarity: Annotated[
        str | None, typer.Option(help="Thresholds of similarity, comma-separated; the first decides.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Classes of GENERATED: npy or text.")] = None,
    training_labels: Annotated[Path | None, typer.Option(help="Classes of TRAINING: npy or text.")] = None,
    test_labels: Annotated[Path | None, typer.Option(help="Classes of --test: npy or text.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Also evaluate: 'all', or names of metrics, comma-separated.")
    ] = None,
    max_memorized: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with code 3 if a larger share was copied.")
    ] = None,
    approximate: Annotated[str | None, typer.Option(help="A faiss index_factory string, exact re-ranking.")] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(help="Training items up to this RMS difference (0 to 1) count as one.")
    ] = None,
    controls: Annotated[bool, typer.Option(help="Run the negative and the positive control.")] = True,
    memory: Annotated[
        float | None, typer.Option(help="GiB the search may use; default: a quarter of what is free.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out, and count them.")] = False,
    image_size: Annotated[int | None, typer.Option(min=1, help="Crop and resize all images to this side.")] = None,
    mode: Annotated[str, typer.Option(help="auto, L (gray) or RGB.")] = "auto",
    run_folder: Annotated[Path | None, typer.Option("--run", help="The training run, to show in the report.")] = None,
    canaries: Annotated[
        str | None, typer.Option(help="A run trained with canaries, or its canaries; default: those of --run.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, reference, cpu, triton or cuda.")] = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every generated sample with the whole training set, and say who was copied.

    A killed audit continues where it was when the same command runs again. `torchrun --nproc-per-node N -m memfast
    audit ...` shares the work, with the same result.
    """
    import memfast
    from memfast.auditing.result import FILES
    from memfast.data import open_source
    from memfast.metrics.registry import choose
    from memfast.reports import write_report
    from memfast.runtime import distributed

    generated, training = _split(paths, training)
    if memory is not None:
        finite_number("--memory", memory, above=0)
    with distributed.session() as ranks:
        main = ranks.rank == 0
        progress = main and not quiet
        options: dict[str, Any] = {
            "skip_bad": skip_bad, "image_size": image_size, "mode": mode, "progress": progress,
        }  # fmt: skip
        with ranks.fail_together():
            # Whatever can be wrong is found before the search, which may take hours.
            chosen = _criteria(criteria, similarity, features)
            if metrics is not None:
                choose(metrics, has_test=test is not None)
            story = None if run_folder is None else training_story(run_folder)
            added = _canaries(canaries, run_folder, options)
            of_generated = read_labels("--labels", labels)
            of_training = read_labels("--training-labels", training_labels)
            of_test = read_labels("--test-labels", test_labels)
            known = open_source(training, **options)
            held_out = None if test is None else open_source(test, **options)
            sources = {label: open_source(path, **options) for label, path in _labels(generated).items()}
            _check_labels(of_generated, sources)
            if of_test is not None and held_out is None:
                raise InputError("--test-labels", expected="--test beside it", received="no held-out set")
            if near_duplicates is not None:
                finite_number("--near-duplicates", near_duplicates, above=0)
            if main:
                _claim(out, overwrite)
        if progress and metrics is not None and features in (None, "pixels", "given"):
            _announce(sources, known, held_out, metrics)
        results: dict[str, AuditResult] = {}
        for label, source in sources.items():
            earlier = next(iter(results.values()), None)
            audited = partial(
                memfast.audit, source, known, held_out, k,
                criteria=chosen, features=features,
                labels=of_generated, training_labels=of_training, test_labels=of_test, canaries=added,
                memory=None if memory is None else int(memory * 2**30), controls=controls, backend=backend,
                approximate=approximate, near_duplicates=near_duplicates,
                checkpoint=out / PROGRESS / label, seed=seed, progress=progress, reuse=earlier,
            )  # fmt: skip
            try:
                results[label] = audited()
            except CheckpointError as error:
                if ranks.size > 1:
                    raise
                if not overwrite:
                    raise CheckpointError(f"{error} Or start the audit again with --overwrite.") from error
                print(f"memfast: {error} Starting again, as --overwrite says.", file=sys.stderr)
                shutil.rmtree(out / PROGRESS / label)
                results[label] = audited()
        if not main:
            return
    runs, printed = [], {}
    for label, result in results.items():
        folder = out if len(results) == 1 else out / label
        measured, plain = None, None
        if metrics is not None:
            measured = memfast.evaluate(
                sources[label], known, held_out, metrics=metrics, features=features or "pixels",
                labels=result.pairs.labels("generated"), seed=seed, progress=progress, neighbors=result.neighbors,
            )  # fmt: skip
        result.report(folder, label=label, training=story, metrics=measured)
        if measured is not None:
            plain = {name: value.to_dict() for name, value in measured.items()}
            write_json(folder / METRICS_FILE, plain)
        else:
            (folder / METRICS_FILE).unlink(missing_ok=True)
        printed[label] = {**result.figures, "metrics": plain}
        runs.append(result.report_run(label, training=story, metrics=measured))
    if len(runs) > 1:
        write_report(out / "report.html", runs)
        for name in (*FILES, METRICS_FILE):
            if name != "report.html":
                (out / name).unlink(missing_ok=True)  # of an earlier audit of one set, which this page is not about
    shutil.rmtree(out / PROGRESS, ignore_errors=True)
    if as_json:
        print_json(next(iter(printed.values())) if len(printed) == 1 else printed)
    else:
        for label, result in results.items():
            print(f"{label}\n{result.summary()}" if len(results) > 1 else result.summary())
        print(f"report: {out / 'report.html'}")
    _check_gate(results, max_memorized)


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
    """A short name for each set: its file's or folder's, with a number where two are the same."""
    named: dict[str, str] = {}
    for path in paths:
        name = base = Path(path.partition("::")[0]).resolve().stem or "generated"
        number = 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = path
    return named


def _criteria(names: str | None, similarity: str | None, features: str | None) -> "list[str | Criterion] | None":
    """The chosen criteria; the first threshold of --similarity decides, the others are reported beside it."""
    chosen: list[str | Criterion] | None = None if names is None else [name.strip() for name in names.split(",")]
    if similarity is None:
        return chosen
    from memfast.criteria import CRITERIA, Similarity

    if features is None:
        raise InputError("--similarity", expected="--features beside it", received="no features")
    try:
        thresholds = [float(word) for word in similarity.split(",")]
    except ValueError as error:
        expected = "thresholds separated by commas, like 0.75,0.5"
        raise InputError("--similarity", expected=expected, received=repr(similarity)) from error
    every = list(CRITERIA) if chosen is None else [one for one in chosen if one != Similarity.name]
    own = Similarity(thresholds[0], thresholds[1:])
    return [own if one == Similarity.name else one for one in every] + ([] if chosen is None else [own])


def _canaries(given: str | None, run_folder: Path | None, options: dict[str, Any]) -> Any:
    """The canaries of a run, items that were added by hand, or None."""
    from memfast.data import open_source
    from memfast.data.canaries import REPEATS_FILE, Canaries

    for folder in (given, run_folder):
        if folder is not None and (Path(folder) / REPEATS_FILE).is_file():
            return Canaries.load(folder)
        if given is not None:
            return open_source(given, **options)
    return None


def _check_labels(labels: "np.ndarray | None", sources: "dict[str, Source]") -> None:
    if labels is not None and len(sources) > 1:
        raise InputError(
            "--labels", expected="one generated set", received=f"{len(sources)}",
            do="Give each set its own labels, in a file of its own with its samples, or audit one at a time.",
        )  # fmt: skip


def _announce(sources: "dict[str, Source]", training: "Source", test: "Source | None", metrics: str) -> None:
    """What the audit's searches and the metrics will take together, before anything starts."""
    from memfast.evaluation import announce
    from memfast.metrics.cost import estimate_cost

    operations: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for source in sources.values():
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
    claim_output_folder(out, overwrite=overwrite or (out / PROGRESS).is_dir())
    (out / PROGRESS).mkdir(exist_ok=True)


def _check_gate(results: "dict[str, AuditResult]", max_memorized: float | None) -> None:
    if max_memorized is None:
        return
    for result in results.values():
        if result.headline is None:
            raise InputError("--max-memorized", expected="a criterion that applies", received="none")
    label, result = max(results.items(), key=lambda one: one[1].fraction())
    assert result.headline is not None
    worst = result.headline["generated"]
    if worst["fraction"] > max_memorized:
        print(
            f"memfast: gate not met: {worst['count']:,} of {worst['total']:,} samples of {label} "
            f"({percent(worst['fraction'])}) count as copies by {result.headline['name']}, "
            f"at most {100 * max_memorized:g} % allowed",
            file=sys.stderr,
        )
        raise typer.Exit(GATE_NOT_MET)
