"""Kinds of values that YAML files hold, each with its bounds; and the names that the layers above know.

Names of surrogates, operators, models and data sets are checked against a `Names` catalogue handed in as validation
context, because this layer lies below the ones that own them.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Protocol, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from sugarsearch.config.objects import refuse_standard_library
from sugarsearch.errors import SugarsearchError

OptionValue = bool | int | float | str


class Names(Protocol):
    """What the layers above know; each method raises a SugarsearchError for a name they do not know."""

    def surrogate(self, text: str) -> None: ...
    def operator(self, name: str, arity: int) -> None: ...
    def family(self, text: str, parameters: frozenset[str]) -> None: ...
    def model(self, name: str, options: dict[str, OptionValue]) -> None: ...
    def data(self, name: str, root: str | None) -> None: ...


def ask(info: ValidationInfo, method: str, *arguments: Any) -> None:
    """Have the catalogue in the validation context, if there is one, check a name."""
    names = (info.context or {}).get("names")
    if names is None:
        return
    try:
        getattr(names, method)(*arguments)
    except SugarsearchError as error:
        raise PydanticCustomError("sugarsearch", "{text}", {"text": str(error)}) from None


def fault(text: str) -> PydanticCustomError:
    """A validation fault whose message is `text`, unchanged."""
    return PydanticCustomError("sugarsearch", "{text}", {"text": text})


def _known_surrogate(text: str, info: ValidationInfo) -> str:
    ask(info, "surrogate", text)
    return text


def _known_unary(name: str, info: ValidationInfo) -> str:
    ask(info, "operator", name, 1)
    return name


def _known_binary(name: str, info: ValidationInfo) -> str:
    ask(info, "operator", name, 2)
    return name


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in itertools.pairwise(values)):
        raise fault(f"{list(values)} must increase, without repeats.")
    return values


def _option(value: Any, check: ValidatorFunctionWrapHandler) -> OptionValue:
    try:
        return cast(OptionValue, check(value))
    except ValidationError:  # one for each type that would do
        raise fault("an option is a finite number, a word, true or false.") from None


def _user_code(name: str) -> str:
    try:
        refuse_standard_library(name)
    except SugarsearchError as error:
        raise fault(str(error)) from None
    return name


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise fault(f"{name!r} is no device; write auto, cpu, cuda or cuda:N.")
    return name


SurrogateText = Annotated[str, Field(min_length=1), AfterValidator(_known_surrogate)]
SourceName = Annotated[str, Field(min_length=1), AfterValidator(_user_code)]
Unary = Annotated[str, AfterValidator(_known_unary)]
Binary = Annotated[str, AfterValidator(_known_binary)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
LearningRates = Annotated[tuple[LearningRate, ...], Field(min_length=1), AfterValidator(_increasing)]
Seconds = Annotated[float, Field(gt=0, le=1e8)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Option = Annotated[OptionValue, WrapValidator(_option)]
Device = Annotated[str, AfterValidator(_device)]
Rungs = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_increasing)]
# As symbolic.expression.MAX_CONSTANT, which lies above; a test holds the two equal.
Constant = Annotated[float, Field(ge=-1e6, le=1e6)]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Replicates = Annotated[int, Field(ge=1, le=100_000)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no NaN; immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
