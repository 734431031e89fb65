"""The command line: parse, call one function, print. Nothing heavy is imported before it is needed."""

# Each of these adds its commands, in the order in which the help lists them.
from flowvi.cli import runs, results, reproduce, fit  # noqa: F401  # isort: skip
from flowvi.cli.app import app, main

__all__ = ["app", "main"]
