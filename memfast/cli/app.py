"""The verbs, and what becomes of errors: exit code 0 done, 1 failure, 2 wrong usage, 3 a gate was not met."""

import os
import sys
from collections.abc import Sequence

import click
import typer

from memfast.cli import audit, demo, info, sample, train
from memfast.foundation.errors import MemfastError

FAILURE, WRONG_USAGE = 1, 2

app = typer.Typer(
    name="memfast",
    help="Control, audit and explain what diffusion models copy from their training data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for verb in (demo, train, sample, audit, info):
    app.command(name=verb.NAME)(verb.run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A failure prints one line with its cause to stderr."""
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        return int(code or 0)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE if isinstance(error, click.UsageError) else FAILURE
    except (click.Abort, KeyboardInterrupt):
        print("memfast: interrupted", file=sys.stderr)
        return FAILURE
    except MemfastError as error:
        print(f"memfast: {error}", file=sys.stderr)
        return FAILURE
    except BrokenPipeError:
        # The reader of our output went away (`memfast info | head`): nothing failed, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
