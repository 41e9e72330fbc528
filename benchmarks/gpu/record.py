"""What a stage writes, and the table of all stages."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path


class Record:
    """The results of one stage, on disk after every row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict = {"rows": []}

    def note(self, **values) -> None:
        """Facts about the stage."""
        self.content.update(values)
        self._write()

    def row(self, **values) -> None:
        """One line of the table."""
        self.content["rows"].append(values)
        self._write()

    def attempt(self, name: str, measure: Callable[[], dict]) -> bool:
        """Add the row that ``measure`` returns; an exception becomes the row instead. Whether it went well."""
        try:
            self.row(name=name, **measure())
            return True
        except Exception as error:
            print(traceback.format_exc(), flush=True)
            self.row(name=name, failed=f"{type(error).__name__}: {error}"[:300])
            return False

    def exit_code(self) -> int:
        """1 if a row failed."""
        return int(any("failed" in row for row in self.content["rows"]))

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1))
        part.replace(self.path)


def table(results: dict) -> str:
    """All stages as Markdown, one section each."""
    lines = ["# GPU results", ""]
    if results["optional_packages_missing"]:
        lines += [f"Not installed: {', '.join(results['optional_packages_missing'])}.", ""]
    if "failed" in results["stages"].get("tests", {}):
        lines += ["**The tests are red: no figure below may be quoted.**", ""]
    for name, record in results["stages"].items():
        lines += [f"## {name}", ""]
        if "failed" in record:
            lines += [f"Failed: {record['failed']}", ""]
        facts = {key: value for key, value in record.items() if key not in ("rows", "failed", "log_tail")}
        lines += [f"{key}: {value}  " for key, value in facts.items()] + [""]
        lines += _rows(record.get("rows", []))
    return "\n".join(lines) + "\n"


def _rows(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |")
    return [*lines, ""]


def _shown(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")
