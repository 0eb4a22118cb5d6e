"""A callback for PyTorch Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from sugarsearch.integrations.monitor import Given, Monitor


class SugarCallback(Callback):
    """Logs dead units and sparsity to the trainer's loggers; with a surrogate, trains with it.

    `Trainer(callbacks=[SugarCallback("b_silu")])`: the module's ReLUs get this g when fitting starts and are plain
    nn.ReLUs again when it ends, also when it is broken off. Checkpoints are those of the plain network. The metrics
    (see `Monitor`) may also be monitored by other callbacks; of several processes, the first one's are logged.

    Args:
        surrogate: g, its name or text, or a g for each pattern of paths; None: only watch.
        every_n_steps: how often units are watched, in training batches; a watched step costs some per cent more.
        remove_at_end: turn SugarReLUs into nn.ReLU at the end.
        **options: further arguments of `sugarsearch.apply`.

    Raises:
        UsageError, SurgeryError: as `Monitor` says.
    """

    def __init__(
        self, surrogate: Given | None = None, *, every_n_steps: int = 50, remove_at_end: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self._monitor = Monitor(surrogate, every_n_steps, remove_at_end, options)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put SUGAR in; the network is whole and on its device by now."""
        self._monitor.begin(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Watch this batch, if it is its turn."""
        self._monitor.before_step(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what was seen."""
        metrics = self._monitor.after_step()
        if not metrics:
            return
        # Not by pl_module.log: of that, only every trainer.log_every_n_steps-th step reaches the loggers.
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        pl_module.log_dict(metrics, logger=False, on_step=True, on_epoch=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SUGAR out."""
        self._monitor.end(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take SUGAR out of a training that was broken off."""
        self._monitor.end(pl_module)
