"""The command that says what a run has shown, from its records: verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sugarsearch.cli.common import Json, print_json, print_screen


def register(app: typer.Typer) -> None:
    """Add this command to `app`."""
    app.command("verdict")(verdict)


def verdict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")], as_json: Json = False
) -> None:
    """Work a run's verdict out again from its records; nothing is trained and nothing is written.

    Example: `sugarsearch verdict runs/quickstart`

    It prints what the search printed at its end, from `records.jsonl` and `study.yaml` alone. The verdict is one of

    - **better than tuned ReLU by a to b points**: each at its own best learning rate, on seeds used by nothing before;
    - **explained by gain**: better than tuned ReLU, but so may be any g with its gain;
    - **better only at this learning rate**: the lead over ReLU is gone once both are tuned;
    - **no difference shown with n seeds; d points could have been seen**: a true difference of d points would have
      been found in 80 of 100 such studies;
    - **worse than tuned ReLU by a to b points**.

    Intervals are 95 %, corrected for the number of comparisons (Holm): each finalist is set against tuned ReLU, against
    itself at unit gain, and against a random g of its gain.
    """
    from sugarsearch.search.replay import recomputed

    result = recomputed(run)
    if as_json:
        print_json(result.to_json())
    else:
        print_screen(result)
