"""Arms: what the networks of a training run compute forward, to ask whether ReLU's forward pass is worth keeping."""

from __future__ import annotations

from typing import Literal

TrainingArm = Literal["sugar", "non_sugar"]
"""SUGAR: ReLU forward, the surrogate g backward. Non-SUGAR: g's primitive f forward, and f's own gradient, which is g,
backward: an ordinary network with the activation f (Horuz et al., 2025)."""
