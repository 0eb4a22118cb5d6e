"""The callback for transformers in a real Trainer, on a BERT made from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

import sugarsearch as ss
from sugarsearch.errors import UsageError
from sugarsearch.integrations.transformers import SugarCallback
from sugarsearch.nn.activation import SugarReLU

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' and accelerate's own

STEPS = 6


class Sentences(Dataset[dict[str, torch.Tensor]]):
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.ids = torch.randint(50, (48, 7), generator=generator)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "labels": self.ids[index, 0] % 2}


def bert(activation: str = "relu") -> BertForSequenceClassification:
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 2}
    config = BertConfig(vocab_size=50, intermediate_size=24, hidden_act=activation, **size)
    return BertForSequenceClassification(config)


def trainer_of(model: nn.Module, folder: Path, **settings: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=3,
        **{"logging_steps": 2, "save_strategy": "no", **settings},
    )
    return Trainer(model=model, args=arguments, train_dataset=Sentences())


def activations(model: nn.Module) -> set[str]:
    return {type(module).__name__ for module in model.modules() if isinstance(module, nn.ReLU | SugarReLU)}


class Spy(TrainerCallback):
    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_step_end(self, *_: Any, **kwargs: Any) -> None:
        self.seen |= activations(kwargs["model"])


def test_it_watches_and_logs_beside_the_loss(tmp_path: Path) -> None:
    trainer = trainer_of(bert(), tmp_path)
    trainer.add_callback(SugarCallback(trainer, every_n_steps=2))
    trainer.train()
    rows = {row["step"]: row for row in trainer.state.log_history if "sugar/dead_units" in row}
    assert sorted(rows) == [1, 3, 5]
    for row in rows.values():
        assert 0 <= row["sugar/dead_units"] <= row["sugar/dead_units_worst"] < 1
        assert 0.2 < row["sugar/sparsity"] < 0.9
        assert "sugar/gain" not in row
    assert [row["step"] for row in trainer.state.log_history if "loss" in row] == [2, 4, 6]


def test_the_loss_is_logged_also_in_a_step_that_is_watched(tmp_path: Path) -> None:
    trainer = trainer_of(bert(), tmp_path, logging_steps=1)
    trainer.add_callback(SugarCallback(trainer, every_n_steps=1))
    trainer.train()
    history = trainer.state.log_history
    assert [row["step"] for row in history if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in history if "sugar/sparsity" in row] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_sugar_is_put_in_trains_and_is_taken_out(accumulation: int, tmp_path: Path) -> None:
    trained, spy = {}, Spy()
    for kind in ("callback", "by_hand", "plain"):
        model = bert()
        if kind == "by_hand":
            ss.apply(model, "b_silu")
        trainer = trainer_of(model, tmp_path, gradient_accumulation_steps=accumulation)
        if kind == "callback":
            trainer.add_callback(SugarCallback(trainer, "b_silu", every_n_steps=2))
            trainer.add_callback(spy)
        trainer.train()
        trained[kind] = model
        if kind == "callback":
            assert activations(model) == {"ReLU"}
            gains = [row["sugar/gain"] for row in trainer.state.log_history if "sugar/gain" in row]
            assert len(gains) == 1
            assert 1.0 < gains[0] < 2.0
    assert spy.seen == {"SugarReLU"}
    weights = {
        kind: model.state_dict()["bert.encoder.layer.0.intermediate.dense.weight"] for kind, model in trained.items()
    }
    assert torch.equal(weights["callback"], weights["by_hand"])
    assert not torch.equal(weights["callback"], weights["plain"])


def test_checkpoints_are_those_of_a_plain_model(tmp_path: Path) -> None:
    model = bert()
    trainer = trainer_of(model, tmp_path, save_strategy="steps", save_steps=STEPS)
    trainer.add_callback(SugarCallback(trainer, "b_silu"))
    trainer.train()
    again = BertForSequenceClassification.from_pretrained(tmp_path / f"checkpoint-{STEPS}")
    batch = {"input_ids": Sentences().ids[:4]}
    assert activations(again) == {"ReLU"}
    with torch.no_grad():
        assert torch.equal(again.train(False)(**batch).logits, model.train(False)(**batch).logits)


def test_a_model_without_relu_is_refused_or_changed_on_request(tmp_path: Path) -> None:
    trainer = trainer_of(bert("gelu"), tmp_path)
    trainer.add_callback(SugarCallback(trainer))
    with pytest.raises(UsageError, match="to watch"):
        trainer.train()
    model, spy = bert("gelu"), Spy()
    trainer = trainer_of(model, tmp_path)
    trainer.add_callback(SugarCallback(trainer, "gelu", replace=("gelu",)))
    trainer.add_callback(spy)
    trainer.train()
    assert spy.seen == {"SugarReLU"}
    assert activations(model) == {"ReLU"}
