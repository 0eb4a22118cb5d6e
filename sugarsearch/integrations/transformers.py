"""A callback for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sugarsearch.integrations.monitor import Given, Monitor


class SugarCallback(TrainerCallback):
    """Logs dead units and sparsity by the trainer's own log; with a surrogate, trains with it.

    `trainer.add_callback(SugarCallback(trainer, "b_silu"))`: the model's ReLUs get this g when training starts and
    are plain nn.ReLUs again when it ends. Checkpoints are those of the plain network. A training that was broken off
    leaves SUGAR in; `sugarsearch.remove(model)` takes it out. For the metrics see `Monitor`.

    Args:
        trainer: whose log is used; transformers does not tell callbacks.
        surrogate: g, its name or text, or a g for each pattern of paths; None: only watch.
        every_n_steps: how often units are watched, in optimiser steps; a watched step costs some per cent more.
        remove_at_end: turn SugarReLUs into nn.ReLU at the end.
        **options: further arguments of `sugarsearch.apply`.

    Raises:
        UsageError, SurgeryError: as `Monitor` says.
    """

    def __init__(
        self,
        trainer: Trainer,
        surrogate: Given | None = None,
        *,
        every_n_steps: int = 50,
        remove_at_end: bool = True,
        **options: Any,
    ) -> None:
        self._trainer = trainer
        self._monitor = Monitor(surrogate, every_n_steps, remove_at_end, options)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put SUGAR in."""
        self._monitor.begin(kwargs["model"])

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Watch this step, if it is its turn."""
        self._monitor.before_step(kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log what was seen."""
        metrics = self._monitor.after_step()
        if metrics:
            asked = control.should_log  # logging resets it, and the loss is yet to be logged
            self._trainer.log(metrics)
            control.should_log = asked

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take SUGAR out."""
        self._monitor.end(kwargs["model"])
