"""What was done to the files' images before they were compared stands in the result."""

import numpy as np
from PIL import Image

import memfast

ITEMS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def write(folder, items, mode="RGB"):
    folder.mkdir()
    for number, item in enumerate(items):
        Image.fromarray(item).convert(mode).save(folder / f"{number}.png")
    return folder


def test_conversions_of_images_are_said(tmp_path):
    generated = write(tmp_path / "generated", ITEMS[:2], "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(ITEMS[2]).save(generated / "turned.png", exif=exif)
    source = memfast.data.open_source(generated, image_size=4)
    found = memfast.audit(source, memfast.data.open_source(write(tmp_path / "training", ITEMS), image_size=4))
    sets = found.figures["inputs"]
    assert sets["generated"]["conversion"] == {"modes": {"RGBA": 2, "RGB": 1}, "to": "RGB", "turned": 1, "side": 4}
    said = [sentence for sentence in found.figures["statement"]["tested"] if sentence.startswith("Images of")]
    assert said == [
        "Images of the generated set were converted to RGB (2 of mode RGBA; transparency on white, 16 bits by the "
        "upper 8), turned upright as their EXIF says (1), cropped to a square and resized to 4 x 4 (Lanczos).",
        "Images of the training set were cropped to a square and resized to 4 x 4 (Lanczos).",
    ]


def test_images_that_were_taken_as_they_are_need_no_words(tmp_path):
    found = memfast.audit(ITEMS[:2], write(tmp_path / "training", ITEMS), controls=False)
    assert found.figures["inputs"]["generated"]["conversion"] is None
    assert found.figures["inputs"]["training"]["conversion"]["modes"] == {"RGB": 6}
    assert not any(sentence.startswith("Images of") for sentence in found.figures["statement"]["tested"])
