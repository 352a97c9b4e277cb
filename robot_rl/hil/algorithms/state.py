"""Everything that a learner needs to go on, as a table of tensors: networks, optimizers, generators, counters."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def pack(
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    generator: np.random.Generator,
    noise: torch.Generator,
    numbers: Mapping[str, float],
) -> dict[str, Tensor]:
    """The state of a learner's parts, by name."""
    state = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for place, moments in optimizer.state_dict()["state"].items():
            state.update({f"{name}/{place}/{key}": torch.as_tensor(value) for key, value in moments.items()})
    text = json.dumps(generator.bit_generator.state).encode()
    state["generator"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    state["noise"] = noise.get_state()
    state.update({name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()})
    return state


def unpack(
    state: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    generator: np.random.Generator,
    noise: torch.Generator,
) -> None:
    """Put what `pack` took back into the same parts."""
    for name, module in modules.items():
        module.load_state_dict(_under(state, name))
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for path, value in _under(state, name).items():
            place, key = path.split("/")
            moments.setdefault(int(place), {})[key] = value.clone()
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    generator.bit_generator.state = json.loads(bytes(state["generator"].tolist()))
    noise.set_state(state["noise"])


def _under(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
