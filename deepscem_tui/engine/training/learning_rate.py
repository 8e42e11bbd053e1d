"""The learning rate of every step: a function of the step alone, but for the halvings that a training remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["RateSchedule"]

_POWER = 0.9  # of the polynomial; Chen et al. 2017 (DeepLab), as nnU-Net (Isensee et al. 2021) has it
_WARM_UP_FROM = 0.05  # of the rate: the first step learns a little too


@dataclass(frozen=True)
class RateSchedule:
    """How the rate rises and falls.

    Args:
        kind: ``"constant"``, ``"plateau"`` (constant too; the training halves it), ``"cosine"`` (Loshchilov & Hutter
            2017, one period) or ``"polynomial"``, the last two down to nearly 0 at the end.
        base: Rate after the warm-up.
        warm_up: Steps in which it rises in a straight line (Goyal et al. 2017).
        steps: Of the whole training.
    """

    kind: str
    base: float
    warm_up: int
    steps: int

    def rate(self, step: int) -> float:
        """The rate of a step, the first being 0."""
        if step < self.warm_up:
            return self.base * (_WARM_UP_FROM + (1 - _WARM_UP_FROM) * step / self.warm_up)
        done = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        match self.kind:
            case "cosine":
                return self.base * 0.5 * (1 + math.cos(math.pi * done))
            case "polynomial":
                return self.base * float((1 - done) ** _POWER)
        return self.base
