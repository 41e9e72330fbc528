"""``memfast audit``: generated samples against a training set."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, percent, print_json
from memfast.cli.story import training_story
from memfast.foundation.errors import InputError
from memfast.foundation.files import claim_output_folder, write_json

if TYPE_CHECKING:
    from memfast.auditing import AuditResult, MetricResult
    from memfast.data import Source

NAME = "audit"
GATE_NOT_MET = 3
PROGRESS = ".progress"


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
    metrics: Annotated[
        str | None, typer.Option(help="Also evaluate: 'all', or names of metrics, comma-separated.")
    ] = None,
    max_memorized: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with code 3 if a larger share was copied.")
    ] = None,
    approximate: Annotated[str | None, typer.Option(help="A faiss index_factory string, exact re-ranking.")] = None,
    controls: Annotated[bool, typer.Option(help="Run the negative and the positive control.")] = True,
    memory: Annotated[
        float | None, typer.Option(help="GiB the search may use; default: a quarter of what is free.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out, and count them.")] = False,
    image_size: Annotated[int | None, typer.Option(min=1, help="Crop and resize all images to this side.")] = None,
    mode: Annotated[str, typer.Option(help="auto, L (gray) or RGB.")] = "auto",
    run_folder: Annotated[Path | None, typer.Option("--run", help="The training run, to show in the report.")] = None,
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
    from memfast.data import open_source
    from memfast.neighbors import distributed
    from memfast.reports import write_report

    generated, training = _split(paths, training)
    with distributed.session() as ranks:
        main = ranks.rank == 0
        options: dict[str, Any] = {
            "skip_bad": skip_bad, "image_size": image_size, "mode": mode, "progress": main and not quiet,
        }  # fmt: skip
        with ranks.together():
            if main:
                _claim(out, overwrite)
        known = open_source(training, **options)
        held_out = None if test is None else open_source(test, **options)
        sources = {label: open_source(path, **options) for label, path in _labels(generated).items()}
        results: dict[str, AuditResult] = {}
        for label, source in sources.items():
            results[label] = memfast.audit(
                source, known, held_out, k,
                criteria=None if criteria is None else criteria.split(","),
                memory=None if memory is None else int(memory * 2**30), controls=controls, backend=backend,
                approximate=approximate, checkpoint=out / PROGRESS / label, seed=seed, progress=main and not quiet,
            )  # fmt: skip
        if not main:
            return
    story = None if run_folder is None else training_story(run_folder)
    runs = []
    for label, result in results.items():
        folder = out if len(results) == 1 else out / label
        measured = _evaluate(sources[label], known, held_out, metrics, seed, not quiet)
        result.report(folder, label=label, training=story, metrics=measured)
        if measured is not None:
            write_json(folder / "metrics.json", {name: value.to_dict() for name, value in measured.items()})
        runs.append(result.report_run(label, training=story, metrics=measured))
    if len(runs) > 1:
        write_report(out / "report.html", runs)
    shutil.rmtree(out / PROGRESS, ignore_errors=True)
    if as_json:
        every = {label: result.to_dict(pairs=0) for label, result in results.items()}
        print_json(next(iter(every.values())) if len(every) == 1 else every)
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
        name = base = Path(path.partition("::")[0]).stem or "generated"
        number = 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = path
    return named


def _evaluate(
    source: "Source", training: "Source", test: "Source | None", metrics: str | None, seed: int, progress: bool
) -> "dict[str, MetricResult] | None":
    if metrics is None:
        return None
    import memfast

    return memfast.evaluate(source, training, test, metrics=metrics, seed=seed, progress=progress)


def _claim(out: Path, overwrite: bool) -> None:
    """Take the output folder; one that holds nothing but an unfinished audit's progress is taken up again."""
    unfinished = out.is_dir() and [entry.name for entry in out.iterdir()] == [PROGRESS]
    claim_output_folder(out, overwrite=overwrite or unfinished)


def _check_gate(results: "dict[str, AuditResult]", max_memorized: float | None) -> None:
    if max_memorized is None:
        return
    worst = 0.0
    for result in results.values():
        if result.headline is None:
            raise InputError("--max-memorized", expected="a criterion that applies", received="none")
        worst = max(worst, result.headline["generated"]["fraction"])
    if worst > max_memorized:
        allowed = percent(max_memorized)
        print(f"memfast: gate not met: {percent(worst)} copied, at most {allowed} allowed", file=sys.stderr)
        raise typer.Exit(GATE_NOT_MET)
