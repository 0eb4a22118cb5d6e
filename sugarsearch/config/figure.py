"""The schemas of baselines that are figures of the source.

They are drawn from another baseline's results, from formulas, or from networks that are trained for them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sugarsearch.config.baseline import Baseline, Words
from sugarsearch.config.fields import LearningRate, Seed, SurrogateText, fault
from sugarsearch.config.schema import ExecutionConfig, Recipe


def _with_relu(surrogates: tuple[str, ...]) -> tuple[str, ...]:
    if "relu" not in surrogates:
        raise fault(f"{list(surrogates)} lacks relu, which the others are set against.")
    if len(set(surrogates)) < len(surrogates):
        raise fault(f"{list(surrogates)} names one twice; give each once.")
    return surrogates


def _odd(points: int) -> int:
    if points % 2 == 0:
        raise fault(f"{points} is even; the network itself is in the middle of the grid only if it is odd.")
    return points


GridPoints = Annotated[int, Field(ge=3, le=999), AfterValidator(_odd)]
Reach = Annotated[float, Field(gt=0, le=100)]
DirectionNorm = Literal["layer", "filter"]


class PictureBaseline(Baseline):
    """Pictures of another baseline, by the beginnings of their names; its cells are run as far as they are not."""

    kind: Literal["pictures"]
    of: Words
    pictures: Annotated[tuple[Words, ...], Field(min_length=1)]


class FunctionsBaseline(Baseline):
    """Functions and their derivatives; nothing is trained."""

    kind: Literal["functions"]
    surrogates: Annotated[tuple[SurrogateText, ...], Field(min_length=1)]


class TrainedBaseline(Baseline):
    """Networks of one recipe, trained with each surrogate (the SUGAR arm), and what is seen of them then.

    seed: of weights and batches.
    samples: of the training split that are looked at, or all where it has fewer.
    notes: what a reader must know before believing the figure.
    """

    recipe: Recipe
    learning_rate: LearningRate
    seed: Seed
    surrogates: Annotated[tuple[SurrogateText, ...], AfterValidator(_with_relu)]
    samples: Annotated[int, Field(ge=1)]
    notes: tuple[Words, ...] = ()
    execution: ExecutionConfig = ExecutionConfig()


class ProfilesBaseline(TrainedBaseline):
    """How often the units of each network fire."""

    kind: Literal["profiles"]


class LandscapesBaseline(TrainedBaseline):
    """The loss around the weights of each network; the directions are drawn from the baseline's seed, too.

    points: along each of the two directions.
    reach: how far to go; 1 is as far as the weights are long.
    normalise: what of a direction gets the weights' norm.
    """

    kind: Literal["landscapes"]
    points: GridPoints
    reach: Reach
    normalise: DirectionNorm
