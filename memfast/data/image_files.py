"""Files of images: a folder with all its subfolders, a list of paths, one file."""

from memfast.data.format import Format
from memfast.data.images import EncodedImages, decode_images
from memfast.data.labels import Labels, encode_labels, labels_beside
from memfast.data.listing import Folder
from memfast.data.options import ReadingOptions
from memfast.data.pixels import image_suffixes
from memfast.data.source import Source


class ImageFiles(Format):
    """Image files, in natural order of their paths; class folders and files beside the images give labels."""

    name = "images"

    def claim(self, place: Folder) -> list[str]:
        """Every file with the suffix of an image."""
        return place.ending(image_suffixes())

    def read(self, place: Folder, names: list[str], options: ReadingOptions) -> Source:
        """The images; folders called ``train`` and ``test`` are splits, of which one is chosen."""
        place.use(names)
        what = place.what
        if place.root is not None:
            names, what, options = options.choose_split(what, names, place.passed, folders_only=True)
        options.refuse_parts(what)
        options.refuse_label_column(what)
        labels = Labels()
        if place.root is not None:
            labels = encode_labels(labels_beside(place, names), place.passed, names.__getitem__)
        images = EncodedImages(names, lambda at: place.read(names[at]), labels, place.passed)
        return decode_images(images, name=what, options=options)
