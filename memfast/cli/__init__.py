"""The command ``memfast``: parses, calls the library, prints. No science lives here.

A verb is one module with a Typer function, and one line in :mod:`memfast.cli.app`.
"""

from memfast.cli.app import main

__all__ = ["main"]
