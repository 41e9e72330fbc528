"""Archives of images, read without extracting: zip and tar files (webdataset), one or a folder of shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memfast.data.array_files import items_of_members
from memfast.data.format import Format, reading
from memfast.data.images import EncodedImages, decode_images
from memfast.data.labels import encode_labels, labels_beside
from memfast.data.listing import Folder, Listing
from memfast.data.open_files import OpenFiles
from memfast.data.options import ReadingOptions
from memfast.data.pixels import image_suffixes
from memfast.data.source import Source
from memfast.data.splits import choose_split
from memfast.data.tar import open_tar
from memfast.data.zips import open_zip
from memfast.foundation.errors import InputError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
_ZIP_START = b"PK"


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
        options = options.take_split(names) if len(names) > 1 or place.root else options
        place.use(names)
        names, split = choose_split(place.what, names, options.split, place.passed)
        options.refuse_parts(place.what)
        name = place.what if split is None else f"{place.what}[{split}]"
        with OpenFiles() as opened:
            shards = [open_archive(place.path(one), opened) for one in names]
            prefixes = [f"{one}/" for one in names] if place.root is not None or len(names) > 1 else [""]
            source = self._images(place, shards, prefixes, name, options)
            for shard, prefix in zip(shards, prefixes, strict=True):
                shard.pass_over_rest()
                place.passed.extend(shard.passed.result(), prefix)
            return source

    def _images(
        self, place: Folder, shards: Sequence[Listing], prefixes: Sequence[str], name: str, options: ReadingOptions
    ) -> Source:
        images = [shard.ending(image_suffixes()) for shard in shards]
        if not any(images):
            arrays = items_of_members(shards, prefixes, name, options)
            if arrays is not None:
                return arrays
        given: list[Any] = []
        for shard, some in zip(shards, images, strict=True):
            shard.use(some)
            labels = labels_beside(shard, some) if some else []
            given += [None] * len(some) if labels is None else labels
        members = [(number, one) for number, some in enumerate(images) for one in some]
        names = [prefixes[number] + one for number, one in members]
        found = encode_labels(given, place.passed, names.__getitem__)

        def read(at: int) -> bytes:
            number, one = members[at]
            return shards[number].read(one)

        return decode_images(EncodedImages(names, read, found, place.passed), name=name, options=options)


def open_archive(path: Path, opened: OpenFiles) -> Listing:
    """The members of one archive.

    Raises:
        InputError: it is damaged, or a member has an absolute or parent path or is a bomb.
    """
    with reading(str(path), "a readable zip or tar archive", do="Copy or pack it again."):
        with open(path, "rb") as file:
            start = file.read(len(_ZIP_START))
        if path.name.lower().endswith(".zip") or start == _ZIP_START:
            return open_zip(path, opened)
        return open_tar(path, opened)
    raise InputError(str(path), expected="an archive", received="nothing")
