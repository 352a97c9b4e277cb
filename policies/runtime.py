"""Running a policy: state and set-point in, command out, on numpy and onnxruntime alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from policies import actions, bundle, observations
from policies.execution import Executor
from policies.manifest import Manifest
from policies.terms import Memory
from policies.types import Array, Command, RobotInterface


class Policy:
    """A loaded bundle with the memory of one flight or of a batch of them.

    The first `step` after `reset` fixes the batch shape; a single sample has none.
    """

    def __init__(self, folder: Path, manifest: Manifest, seed: int = 0) -> None:
        """Open the network of a bundle that was checked; use `load`."""
        self.manifest = manifest
        self._session = bundle.open_session(folder / "policy.onnx")
        self._executor = Executor(manifest.execution, seed)
        self._memory: Memory | None = None
        self.last_action: np.ndarray | None = None
        """Normalized action (..., A) of the last step, before its physical scale; None after a reset."""
        self.last_observation: np.ndarray | None = None
        """Observation (..., D) of the last step."""

    def reset(self, mask: Array | None = None) -> None:
        """Start a new episode: everywhere, or where `mask` (...) of the batch is true.

        Raises:
            ValueError: `mask` does not have the batch shape.
        """
        if mask is None:
            self._memory, self.last_action, self.last_observation = None, None, None
            self._executor.reset()
            return
        if self._memory is None:
            return
        mask = np.asarray(mask, dtype=bool)
        batch = () if self.last_action is None else self.last_action.shape[:-1]
        if mask.shape != batch:
            raise ValueError(f"reset mask has shape {mask.shape}, but the batch has {batch}")
        fresh = observations.initial_memory(self.manifest.observation, like=np.zeros((*batch, 1), np.float32))
        self._memory = {
            name: np.where(mask.reshape(mask.shape + (1,) * (value.ndim - mask.ndim)), fresh[name], value)
            for name, value in self._memory.items()
        }
        self._executor.reset(mask.reshape(-1))

    def step(self, state: Any, setpoint: Any) -> Command:
        """The command for a state and a set-point, numpy fields, single or batched.

        Call it once per control period (`manifest.control_rate_hz`): history, integrals and chunks count calls.

        Raises:
            ValueError: The state lacks a picture that the network sees, or it has another shape; nothing has changed.
        """
        images = self._images(state)
        if self._memory is None:
            like = np.zeros((*np.shape(observations.batch_like(state))[:-1], 1), np.float32)
            self._memory = observations.initial_memory(self.manifest.observation, like=like)
        observation, memory = observations.observe(
            self.manifest.observation, state, setpoint, self._memory, 1.0 / self.manifest.control_rate_hz
        )
        observation = np.asarray(observation, dtype=np.float32)
        flat = observation.reshape(-1, observation.shape[-1])
        names = self.manifest.execution.outputs()

        def infer(inputs: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
            everywhere = len(rows) == len(flat)  # most often: then nothing is copied
            seen = {name: image if everywhere else image[rows] for name, image in images.items()}
            return dict(zip(names, self._session.run(list(names), {**inputs, **seen}), strict=True))

        action = self._executor.step(flat, infer).reshape(*observation.shape[:-1], -1)
        self._memory = observations.record_action(memory, action)
        self.last_action, self.last_observation = action, observation
        return actions.to_command(self.manifest.action, action)

    def _images(self, state: Any) -> dict[str, np.ndarray]:
        """Pictures (N, H, W, 3) by input of the network, from an arm's state or from those of several arms."""
        if not self.manifest.images:
            return {}
        arms = state.values() if isinstance(state, dict) else (state,)
        given = {camera: image for arm in arms for camera, image in arm.images.items()}
        batch = np.shape(observations.batch_like(state))[:-1]
        found = {}
        for camera, shape in self.manifest.images.items():
            if camera not in given:
                raise ValueError(f"the state has no picture of camera {camera!r}; it has {', '.join(given) or 'none'}")
            image = np.asarray(given[camera])
            if image.dtype != np.uint8 or image.shape != (*batch, *shape, 3):
                raise ValueError(
                    f"the picture of camera {camera!r} is {image.dtype} of shape {image.shape}; "
                    f"expected uint8 {(*batch, *shape, 3)}"
                )
            found[f"image_{camera}"] = image.reshape(-1, *shape, 3)
        return found


def load(path_or_name: str | Path, robot: RobotInterface | None = None, seed: int = 0) -> Policy:
    """Load a policy bundle by path or zoo name, after replaying its stored actions.

    Args:
        path_or_name: A bundle's folder, or the name of a shipped one.
        robot: The robot that shall run it; what does not fit is refused.
        seed: Of the noise, where the network takes any; row r of a batch draws what a single policy of seed + r does.

    Raises:
        BundleError: A ValueError that says in a sentence what is wrong.
    """
    folder, manifest = bundle.read_manifest(path_or_name, robot)
    return Policy(folder, manifest, seed)
