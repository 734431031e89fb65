"""The application: its help, and how errors leave it."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from flowvi.errors import ConfigError, FlowviError, InterruptedRun

__all__ = ["app", "examples", "main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def _reported() -> Iterator[None]:
    """The one place where an error that a user can cause or meet becomes a line and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except InterruptedRun as error:
        _leave(str(error), INTERRUPTED)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED)
    except FlowviError as error:
        _leave(str(error), 2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        _leave(_about(error), 1)


def _leave(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"flowvi: {line}", err=True)
    raise typer.Exit(code) from None


def _about(error: OSError) -> str:
    """One line on what the operating system refused."""
    where = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        doing = f" while writing {where}" if where else ""
        return f"no space left on the device{doing}: free some, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use {where or 'a file'} ({os.strerror(error.errno)}): choose another folder"
    what = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{what}: {where}" if where else what


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # typer's base class names a private type
        with _reported():
            return super().invoke(ctx)


# Plain help and plain errors: rich's cost as much to import as everything else together.
app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def examples(*lines: str, title: str = "Examples:") -> str:
    """The end of a command's help. (The backspace keeps click from filling the paragraph.)"""
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


def _version(wanted: bool) -> None:
    if wanted:
        from flowvi import __version__

        typer.echo(f"flowvi {__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "flowvi configs                              list the configs",
        "flowvi train --config=dlgm.nf10.mnist       train one",
        "flowvi test --config=dlgm.nf10.mnist        test it: free energy, -ln p(x), KL",
        "flowvi COMMAND --help                       more on a command",
    )
)
def _flowvi(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Variational inference with normalizing flows."""


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without β or ± gets a question mark, not a traceback
            stream.reconfigure(errors="replace")
    app()
