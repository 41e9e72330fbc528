"""``memfast index``: keep an index of a training set, append to one, check one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from memfast.cli.printing import JsonOption, QuietOption, print_json

NAME = "index"


def run(
    train: Annotated[str, typer.Argument(help="Training set: a folder, archive, array file or table.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the index. A run that was killed goes on there.")],
    add: Annotated[bool, typer.Option("--add", help="Append TRAIN to the index in --out.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file again and name damage.")] = False,
    rows: Annotated[bool, typer.Option("--rows/--no-rows", help="Keep the items themselves in the index.")] = True,
    components: Annotated[int | None, typer.Option("--components", help="Numbers per sketch; 0 makes none.")] = None,
    shard_items: Annotated[int | None, typer.Option("--shard-items", help="Items per shard.")] = None,
    mode: Annotated[str, typer.Option("--mode", help="auto, L or RGB, for images.")] = "auto",
    image_size: Annotated[int | None, typer.Option("--image-size", help="Crop and resize images to this side.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out and count them.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Keep an index of TRAIN: audits and searches then read it in place of TRAIN, and search below brute force."""
    import memfast
    from memfast.neighbors import verify_index

    show = not (as_json or quiet)
    damage = verify_index(out) if verify and (out / "manifest.json").is_file() else None
    if damage:
        if as_json:
            print_json({"folder": str(out), "damage": damage})
        for name, reason in () if as_json else damage:
            typer.echo(printable(f"damaged: {name}: {reason}"))
        raise typer.Exit(1)
    if add:
        found = memfast.open_index(out).add(
            train, mode=None if mode == "auto" else mode, image_size=image_size, skip_bad=skip_bad, progress=show
        )
    else:
        found = memfast.index(
            train, out=out, rows=rows, components=components, shard_items=shard_items, mode=mode,
            image_size=image_size, skip_bad=skip_bad, progress=show,
        )  # fmt: skip
    facts = found.describe()
    if as_json:
        print_json({**facts, "damage": found.verify() if verify else None})
        return
    print_index(facts)
    if verify:
        typer.echo("Every file is as it was written.")


def printable(text: str) -> str:
    """Text from data without what a terminal would obey."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def print_index(facts: dict[str, Any]) -> None:
    """What an index holds, in lines."""
    shape, size = "x".join(map(str, facts["item_shape"])), facts["bytes"] / 2**20
    typer.echo(f"{printable(facts['folder'])}: {facts['items']} items of {shape} {facts['dtype']}, {size:.1f} MiB")
    sketch = f"{facts['components']} components per sketch" if facts["components"] else "no sketch"
    kept = "rows kept" if facts["rows"] else "rows read from the source"
    typer.echo(f"{facts['shards']} shards, {kept}, {sketch}, {'labels' if facts['labels'] else 'no labels'}")
    typer.echo(f"content {facts['content']}, schema {facts['schema']}, memfast {facts['memfast']}")
    for source in facts["sources"]:
        typer.echo(f"source {printable(source['name'])}: {source['items']} items, read with {source['reading']}")
