"""Archives of images, read without extracting: zip and tar files (webdataset), one or a folder of shards."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from memfast.data.archive_members import open_archive
from memfast.data.array_files import SUFFIXES as ARRAY_SUFFIXES
from memfast.data.array_files import items_one_by_one, open_arrays
from memfast.data.format import Format
from memfast.data.images import EncodedImages, decode_images
from memfast.data.labels import encode_labels, labels_beside
from memfast.data.listing import Folder, Listing
from memfast.data.not_read import PassedOver
from memfast.data.open_files import OpenFiles
from memfast.data.options import ReadingOptions
from memfast.data.pixels import image_suffixes
from memfast.data.source import Source
from memfast.data.splits import split_of
from memfast.foundation.errors import InputError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")


class Archives(Format):
    """Archives: the images of each, in natural order of their names, one archive after the other.

    Labels come from webdataset's ``.cls`` and ``.json``, from EDM's ``dataset.json``, or from class folders.
    """

    name = "archives"

    def claim(self, place: Folder) -> list[str]:
        """Every zip and tar file."""
        return place.ending(SUFFIXES)

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The images of these archives."""
        place.use(names)
        name = place.what
        options.refuse_label_column(name)
        if place.root is not None and any(split_of(one) for one in names):
            names, name, options = options.choose_split(name, names, place.passed)
        with OpenFiles() as opened:
            shards = [open_archive(place.path(one), opened) for one in names]
            prefixes = [f"{one}/" for one in names] if place.root is not None or len(names) > 1 else [""]
            source = self._items(place, shards, prefixes, name, options)
            for shard, prefix in zip(shards, prefixes, strict=True):
                shard.pass_over_rest()
                place.passed.extend(shard.passed.result(), prefix)
            return source

    def _items(
        self, place: Folder, shards: Sequence[Listing], prefixes: Sequence[str], name: str, options: ReadingOptions
    ) -> Source:
        items = [shard.ending(image_suffixes()) for shard in shards]
        has_images = any(items)
        if not has_images:
            items = [shard.ending(ARRAY_SUFFIXES) for shard in shards]
        for shard, some in zip(shards, items, strict=True):
            shard.use(some)
        inside = [one for some in items for one in some]
        chosen, name, options = options.choose_split(name, inside, place.passed, folders_only=True)
        if len(chosen) < len(inside):
            kept = set(chosen)
            items = [[one for one in some if one in kept] for some in items]
        given: list[Any] = []
        for shard, some in zip(shards, items, strict=True):
            beside = labels_beside(shard, some) if some else []
            given += [None] * len(some) if beside is None else beside
        members = [(number, one) for number, some in enumerate(items) for one in some]
        names = [prefixes[number] + one for number, one in members]

        def read(at: int) -> bytes:
            number, one = members[at]
            return shards[number].read(one)

        if inside and not has_images:
            options = options.take_column()
            return items_one_by_one(
                names, partial(_array, names, read, options.column), given, place.passed, name=name, options=options
            )
        options.refuse_parts(name)
        if not inside:
            raise _nothing_inside(name, shards)
        labels = encode_labels(given, place.passed, names.__getitem__)
        return decode_images(EncodedImages(names, read, labels, place.passed), name=name, options=options)


def _nothing_inside(name: str, shards: Sequence[Listing]) -> InputError:
    found = PassedOver()
    for shard in shards:
        shard.pass_over_rest()
        found.extend(shard.passed.result())
    listed = ", ".join(f"{one.count:,} {one.reason}" for one in found.result()) or "nothing at all"
    return InputError(
        name, expected="an archive with images or array files", received=f"one with {listed}",
        do="Unpack archives that lie inside archives.",
    )  # fmt: skip


def _array(names: Sequence[str], read: Callable[[int], bytes], key: str | None, at: int) -> np.ndarray:
    """The array of one member, as caches of latents are packed."""
    suffix = "." + names[at].lower().rsplit(".", 1)[-1]
    arrays = open_arrays(io.BytesIO(read(at)), suffix, names[at])
    return arrays.read(arrays.choose(key))
