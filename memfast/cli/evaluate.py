"""``memfast evaluate``: distribution metrics of generated samples, with intervals and held-out floors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json

if TYPE_CHECKING:
    from memfast.auditing import MetricResult

NAME = "evaluate"


def run(
    generated: Annotated[str, typer.Argument(metavar="GENERATED", help="Folder, npy, npz, zip, parquet, ...")],
    training: Annotated[str, typer.Argument(metavar="TRAINING", help="The training set.")],
    test: Annotated[str | None, typer.Option("--test", help="Held-out data; gives floors and more metrics.")] = None,
    metrics: Annotated[str, typer.Option(help="'all' or names, comma-separated.")] = "all",
    features: Annotated[str, typer.Option(help="pixels, given, a file or a name on disk.")] = "pixels",
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
    from memfast.runtime.files import claim_output_folder, write_json

    if out is not None:
        claim_output_folder(out, overwrite=overwrite)
    show = not quiet
    sets = [
        None if path is None else open_source(path, skip_bad=skip_bad, image_size=image_size, mode=mode, progress=show)
        for path in (generated, training, test)
    ]
    results = memfast.evaluate(*sets, metrics=metrics, features=features, seed=seed, progress=show)
    plain = {name: result.to_dict() for name, result in results.items()}
    if out is not None:
        write_json(out / "metrics.json", plain)
    if as_json:
        print_json(plain)
    else:
        print_table(results)


def print_table(results: "dict[str, MetricResult]") -> None:
    """One row per value: the number, its interval, the floor, and what it does when training samples are copied."""
    table = Table("metric", "value", "95 % interval", "held-out", "better", "with copies", box=None, pad_edge=False)
    for name, result in results.items():
        interval = "" if result.interval is None else f"{result.interval[0]:.4g} to {result.interval[1]:.4g}"
        floor = "" if result.floor is None else f"{result.floor:.4g}"
        table.add_row(name, f"{result.value:.4g}", interval, floor, result.better, result.copying)
    Console().print(table)
