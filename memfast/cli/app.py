"""The verbs, and what becomes of errors: exit code 0 done, 1 failure, 2 wrong usage, 3 gate not met, 130 Ctrl-C."""

import os
import sys
from collections.abc import Sequence

import typer

from memfast.cli import audit, demo, evaluate, index, info, sample, trace, train
from memfast.foundation.errors import MemfastError
from memfast.foundation.values import one_line

FAILURE = 1  # Typer itself ends with 2 on wrong usage, and with 130 on Ctrl-C
INTERRUPTED = 130

app = typer.Typer(
    name="memfast",
    help="Control, audit and explain what diffusion models copy from their training data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for verb in (demo, train, sample, index, audit, evaluate, trace, info):
    app.command(name=verb.NAME)(verb.run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A failure prints one line with its cause to stderr."""
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit as leave:
        if leave.code == INTERRUPTED:
            print("memfast: interrupted", file=sys.stderr)
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except KeyboardInterrupt:
        print("memfast: interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemfastError as error:
        _say(error)
        return FAILURE
    except BrokenPipeError:
        # The reader of our output went away (`memfast info | head`): nothing failed, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError:
        _say(
            MemoryError(
                "out of memory. Finished work is kept where there is a checkpoint. Free memory, or use less data."
            )
        )
        return FAILURE
    except OSError as error:  # a file that may not be read, a name that is too long
        _say(error)
        return FAILURE
    return 0


def _say(error: Exception) -> None:
    """One line, also where a library below wrote a paragraph."""
    print(f"memfast: {one_line(' '.join(str(error).split()))}", file=sys.stderr)
