"""Text that attacks whoever shows it: a page, a spreadsheet, a terminal, a file system."""

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TEXTS = (
    "</script><script>document.title='owned'</script>", "<img src=x onerror=document.title='owned'>",
    "\"><svg onload=document.title='owned'>", "'-document.title='owned'-'", "]]><!--<script>", "javascript:alert(1)",
    "=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "a;=1+1", "a\n=1+1", "=cmd|'/c calc'!A0", '"=1+1', "＝1+1",
    "\x1b[2J\x1b]0;owned\x07", "\x9b2J", "a\rb", "a\x08b", "\u202egnp.exe", "\u2028", "a\x00b"[:1] + "\x7f",
    "con", "a" * 180, "%2e%2e%2f", "{{7*7}}", "${7*7}", "é\u0301\u200b", "🏖️",
)  # fmt: skip
PATHS = ("../../../owned", "/owned", "a/../../owned")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
FORMULA = re.compile(r"^[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")


def archive(path: Path, images: np.ndarray, names: Sequence[str] = TEXTS) -> Path:
    """A zip of PNGs of these names."""
    from PIL import Image

    with zipfile.ZipFile(path, "w") as found:
        for image, text in zip(images, names, strict=False):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            found.writestr(zipfile.ZipInfo(f"{text}.png"), content.getvalue())
    return path


def steers_a_terminal(text: str) -> list[str]:
    """What in a printed text a terminal would obey."""
    return [repr(found) for found in STEERING.findall(text)]


def formulas(table: str) -> list[str]:
    """Cells that a spreadsheet would compute, whichever sign its country splits lines at."""
    found = []
    for delimiter in ",;\t":
        for row in csv.reader(io.StringIO(table), delimiter=delimiter):
            found += [cell for cell in row if FORMULA.match(cell) and not _number(cell)]
    return found


def unsafe_file_names(folder: Path) -> list[str]:
    """Names below a folder that hold control characters."""
    names = [path.name for path in folder.rglob("*")]
    return [name for name in names if any(unicodedata.category(one) == "Cc" for one in name)]


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
