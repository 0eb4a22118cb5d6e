"""The schema of search spaces, recipes and studies.

Every field has its default and its bounds here, in `verdict` and in `fields`, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, model_serializer, model_validator

from sugarsearch.config.fields import (
    Binary,
    Constant,
    Device,
    Fraction,
    LearningRates,
    Option,
    Replicates,
    Rungs,
    RunName,
    Seconds,
    Seed,
    SourceName,
    Strict,
    SurrogateText,
    Unary,
    ask,
    fault,
)
from sugarsearch.config.verdict import FinalConfig, VerdictConfig

NormalisationName = Literal["channel", "half", "unit"]

TIMM_TRAINS_ALONE: Final = (
    "augmentation 'timm' works on one network's images at a time, not on a population's. Use execution.mode: auto."
)


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
    parameters: dict[str, ParameterRange] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_template(self, info: ValidationInfo) -> SearchSpace:
        if self.template == "family":
            if self.family is None or not self.parameters:
                raise fault("template 'family' needs family (a name or an expression) and parameters with ranges.")
            ask(info, "family", self.family, frozenset(self.parameters))
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
        ask(info, "data", self.name, self.root)
        return self


class ModelConfig(Strict):
    """A model: a known name or `package.module:factory`, with its options."""

    name: SourceName
    options: dict[str, Option] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> ModelConfig:
        ask(info, "model", self.name, self.options)
        return self


class Grown(Strict):
    """Settings of which some, `LATER`, came when there were runs already.

    These are not written down at their defaults, so that what was asked before keeps its name: it tells a run
    which records are its own.
    """

    LATER: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        idle = {name for name in self.LATER if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in write(self).items() if name not in idle}


class OptimizerConfig(Grown):
    """The optimiser, in torch.optim's terms; the learning rate is not part of it.

    decay: which parameters weight decay is for; "matrices" are those of two or more dimensions, which biases, norms
        and layer scales are not.
    final_weight_decay: where the weight decay ends that a cosine takes there, step by step over all of the recipe,
        from weight_decay; without it weight decay is constant.
    """

    LATER = frozenset({"decay", "final_weight_decay"})

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    decay: Literal["all", "matrices"] = "all"
    final_weight_decay: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> OptimizerConfig:
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise fault(f"momentum and nesterov belong to sgd; {self.name} has betas.")
        if self.nesterov and not self.momentum:
            raise fault("nesterov needs momentum > 0.")
        if self.final_weight_decay is not None and not self.weight_decay:
            raise fault("final_weight_decay needs weight_decay > 0, from where it goes there.")
        return self


class ScheduleConfig(Grown):
    """Learning rate over epochs, as a factor of the base rate; warm-up rises from `warmup_fraction` to 1."""

    LATER = frozenset({"warmup_fraction"})

    name: Literal["constant", "milestones", "cosine"] = "constant"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _coherent(self) -> ScheduleConfig:
        if self.milestones and self.name != "milestones":
            raise fault(f"milestones belong to schedule 'milestones'; this one is '{self.name}'.")
        if self.name == "milestones" and not self.milestones:
            raise fault("schedule 'milestones' needs milestones: a list of epochs.")
        if self.warmup_fraction and not self.warmup_epochs:
            raise fault("warmup_fraction is where warm-up begins; it needs warmup_epochs > 0.")
        return self


class Recipe(Grown):
    """All of a training run but surrogate, learning rate and seed.

    batch_size: inputs of one forward pass.
    accumulation: such batches to one optimisation step, whose gradient is that of their samples' mean loss.
    normalisation: of uint8 images: "channel" by mean and deviation of the training images, "half" to [-1, 1], "unit"
        to [0, 1]. Floats are used as given.
    augmentation: "timm" is that of the Swin and ConvNeXt recipes: RandAugment, random erasing, mixup and cutmix, and
        label smoothing; see data.timm_recipe.
    """

    LATER = frozenset({"accumulation", "normalisation"})

    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    accumulation: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    normalisation: NormalisationName = "channel"
    augmentation: Literal["none", "crop_flip", "timm"] = "none"
    clip_gradient: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Recipe:
        if self.augmentation == "timm" and self.batch_size % 2:
            raise fault(f"augmentation 'timm' mixes images in pairs; batch_size is {self.batch_size}, use an even one.")
        return self


class PruningConfig(Strict):
    """Successive halving: after each rung (an epoch) the best `keep` of all scores known there go on."""

    rungs: Rungs
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


class ExecutionConfig(Strict):
    """How jobs are run; changes speed, never the question that is asked.

    checkpoint_seconds: how often a training run keeps its state, to go on from after a kill.
    """

    device: Device = "auto"
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    mode: Literal["auto", "eager", "compiled", "population"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0


class StudyConfig(Strict):
    """A whole study (a file of studies/)."""

    name: RunName
    description: str = ""
    space: SearchSpace
    recipe: Recipe
    search: SearchConfig
    final: FinalConfig
    execution: ExecutionConfig = ExecutionConfig()

    @property
    def seed(self) -> int:
        """Of the study; all other seeds come from it."""
        return self.search.seed

    @model_validator(mode="after")
    def _coherent(self) -> StudyConfig:
        refuse_idle_ablations(self.final, self.recipe)
        if self.recipe.augmentation == "timm" and self.execution.mode == "population":
            raise fault(TIMM_TRAINS_ALONE)
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


def refuse_idle_ablations(verdict: VerdictConfig, recipe: Recipe) -> None:
    """Refuse an ablation that would change nothing.

    Raises:
        PydanticCustomError: "adam" where the recipe's optimiser is one.
    """
    if "adam" in verdict.ablations and recipe.optimizer.name != "sgd":
        raise fault(
            f"the ablation adam is for recipes of sgd; this one's optimizer is {recipe.optimizer.name} already."
        )
