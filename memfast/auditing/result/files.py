"""The files of a result: written as one generation, each with its hash in result.json, and read back with checks."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memfast.auditing.result.pairs import PairTable
from memfast.auditing.result.pictures import pictures_bytes, read_pictures
from memfast.foundation.errors import InputError, OutputError, first_line
from memfast.foundation.values import file_hash, plain
from memfast.reports import Pictures
from memfast.results import SCHEMA, AuditFigures, read_figures
from memfast.runtime.files import (
    Content,
    claim_output_folder,
    finish_generation,
    json_text,
    remove_unfinished,
    write_together,
)

RESULT_FILE, PAIRS_FILE, PARQUET_FILE, PICTURES_FILE, REPORT_FILE, METRICS_FILE = (
    "result.json", "pairs.csv", "pairs.parquet", "pictures.safetensors", "report.html", "metrics.json",
)  # fmt: skip
FILES = (RESULT_FILE, PAIRS_FILE, PARQUET_FILE, PICTURES_FILE, REPORT_FILE, METRICS_FILE)
_HASHES, _OWN_HASH = "files", "sha256"


def write_result(
    folder: str | os.PathLike[str],
    figures: AuditFigures,
    pairs: PairTable,
    pictures: Pictures | None,
    more: Mapping[str, str] | None = None,
) -> Path:
    """Write a result's files as one generation: a reader sees all of the old result or all of the new one.

    Files of the earlier result that this one does not have are removed.

    Args:
        folder: where they belong.
        figures: for result.json, which also holds the hashes of the others.
        pairs: for pairs.csv, and pairs.parquet where pyarrow is installed.
        pictures: for pictures.safetensors, or None.
        more: name -> text of other files, such as the report.

    Raises:
        OutputError: the folder cannot be made or written; what was there is whole.
    """
    folder = claim_output_folder(folder, overwrite=True)
    companions: dict[str, bytes] = {PAIRS_FILE: pairs.to_csv().encode("utf-8", "backslashreplace")}
    if _has_pyarrow():
        companions[PARQUET_FILE] = pairs.to_parquet()
    if pictures is not None:
        companions[PICTURES_FILE] = pictures_bytes(pictures)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in companions.items()}
    content = plain(figures)
    result = json_text({**content, _HASHES: hashes, _OWN_HASH: _hash_of({**content, _HASHES: hashes})})
    remove_unfinished(folder, FILES)
    contents: dict[str, Content] = {**companions, RESULT_FILE: result, **(more or {})}
    write_together(folder, contents, remove=[name for name in FILES if name not in contents])
    return folder


def read_result(folder: str | os.PathLike[str]) -> tuple[AuditFigures, PairTable, Pictures | None]:
    """Read what `write_result` wrote, or a result of the first schema, which has no hashes.

    Raises:
        InputError: the folder holds no result, one of another schema, or a file that was damaged or changed.
    """
    folder = Path(folder)
    try:
        finish_generation(folder)
    except OutputError as error:
        raise InputError(str(folder), expected=f"a folder with {RESULT_FILE}", received=str(error)) from error
    content = _read_json(folder)
    hashes = content.pop(_HASHES, None) if isinstance(content, dict) else None
    own = content.pop(_OWN_HASH, None) if isinstance(content, dict) else None
    first_schema = isinstance(content, dict) and content.get("schema") != SCHEMA
    figures = read_figures(content, str(folder / RESULT_FILE))
    if not first_schema:
        if own != _hash_of({**content, _HASHES: hashes}) or not isinstance(hashes, dict):
            raise InputError(
                str(folder / RESULT_FILE), expected="the content that an audit wrote",
                received="another (its hash differs)", do="The file was damaged or edited: audit again.",
            )  # fmt: skip
        for name in (PAIRS_FILE, PICTURES_FILE):
            _check_hash(folder / name, hashes.get(name))
    pairs = PairTable.read_csv(folder / PAIRS_FILE, first_schema=first_schema)
    if len(pairs) != figures.inputs.generated.count:
        raise InputError(
            str(folder / PAIRS_FILE), expected=f"{figures.inputs.generated.count:,} pairs, one per generated sample",
            received=f"{len(pairs):,}",
        )  # fmt: skip
    pictured = folder / PICTURES_FILE
    pictures = read_pictures(pictured) if pictured.exists() else None
    if pictures is not None and len(pictures.generated) > len(pairs):
        raise InputError(str(pictured), expected=f"pictures of at most {len(pairs):,} pairs", received="more")
    return figures, pairs, pictures


def _read_json(folder: Path) -> Any:
    try:
        text = (folder / RESULT_FILE).read_bytes().decode("utf-8")
        return json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise InputError(str(folder), expected=f"a folder with {RESULT_FILE}", received=str(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(str(folder / RESULT_FILE), expected="JSON", received=first_line(error)) from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}, which strict JSON does not have")


def _hash_of(content: Mapping[str, Any]) -> str:
    """The hash of plain values, whatever the spaces and the order of names in their file."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_hash(path: Path, expected: Any) -> None:
    try:
        found = file_hash(path) if path.exists() else None
    except OSError as error:
        raise InputError(str(path), expected="a readable file", received=str(error)) from error
    if found != expected:
        received = "no such file" if found is None else "another file"
        if expected is None:
            received = "a file that the audit did not write"
        raise InputError(
            str(path), expected="the file that the audit wrote", received=received,
            do="It was damaged, edited or exchanged: audit again.",
        )  # fmt: skip


def _has_pyarrow() -> bool:
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None
