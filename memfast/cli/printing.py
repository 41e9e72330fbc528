"""What the verbs share: JSON for machines on stdout, text for people, and the options that every verb has."""

import json
import sys
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the results the output folder holds.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The seed of everything random.")]


def print_json(content: Any) -> None:
    """Print strict JSON on stdout."""
    json.dump(content, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
