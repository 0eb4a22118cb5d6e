"""The command line. Commands import what they need when they are called, so `--help` loads no torch."""

from __future__ import annotations

import contextlib
import errno
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sugarsearch.cli.compare import register as register_compare
from sugarsearch.cli.data import register as register_data
from sugarsearch.cli.export import register as register_export
from sugarsearch.cli.inspect import register as register_inspect
from sugarsearch.cli.landscape import register as register_landscape
from sugarsearch.cli.profile import register as register_profile
from sugarsearch.cli.reproduce import register as register_reproduce
from sugarsearch.cli.study import register as register_study
from sugarsearch.cli.train import register as register_train
from sugarsearch.cli.verdict import register as register_verdict
from sugarsearch.errors import ConfigurationError, SugarsearchError, SugarsearchWarning

INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C
SYSTEM_FAULT = 2

_ROOM = "Make room, and give the same command again."
_RIGHTS = "Choose a place that you may use."
_FILES = "Raise the limit (`ulimit -n`), or use fewer workers."
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENAMETOOLONG: "Give a shorter path.",
    errno.EIO: "The disk, or what it hangs on, is faulty.",
}


class Commands(TyperGroup):
    """Turns the errors users are meant to meet into one message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what is no SugarsearchError, no Ctrl-C and no fault of the system keeps its traceback."""
        try:
            with _plain_warnings():
                return super().invoke(ctx)
        except SugarsearchError as error:
            # Faults of files begin with file:line:column, which editors and terminals follow.
            _say(str(error) if isinstance(error, ConfigurationError) else f"sugarsearch: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _say("sugarsearch: stopped by Ctrl-C.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of a pipe has gone: click ends without a word
        except OSError as error:
            if error.errno is None:
                raise  # raised by a library for reasons of its own
            place = f"{error.filename}: " if error.filename else ""
            _say(f"sugarsearch: {place}{error.strerror}. {_REMEDIES.get(error.errno, '')}".rstrip())
            raise typer.Exit(SYSTEM_FAULT) from None


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """What users should know is one line, without the line of code that says it."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **named: Any) -> None:
            if issubclass(category, SugarsearchWarning):
                _say(f"sugarsearch: warning: {message}")
            else:
                usual(message, category, *place, **named)

        warnings.showwarning = show
        yield


def _say(text: str) -> None:
    """Print on stderr; what a terminal would obey, in a path from elsewhere, is shown as its escape."""
    print("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text), file=sys.stderr)


app = typer.Typer(
    cls=Commands,
    name="sugarsearch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from sugarsearch import __version__

        print(f"sugarsearch {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search for a better backward pass of ReLU.

    The forward pass stays ReLU; another function g(x) takes the place of its derivative. Begin with
    `sugarsearch search quickstart`.
    """


for register in (
    register_study,
    register_compare,
    register_verdict,
    register_reproduce,
    register_train,
    register_inspect,
    register_landscape,
    register_profile,
    register_export,
    register_data,
):
    register(app)


def main() -> None:
    """Entry point of the `sugarsearch` script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be text
    app()
