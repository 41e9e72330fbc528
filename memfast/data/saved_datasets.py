"""Folders that ``datasets`` wrote with ``save_to_disk``: one data set, or a dictionary of splits."""

from dataclasses import replace
from typing import Any

from memfast.data.format import Format, reading
from memfast.data.labels import read_json
from memfast.data.listing import Folder
from memfast.data.options import ReadingOptions
from memfast.data.source import Source
from memfast.data.splits import OTHER_SPLITS, canonical
from memfast.data.tables import read_files, read_table
from memfast.foundation.errors import InputError

STATE, SPLITS = "state.json", "dataset_dict.json"
NOT_LISTED = "arrow files that the data set does not list"
_INFO = "dataset_info.json"


class SavedDatasets(Format):
    """A saved data set: the arrow files that its ``state.json`` lists, in the order of its indices."""

    name = "datasets"
    whole = True

    def claim(self, place: Folder) -> list[str]:
        """Everything in a folder with ``state.json`` or ``dataset_dict.json``."""
        marked = place.root is not None and (STATE in place or SPLITS in place)
        return [name for name in place.names if name.endswith((".arrow", ".json"))] if marked else []

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The rows, of one split where there are several."""
        prefix, what = "", place.what
        if SPLITS in place:
            options, split = _choose(place, options)
            prefix, what = f"{split}/", f"{place.what}[{split}]"
        with reading(what, "a data set that datasets has saved"):
            state = read_json(place.read(prefix + STATE))
            files = [prefix + str(one["filename"]) for one in state["_data_files"]]
            given = state.get("_indices_files") or state.get("_indices_data_files") or []
            indices = [prefix + str(one["filename"]) for one in given]
        for name in (*files, *indices):
            if name not in place:
                raise InputError(what, expected=f"the file {name} that {STATE} lists", received="nothing there")
        used = {prefix + STATE, prefix + _INFO, SPLITS, *files, *indices}
        place.use(used)
        for name in place.ending((".arrow", ".json")):
            if name not in used and (name.endswith(".arrow") or not name.startswith(prefix)):
                place.passed.add(NOT_LISTED if name.startswith(prefix) else OTHER_SPLITS, name)
                place.use([name])
        table, options = read_files(what, [place.path(name) for name in files], options.take_column(), place.passed)
        if options.parts:
            options.refuse_parts(what)
        if indices:
            table = _in_order(what, table, place, indices)
        return read_table(table, what, options, place.passed, base=f"{what.rsplit('/', 1)[-1]}#")


def _choose(place: Folder, options: ReadingOptions) -> tuple[ReadingOptions, str]:
    with reading(place.what, "a dictionary of splits that datasets has saved"):
        splits = [str(one) for one in read_json(place.read(SPLITS))["splits"]]
    wanted = options.split
    if wanted is None and options.parts:
        wanted, options = options.parts[0], replace(options, parts=options.parts[1:])
    if wanted is None and len(splits) == 1:
        wanted = splits[0]
    named = {canonical(split): split for split in splits} | {split: split for split in splits}
    found = None if wanted is None else named.get(wanted, named.get(canonical(wanted)))
    if found is None:
        first = splits[0] if splits else "train"
        raise InputError(
            place.what, expected="one split" if wanted is None else f"the split {wanted!r}",
            received=", ".join(splits) or "none", do=f"Choose one: PATH::{first}, or split={first!r}.",
        )  # fmt: skip
    return options, found


def _in_order(what: str, table: Any, place: Folder, names: list[str]) -> Any:
    """The rows that the indices choose, as ``select`` and ``shuffle`` of ``datasets`` left them."""
    order, _ = read_files(f"{what}: indices", [place.path(name) for name in names], _INDICES, place.passed)
    with reading(what, "indices of rows that are there"):
        return table.take(order.column("indices"))


_INDICES = ReadingOptions(column="indices")
