"""The Lightning callback in a real Trainer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

import sugarsearch as ss
from sugarsearch.errors import SurgeryError, UsageError
from sugarsearch.integrations.lightning import SugarCallback
from sugarsearch.training.metrics import measured_gain

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own: of workers, of versions, of its logger

BATCHES, EPOCHS = 6, 2


class Tiny(LightningModule):
    """Three layers, of which half of the first one's units are dead."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        torch.manual_seed(0)
        first = nn.Linear(4, 8)
        self.net = nn.Sequential(first, activation(), nn.Linear(8, 8), activation(), nn.Linear(8, 3))
        with torch.no_grad():
            first.bias[:4] = -1000.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def weight(model: Tiny) -> Tensor:
    """Of the middle layer."""
    return model.get_parameter("net.2.weight").detach()


class Spy(Callback):
    """Notes which activations the network has while it is trained."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.seen |= {type(module).__name__ for module in pl_module.net} - {"Linear"}


def batches() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8 * BATCHES, 4, generator=generator), torch.randint(3, (8 * BATCHES,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=8)


def fit(model: LightningModule, folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=CSVLogger(folder),
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(model, batches())
    return trainer


def logged(trainer: Trainer) -> dict[int, dict[str, float]]:
    """What stands under sugar/ in the logger's file, by step."""
    assert isinstance(trainer.logger, CSVLogger)
    trainer.logger.save()
    with (Path(trainer.logger.log_dir) / "metrics.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file) if row["sugar/dead_units"]}
    return {step: {k: float(v) for k, v in row.items() if k.startswith("sugar/") and v} for step, row in rows.items()}


def test_it_watches_plain_relus_and_logs_every_nth_step(tmp_path: Path) -> None:
    model = Tiny()
    trainer = fit(model, tmp_path, SugarCallback(every_n_steps=5))
    rows = logged(trainer)
    assert sorted(rows) == [1, 6, 11]  # after the 1st, 6th and 11th of 12 steps
    for row in rows.values():
        assert row["sugar/dead_units_worst"] >= 0.5
        assert 0.25 <= row["sugar/dead_units"] <= row["sugar/dead_units_worst"]
        assert row["sugar/sparsity"] >= row["sugar/dead_units"]
        assert "sugar/gain" not in row
    assert [type(module) for module in model.net[1::2]] == [nn.ReLU, nn.ReLU]


def test_the_first_steps_figures_are_those_of_its_batch(tmp_path: Path) -> None:
    row = logged(fit(Tiny(), tmp_path, SugarCallback("b_silu", every_n_steps=100)))[1]
    net = Tiny().net
    x, _ = next(iter(batches()))
    first, second = net[:2](x), net[:4](x)
    dead = [int((layer <= 0).all(0).sum()) for layer in (first, second)]
    assert row["sugar/dead_units"] == pytest.approx(sum(dead) / 16)
    assert row["sugar/dead_units_worst"] == pytest.approx(max(dead) / 8)
    assert row["sugar/sparsity"] == pytest.approx(float(torch.cat([first, second]).eq(0).float().mean()))
    ss.apply(net, "b_silu")
    assert row["sugar/gain"] == pytest.approx(sum(measured_gain(net, x)) / 2)


def test_sugar_is_put_in_trains_and_is_taken_out(tmp_path: Path) -> None:
    model, by_hand, plain, spy = Tiny(), Tiny(), Tiny(), Spy()
    fit(model, tmp_path, SugarCallback("b_silu"), spy)
    assert spy.seen == {"SugarReLU"}
    assert [type(module) for module in model.net[1::2]] == [nn.ReLU, nn.ReLU]
    ss.apply(by_hand, "b_silu")
    fit(by_hand, tmp_path)
    fit(plain, tmp_path)
    assert torch.equal(weight(model), weight(by_hand))
    assert not torch.equal(weight(model), weight(plain))


def test_by_pattern_and_left_in_if_asked_for(tmp_path: Path) -> None:
    model = Tiny(nn.GELU)
    fit(model, tmp_path, SugarCallback({"net.1": "elu"}, remove_at_end=False, replace=("gelu",)))
    assert [type(module).__name__ for module in model.net[1::2]] == ["SugarReLU", "GELU"]


def test_checkpoints_are_those_of_a_plain_network(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(dirpath=tmp_path / "saved")
    model = Tiny()
    fit(model, tmp_path, SugarCallback("b_silu"), keeper)
    again = Tiny.load_from_checkpoint(keeper.best_model_path, strict=True)
    assert torch.equal(weight(again), weight(model))


def test_other_callbacks_can_monitor_it(tmp_path: Path) -> None:
    stop = EarlyStopping("sugar/dead_units", patience=0, check_on_train_epoch_end=True, stopping_threshold=1.0)
    trainer = fit(Tiny(), tmp_path, SugarCallback("b_silu", every_n_steps=1), stop)
    assert trainer.current_epoch == 1  # of 2: below the threshold from the first


def test_broken_off_it_leaves_a_plain_network(tmp_path: Path) -> None:
    class Breaks(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                raise OSError("the disk is full")

    model = Tiny()
    with pytest.raises(OSError, match="disk is full"):
        fit(model, tmp_path, SugarCallback("b_silu", every_n_steps=1), Breaks())
    assert [type(module) for module in model.net[1::2]] == [nn.ReLU, nn.ReLU]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.net)


def test_what_cannot_be_watched_or_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no nn\.ReLU and no SugarReLU to watch"):
        fit(Tiny(nn.GELU), tmp_path, SugarCallback())
    with pytest.raises(SurgeryError):
        fit(Tiny(nn.Tanh), tmp_path, SugarCallback("b_silu"))
    with pytest.raises(UsageError, match="every_n_steps = 0"):
        SugarCallback(every_n_steps=0)
    with pytest.raises(UsageError, match="form: options of"):
        SugarCallback(form="table")
