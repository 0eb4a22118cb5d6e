"""The settings that came later: what is refused, and that recipes without them are what they were."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sugarsearch.config.schema import DataConfig, ModelConfig, OptimizerConfig, Recipe, ScheduleConfig, StudyConfig
from sugarsearch.evaluation.jobs import recipe_hash
from sugarsearch.training.streams import Stream, number

LATER = {"accumulation", "normalisation", "decay", "final_weight_decay", "warmup_fraction"}


def recipe(**settings: Any) -> Recipe:
    return Recipe(data=DataConfig(name="digits"), model=ModelConfig(name="deep_narrow_mlp"), epochs=3, **settings)


def test_a_recipe_without_them_has_the_name_that_it_had_before_there_were_any() -> None:
    assert recipe_hash(recipe()) == "f6223a8f1f797d771179"
    assert recipe_hash(recipe(accumulation=1, normalisation="channel")) == "f6223a8f1f797d771179"
    given = recipe().model_dump(mode="json")
    assert not LATER & {*given, *given["optimizer"], *given["schedule"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulation": 4},
        {"normalisation": "half"},
        {"augmentation": "timm"},
        {"optimizer": OptimizerConfig(weight_decay=0.1, decay="matrices")},
        {"optimizer": OptimizerConfig(weight_decay=0.1, final_weight_decay=0.0)},
        {"schedule": ScheduleConfig(warmup_epochs=1.0, warmup_fraction=0.01)},
    ],
    ids=str,
)
def test_a_recipe_with_one_has_a_name_of_its_own_and_survives_json(settings: dict[str, Any]) -> None:
    made = recipe(**settings)
    assert Recipe.model_validate_json(json.dumps(made.model_dump(mode="json"))) == made
    assert Recipe.model_validate(made.model_dump()) == made
    without = recipe(optimizer=OptimizerConfig(weight_decay=0.1)) if "optimizer" in settings else recipe()
    assert recipe_hash(made) not in {recipe_hash(recipe()), recipe_hash(without)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipe(accumulation=0), "greater than or equal to 1"),
        (lambda: recipe(normalisation="mean"), "'channel', 'half' or 'unit'"),
        (lambda: recipe(augmentation="timm", batch_size=33), "batch_size is 33, use an even one"),
        (lambda: OptimizerConfig(final_weight_decay=0.1), "final_weight_decay needs weight_decay > 0"),
        (lambda: OptimizerConfig(weight_decay=0.1, final_weight_decay=-0.1), "greater than or equal to 0"),
        (lambda: OptimizerConfig(decay="norms"), "'all' or 'matrices'"),  # type: ignore[arg-type]
        (lambda: ScheduleConfig(warmup_fraction=0.1), "needs warmup_epochs > 0"),
        (lambda: ScheduleConfig(warmup_epochs=1.0, warmup_fraction=1.0), "less than 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    assert message in str(caught.value)


def test_a_study_of_populations_is_refused_timms_augmentation() -> None:
    study = {
        "name": "s",
        "space": {"name": "s", "template": "whole_line", "unary": ["exp"]},
        "recipe": recipe(augmentation="timm").model_dump(mode="json"),
        "search": {"candidates": 2, "learning_rates": [0.1]},
        "final": {"learning_rates": [0.1]},
    }
    StudyConfig.model_validate_json(json.dumps(study))
    with pytest.raises(ValidationError, match="'timm' works on one network's images at a time"):
        StudyConfig.model_validate_json(json.dumps({**study, "execution": {"mode": "population"}}))


@pytest.mark.parametrize("seed", [0, 3, 2**32, 2**53 - 1])
def test_streams_give_the_numbers_of_seed_epoch_and_purpose(seed: int) -> None:
    for epoch in (0, 7):
        for purpose, stream in enumerate((Stream.ORDER, Stream.AUGMENTATION, Stream.MODEL)):
            # Of three numbers, not four: a place of 0 would make other numbers of large seeds.
            expected = np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0]
            assert number(seed, epoch, stream) == expected
    places = {number(seed, 1, stream, place) for stream in (Stream.IMAGE, Stream.MIXING) for place in range(50)}
    assert len(places) == 100
