"""Successive halving over everything known at a rung, the running batch included."""

from __future__ import annotations

import math

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sugarsearch.config.schema import PruningConfig


class BatchHalvingPruner(BasePruner):
    """At a rung a trial goes on if it is among the best `keep` of all scores known there.

    Known are the intermediate values at that step of every trial, finished, pruned or running, so the
    candidates of one batch, which reach a rung together, compete with each other and with all before
    them. Optuna's own halving pruners see finished trials only in the order in which they report: within
    a batch the first to report would always be the best so far. Equals go on together.
    """

    def __init__(self, config: PruningConfig) -> None:
        self.rungs, self._keep = config.rungs, config.keep

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether `trial`, whose last report is for a rung, must stop there."""
        step = trial.last_step
        if step not in self.rungs:
            return False
        known = [
            other.intermediate_values[step]
            for other in study.get_trials(deepcopy=False)
            if step in other.intermediate_values
        ]
        survivors = math.ceil(self._keep * len(known))
        threshold = sorted(known, reverse=True)[survivors - 1]
        return trial.intermediate_values[step] < threshold
