"""``memfast evaluate``: distribution metrics of generated samples, with intervals and held-out floors."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json

if TYPE_CHECKING:
    import numpy as np

    from memfast.evaluation import MetricResult
    from memfast.metrics import Metric

NAME = "evaluate"
# Wider than any row: at its own width rich would cut names.
FULL_WIDTH = 1000


def run(
    generated: Annotated[str, typer.Argument(metavar="GENERATED", help="Folder, npy, npz, zip, parquet, ...")],
    training: Annotated[str, typer.Argument(metavar="TRAINING", help="The training set.")],
    test: Annotated[str | None, typer.Option("--test", help="Held-out data; gives floors and more metrics.")] = None,
    metrics: Annotated[
        str, typer.Option(help="'all', names with commas, or JSON with options: '{\"c_t\": {\"cells\": 2}}'.")
    ] = "all",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="METRIC.NAME=VALUE", help="An option of a metric, as in c_t.cells=2; repeat."),
    ] = None,
    features: Annotated[str, typer.Option(help="pixels, given, a file or a name on disk.")] = "pixels",
    class_probabilities: Annotated[
        Path | None, typer.Option(help="An npy file of a classifier's probabilities, one row per generated sample.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out, and count them.")] = False,
    image_size: Annotated[int | None, typer.Option(min=1, help="Crop and resize all images to this side.")] = None,
    mode: Annotated[str, typer.Option(help="auto, L (gray) or RGB.")] = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how near GENERATED is to TRAINING by every metric whose needs are met."""
    import memfast
    from memfast.data import open_source
    from memfast.metrics.registry import choose
    from memfast.runtime.files import claim_output_folder, write_json

    chosen = with_options(choose(metrics, has_test=test is not None), option or [])
    probabilities = None if class_probabilities is None else read_numbers("--class-probabilities", class_probabilities)
    if out is not None:
        claim_output_folder(out, overwrite=overwrite)
    show = not quiet
    sets = [
        None if path is None else open_source(path, skip_bad=skip_bad, image_size=image_size, mode=mode, progress=show)
        for path in (generated, training, test)
    ]
    results = memfast.evaluate(
        *sets, metrics=chosen, features=features, class_probabilities=probabilities, seed=seed, progress=show
    )
    plain = {name: result.to_dict() for name, result in results.items()}
    if out is not None:
        write_json(out / "metrics.json", plain)
    if as_json:
        print_json(plain)
    else:
        print_table(results)


def with_options(metrics: "list[Metric]", options: list[str]) -> "list[Metric]":
    """The chosen metrics with options written as ``c_t.cells=2``; the value is JSON, or else text.

    Raises:
        InputError: another form, an unknown metric or option, or a metric that was not chosen.
    """
    from memfast.foundation.errors import InputError
    from memfast.metrics.registry import METRICS

    by_name: dict[str, dict[str, Any]] = {}
    for text in options:
        place, found, value = text.partition("=")
        name, dot, key = place.partition(".")
        if not (found and dot and key):
            raise InputError("--option", expected="METRIC.NAME=VALUE, for example c_t.cells=2", received=repr(text))
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        by_name.setdefault(METRICS.find(name, what="--option").name, {})[key] = parsed
    unused = sorted(set(by_name) - {metric.name for metric in metrics})
    if unused:
        raise InputError("--option", expected="metrics that --metrics chose", received=", ".join(unused))
    return [
        METRICS.build({"name": metric.name, **metric.options, **by_name[metric.name]}, what="metric")
        if metric.name in by_name
        else metric
        for metric in metrics
    ]


def read_numbers(name: str, path: Path) -> "np.ndarray":
    """The array of an npy file.

    Raises:
        InputError: it is no npy file of numbers.
    """
    import numpy as np

    from memfast.foundation.errors import InputError, first_line

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} {path}", expected="an npy file of numbers", received=first_line(error)) from error


def print_table(results: "dict[str, MetricResult]") -> None:
    """One row per value: the number, its interval, the floor, and what it does when training samples are copied.

    Every name and number is printed in full, however narrow the terminal: a file or a pipe counts as 80 columns.
    """
    table = Table("metric", "value", "95 % interval", "held-out", "better", "with copies", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for name, result in results.items():
        if result.computed:
            interval = "" if result.interval is None else f"{result.interval[0]:.4g} to {result.interval[1]:.4g}"
            floor = "" if result.floor is None else f"{result.floor:.4g}"
            table.add_row(name, f"{result.value:.4g}", interval, floor, result.better, result.copying)
    console = Console(width=FULL_WIDTH)
    if table.row_count:
        console.print(table)
    reasons: dict[str, list[str]] = {}
    for name, result in results.items():
        if result.reason is not None:
            reasons.setdefault(result.reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"not computed: {', '.join(names)}: {reason}", markup=False, highlight=False, soft_wrap=True)
