"""A network back from the bundle that `robot-rl hil` wrote."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from policies.bundle import check_bundle, find_bundle
from robot_rl.errors import UserError
from robot_rl.hil.algorithms.base import Sizes
from robot_rl.hil.networks import HilPolicy

_PREFIX = "network."
_NOT_EXPORTED = ("log_std.weight", "log_std.bias")
"""What a deterministic policy does not need."""


def policy_of_bundle(bundle: Path, sizes: Sizes) -> HilPolicy:
    """The policy in a bundle, which has to do in torch what the bundle's stored actions say.

    Raises:
        UserError: It is no bundle, holds another kind of network, or one for another observation or action.
    """
    if faults := check_bundle(bundle):
        raise UserError(f"{bundle} cannot be a base policy: {faults[0]}")
    bundle = find_bundle(bundle)
    graph = onnx.load(bundle / "policy.onnx").graph
    found = {
        one.name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(one).copy())
        for one in graph.initializer
        if one.name.startswith(_PREFIX)
    }
    places = _linear_layers(found, "trunk")
    if not places:
        raise UserError(f"{bundle} cannot be a base policy: its network is none of `robot-rl hil`")
    hidden = [len(found[f"trunk.layers.{place}.weight"]) for place in places]
    dropout = 0.5 if len(places) > 1 and places[1] == 4 else 0.0  # shifts the layers' numbers, and is off when it acts
    narrow = [
        len(found[f"grippers.habit.0.layers.{place}.weight"]) for place in _linear_layers(found, "grippers.habit.0")
    ]
    policy = HilPolicy(sizes.observation, sizes.layout, hidden, dropout, narrow or None).eval()
    own = policy.state_dict()
    own.update({name: own[name] for name in _NOT_EXPORTED})
    shapes = {name: list(value.shape) for name, value in own.items() if name not in _NOT_EXPORTED}
    theirs = {name: list(value.shape) for name, value in found.items()}
    if shapes != theirs:
        name = sorted(name for name in shapes.keys() | theirs.keys() if shapes.get(name) != theirs.get(name))[0]
        raise UserError(
            f"{bundle} cannot be a base policy: its network has {name} of shape {theirs.get(name)}; "
            f"this task needs {shapes.get(name)}"
        )
    policy.load_state_dict({**own, **found})
    with np.load(bundle / "vectors.npz") as vectors, torch.no_grad():
        wrong = np.abs(policy(torch.from_numpy(vectors["observation"])).numpy()[:, None] - vectors["action"]).max()
    if wrong > 1e-4:
        raise UserError(f"{bundle} cannot be a base policy: its network was rebuilt with errors up to {wrong:.2g}")
    return policy


def _linear_layers(found: dict[str, torch.Tensor], trunk: str) -> list[int]:
    """Places of the linear layers in a trunk, in order."""
    pattern = re.compile(re.escape(trunk) + r"\.layers\.(\d+)\.weight")
    return sorted(int(m.group(1)) for name in found if (m := pattern.fullmatch(name)))
