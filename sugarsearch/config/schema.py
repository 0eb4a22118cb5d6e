"""The schema of search spaces, recipes and studies.

Every field has its default and its bounds here and nowhere else. Names of surrogates, operators, models
and data sets are checked against a `Names` catalogue handed in as validation context, because this
layer lies below the ones that own them.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Any, Final, Literal, Protocol, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sugarsearch.config.objects import refuse_standard_library
from sugarsearch.errors import SugarsearchError

OptionValue = bool | int | float | str

FAMILY_ERROR: Final = 0.05
"""The chance that a verdict is allowed to see any difference where there is none."""
CONTROLS_EACH: Final = 3
"""What a finalist is compared with: tuned ReLU, itself at unit gain, a random g of the same gain."""


class Names(Protocol):
    """What the layers above know; each method raises a SugarsearchError for a name they do not know."""

    def surrogate(self, text: str) -> None: ...
    def operator(self, name: str, arity: int) -> None: ...
    def family(self, text: str, parameters: frozenset[str]) -> None: ...
    def model(self, name: str, options: dict[str, OptionValue]) -> None: ...
    def data(self, name: str, root: str | None) -> None: ...


def _ask(info: ValidationInfo, method: str, *arguments: Any) -> None:
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
    _ask(info, "surrogate", text)
    return text


def _known_unary(name: str, info: ValidationInfo) -> str:
    _ask(info, "operator", name, 1)
    return name


def _known_binary(name: str, info: ValidationInfo) -> str:
    _ask(info, "operator", name, 2)
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
# As symbolic.expression.MAX_CONSTANT, which lies above; a test holds the two equal.
Constant = Annotated[float, Field(ge=-1e6, le=1e6)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Replicates = Annotated[int, Field(ge=1, le=100_000)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no NaN; immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Interval(Strict):
    """A closed interval of the real line."""

    low: Constant
    high: Constant

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low >= self.high:
            raise fault(f"low ({self.low:g}) must be below high ({self.high:g}).")
        return self


class ParameterRange(Interval):
    """The range of a family's parameter; `log` samples it on a logarithmic scale."""

    log: bool = False

    @model_validator(mode="after")
    def _positive_if_log(self) -> ParameterRange:
        if self.log and self.low <= 0:
            raise fault(f"a logarithmic range needs low > 0; given {self.low:g}.")
        return self


class SearchSpace(Strict):
    """Which expressions may be written (a file of search_spaces/)."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str = ""
    template: Literal["whole_line", "negative_side", "gate", "family"]
    unary: tuple[Unary, ...] = ()
    binary: tuple[Binary, ...] = ()
    constants: Interval = Interval(low=-2.0, high=2.0)
    max_depth: Annotated[int, Field(ge=1, le=8)] = 4
    max_nodes: Annotated[int, Field(ge=1, le=60)] = 15
    gain: Literal["unit", "own"] = "unit"
    at_zero: Interval | None = None
    family: str | None = None
    parameters: dict[str, ParameterRange] = {}

    @model_validator(mode="after")
    def _fits_template(self, info: ValidationInfo) -> SearchSpace:
        if self.template == "family":
            if self.family is None or not self.parameters:
                raise fault("template 'family' needs family (a name or an expression) and parameters with ranges.")
            _ask(info, "family", self.family, frozenset(self.parameters))
        elif self.family is not None or self.parameters:
            raise fault(f"family and parameters belong to template 'family'; this one is '{self.template}'.")
        elif not self.unary and not self.binary:
            raise fault(f"template '{self.template}' needs operators: unary, binary or both.")
        return self


class DataConfig(Strict):
    """A data set: a known name, a folder, or `package.module:loader`; how much of it; how it is split."""

    name: SourceName
    root: str | None = None
    train_limit: Annotated[int, Field(ge=2)] | None = None
    test_limit: Annotated[int, Field(ge=1)] | None = None
    validation: Fraction = 0.1
    split_seed: Seed = 0

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> DataConfig:
        _ask(info, "data", self.name, self.root)
        return self


class ModelConfig(Strict):
    """A model: a known name or `package.module:factory`, with its options."""

    name: SourceName
    options: dict[str, Annotated[OptionValue, WrapValidator(_option)]] = {}

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> ModelConfig:
        _ask(info, "model", self.name, self.options)
        return self


class OptimizerConfig(Strict):
    """The optimiser, in torch.optim's terms; the learning rate is not part of it."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8

    @model_validator(mode="after")
    def _coherent(self) -> OptimizerConfig:
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise fault(f"momentum and nesterov belong to sgd; {self.name} has betas.")
        if self.nesterov and not self.momentum:
            raise fault("nesterov needs momentum > 0.")
        return self


class ScheduleConfig(Strict):
    """Learning rate over epochs, as a factor of the base rate."""

    name: Literal["constant", "milestones", "cosine"] = "constant"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _coherent(self) -> ScheduleConfig:
        if self.milestones and self.name != "milestones":
            raise fault(f"milestones belong to schedule 'milestones'; this one is '{self.name}'.")
        if self.name == "milestones" and not self.milestones:
            raise fault("schedule 'milestones' needs milestones: a list of epochs.")
        return self


class Recipe(Strict):
    """All of a training run but surrogate, learning rate and seed."""

    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    precision: Literal["fp32", "bf16"] = "fp32"
    augmentation: Literal["none", "crop_flip"] = "none"
    clip_gradient: Annotated[float, Field(gt=0)] | None = None


class PruningConfig(Strict):
    """Successive halving: after each rung (an epoch) the best `keep` of all scores known there go on."""

    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_increasing)]
    keep: Fraction = 0.34


class SearchConfig(Strict):
    """Screening: how candidates are proposed and how each is scored."""

    sampler: Literal["evolution", "random", "tpe"] = "evolution"
    candidates: Annotated[int, Field(ge=1, le=1_000_000)]
    batch: Annotated[int, Field(ge=1, le=10_000)] = 8
    learning_rates: LearningRates
    replicates: Replicates = 1
    seed: Seed = 0
    queue: tuple[SurrogateText, ...] = ("relu", "b_silu", "nelu")
    population: Annotated[int, Field(ge=2)] = 20
    tournament: Annotated[int, Field(ge=2)] = 4
    pruning: PruningConfig | None = None
    allow_gain_ranking: bool = False
    trial_time_limit: Seconds | None = None
    time_limit: Seconds | None = None


class RerunConfig(Strict):
    """The best of the screening once more, on fresh seeds at their best rate: who was only lucky is left behind."""

    candidates: Annotated[int, Field(ge=1, le=1000)] = 8
    replicates: Replicates = 3


class FinalConfig(Strict):
    """The verdict: re-run, learning-rate sweeps, and final runs of finalists and controls, each on seeds of its own.

    Controls are added to: ReLU, B-SiLU, each finalist at unit gain and a random g of its gain stand in every verdict.
    """

    finalists: Annotated[int, Field(ge=1, le=1000)] = 1  # first, for the budgets below hang on it
    rerun: RerunConfig = RerunConfig()
    learning_rates: LearningRates
    tuning_replicates: Annotated[int, Field(ge=3, le=100_000)] = 3
    replicates: Replicates = 10
    controls: tuple[SurrogateText, ...] = ("relu", "b_silu")
    collapse_below: Fraction | None = None

    @field_validator("rerun")
    @classmethod
    def _holds_the_finalists(cls, rerun: RerunConfig, info: ValidationInfo) -> RerunConfig:
        finalists = info.data.get("finalists", 1)
        if rerun.candidates < finalists:
            raise fault(f"{rerun.candidates} candidates; at least as many as finalists, {finalists}, must be re-run.")
        return rerun

    @field_validator("replicates")
    @classmethod
    def _says_something(cls, replicates: int, info: ValidationInfo) -> int:
        finalists = info.data.get("finalists", 1)
        needed = fewest_seeds(finalists)
        if replicates < needed:
            raise fault(
                f"with {replicates} seeds an arm no lead could be told from chance; a verdict on {finalists} "
                f"finalist{'s' * (finalists > 1)} needs at least {needed}."
            )
        return replicates


def fewest_seeds(finalists: int) -> int:
    """The seeds an arm needs before a verdict on so many finalists can say anything.

    With fewer, not even a lead on every single seed (two-sided chance 2 / 2**n) is below Holm's first bound.
    """
    return math.ceil(math.log2(2 * CONTROLS_EACH * finalists / FAMILY_ERROR))


class ExecutionConfig(Strict):
    """How jobs are run; changes speed, never the question that is asked.

    checkpoint_seconds: how often a training run keeps its state, to go on from after a kill.
    """

    device: Annotated[str, AfterValidator(_device)] = "auto"
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    mode: Literal["auto", "eager", "compiled", "population"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0


class StudyConfig(Strict):
    """A whole study (a file of studies/)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: str = ""
    space: SearchSpace
    recipe: Recipe
    search: SearchConfig
    final: FinalConfig
    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="after")
    def _coherent(self) -> StudyConfig:
        ranks_gain = self.space.gain == "own" and len(self.search.learning_rates) < 3
        if ranks_gain and not self.search.allow_gain_ranking:
            raise fault(
                f"own gain at {len(self.search.learning_rates)} learning rate(s) ranks gain, which acts as a higher "
                "learning rate. Use gain: unit in the space, or at least three search.learning_rates, or say "
                "search.allow_gain_ranking: true."
            )
        if self.search.sampler == "tpe" and self.space.template != "family":
            raise fault("sampler 'tpe' tunes families; a space of trees needs 'evolution' or 'random'.")
        if self.search.sampler == "evolution" and self.space.template == "family":
            raise fault("sampler 'evolution' works on trees; a family needs 'tpe' or 'random'.")
        pruning = self.search.pruning
        if pruning and pruning.rungs[-1] >= self.recipe.epochs:
            raise fault(f"rung {pruning.rungs[-1]} must lie before the last epoch ({self.recipe.epochs}).")
        return self
