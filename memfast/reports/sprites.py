"""Many small pictures in few files: sprite sheets as data URIs, lossless so that differences are true."""

import base64
import io

import numpy as np

COLUMNS = 10
PER_SHEET = 100


def drawable(images: np.ndarray) -> np.ndarray:
    """Pictures that a page can draw without transparency: gray or RGB.

    One channel is gray and three are RGB. Other numbers of channels (latents, RGBA) lie side by side as gray pictures,
    in rows: taken for transparency, a fourth channel would turn the difference of two pictures into noise.

    Args:
        images: uint8 ``[P, H, W]`` or ``[P, H, W, C]``.

    >>> drawable(np.zeros((5, 8, 6, 4), np.uint8)).shape
    (5, 17, 13)
    """
    if images.ndim == 3 or images.shape[-1] == 3:
        return images
    count, height, width, channels = images.shape
    if channels == 1:
        return images[..., 0]
    columns = int(np.ceil(np.sqrt(channels)))
    rows = -(-channels // columns)
    # One pixel between the channels, or their edges could not be told apart.
    board = np.zeros((count, rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    for channel in range(channels):
        top, left = channel // columns * (height + 1), channel % columns * (width + 1)
        board[:, top : top + height, left : left + width] = images[..., channel]
    return board


def sprite_sheets(images: np.ndarray) -> list[str]:
    """Sheets of 10 x 10 pictures, row by row, as ``data:`` URIs.

    Args:
        images: uint8 ``[P, H, W]`` or ``[P, H, W, C]`` with 3 or 4 channels.
    """
    return [_sheet(images[start : start + PER_SHEET]) for start in range(0, len(images), PER_SHEET)]


def _sheet(images: np.ndarray) -> str:
    rows = -(-len(images) // COLUMNS)
    height, width = images.shape[1:3]
    canvas = np.zeros((rows * height, COLUMNS * width, *images.shape[3:]), np.uint8)
    for number, image in enumerate(images):
        top, left = number // COLUMNS * height, number % COLUMNS * width
        canvas[top : top + height, left : left + width] = image
    kind, content = encode(canvas)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode(image: np.ndarray) -> tuple[str, bytes]:
    """An image as lossless WebP, or as PNG where Pillow was built without it."""
    from PIL import Image, features

    picture, file = Image.fromarray(image), io.BytesIO()
    if image.ndim == 3 and features.check("webp"):
        # Little effort: a sheet of photographs takes 0.03 s instead of 0.7 s and is 6 % larger.
        picture.save(file, "WEBP", lossless=True, quality=20, method=1, exact=True)
        return "webp", file.getvalue()
    picture.save(file, "PNG", optimize=True)
    return "png", file.getvalue()
