"""What the verbs share: JSON for machines on stdout, text for people, and the options that every verb has."""

import json
import sys
from typing import Annotated, Any

import typer

from memfast.foundation.values import one_line

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the results the output folder holds.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The seed of everything random.")]


def print_json(content: Any) -> None:
    """Print strict JSON on stdout."""
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def print_lines(text: str, *, error: bool = False) -> None:
    """Print text that may hold names from data; none of them can steer the terminal.

    Args:
        text: one line or several.
        error: print to stderr.
    """
    for line in text.split("\n"):
        print(one_line(line), file=sys.stderr if error else sys.stdout)
