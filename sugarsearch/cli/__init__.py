"""The command line. Commands import what they need when they are called, so `--help` loads no torch."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sugarsearch.cli.data import register as register_data
from sugarsearch.cli.inspect import register as register_inspect
from sugarsearch.cli.study import register as register_study
from sugarsearch.cli.train import register as register_train
from sugarsearch.errors import ConfigurationError, SugarsearchError

INTERRUPTED = 130  # the shell's code for a process ended by Ctrl-C


class Commands(TyperGroup):
    """Turns the errors users are meant to meet into one message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; anything but a SugarsearchError or Ctrl-C is a bug and keeps its traceback."""
        try:
            return super().invoke(ctx)
        except SugarsearchError as error:
            # Faults of files begin with file:line:column, which editors and terminals follow.
            prefix = "" if isinstance(error, ConfigurationError) else "sugarsearch: "
            print(f"{prefix}{error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("sugarsearch: stopped by Ctrl-C.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


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


for register in (register_study, register_train, register_inspect, register_data):
    register(app)


def main() -> None:
    """Entry point of the `sugarsearch` script."""
    app()
