"""A running average of the weights that learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Average of named parameters: after step n (from 1) the decay is min(decay, (1 + n) / (10 + n)).

    The ramp lets the average follow the first steps instead of remembering the initial weights.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter]) -> None:
        """Move the average towards the parameters' present values."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        now = [parameters[name].detach() for name in self.average]
        torch._foreach_lerp_(list(self.average.values()), now, 1 - decay)

    @torch.no_grad()
    def copy_to(self, parameters: dict[str, nn.Parameter]) -> None:
        """Set the parameters to their average."""
        for name, value in self.average.items():
            parameters[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return the averages and the count of updates."""
        return {**self.average, "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Take over what `state_dict` returned."""
        self.num_updates = int(state["num_updates"])
        for name, value in self.average.items():
            value.copy_(torch.as_tensor(state[name]))
