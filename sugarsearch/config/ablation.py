"""Ablations: what a training run changes of the recipe's update, to ask where a surrogate's effect comes from."""

from __future__ import annotations

from typing import Literal

Ablation = Literal["", "adam", "grafted"]
"""Nothing is changed (the empty word); the optimiser is Adam; or each parameter tensor's gradient has the direction
of the surrogate's and the norm of ReLU's (grafting: Agarwal et al., 2020)."""
