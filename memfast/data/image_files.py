"""Files of images: a folder with all its subfolders, a list of paths, one file."""

from memfast.data.format import Format
from memfast.data.images import EncodedImages, decode_images
from memfast.data.labels import Labels, encode_labels, labels_beside
from memfast.data.listing import Folder
from memfast.data.options import ReadingOptions
from memfast.data.pixels import image_suffixes
from memfast.data.source import Source
from memfast.data.splits import choose_split


class ImageFiles(Format):
    """Image files, in natural order of their paths; class folders and files beside the images give labels."""

    name = "images"

    def claim(self, place: Folder) -> list[str]:
        """Every file with the suffix of an image."""
        return place.ending(image_suffixes())

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The images; folders called ``train`` and ``test`` are splits, of which one is chosen."""
        options = options.take_split(names, folders_only=True)
        every = names
        names, split = choose_split(place.what, names, options.split, place.passed, folders_only=True)
        options.refuse_parts(place.what)
        place.use(every)
        labels = Labels()
        if place.root is not None:
            labels = encode_labels(labels_beside(place, names), place.passed, names.__getitem__)
        images = EncodedImages(names, lambda at: place.read(names[at]), labels, place.passed)
        return decode_images(images, name=place.what if split is None else f"{place.what}[{split}]", options=options)
