"""Images as observations of a batch of environments: random looks at reset, imperfect cameras at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from policies.pictures import Preparation, View, preparation
from sim.appearance import Appearance, apply_appearance
from sim.camera_model import CameraModel
from sim.cameras import Cameras
from sim.engines.base import ArmEngine
from sim.image_randomization import ImageEffects, ImageRandomization, apply, sample


class CameraObservations:
    """What the named cameras of all environments see."""

    def __init__(
        self,
        engine: ArmEngine,
        names: Sequence[str],
        *,
        models: Mapping[str, CameraModel] | None = None,
        image_randomization: ImageRandomization | None = None,
        appearance: Appearance | None = None,
        views: Mapping[str, tuple[tuple[int, int], View]] | None = None,
    ) -> None:
        """Prepare; no GL library is loaded before the first images.

        Args:
            engine: Whose environments are seen.
            names: Cameras of the scene.
            models: Calibrated cameras by name, see `Cameras`.
            image_randomization: What imperfect cameras do to images; None leaves them as rendered.
            appearance: How looks vary; None leaves them as built.
            views: (h, w) and view of the pictures that the policy sees, by camera, as a manifest has them; those of
                other cameras stay as the camera gives them.

        Raises:
            ValueError: The scene has no camera of that name, or the engine is not MuJoCo, or a view shows more than
                its camera sees.
        """
        self.cameras = Cameras(engine, models=models)
        self.engine, self.names = self.cameras.engine, tuple(names)
        self.image_randomization, self.appearance = image_randomization, appearance
        self._sizes = {name: (self.cameras.model(name).height, self.cameras.model(name).width) for name in names}
        self._prepared: dict[str, Preparation] = {}
        for name, (size, view) in (views or {}).items():
            if name not in self.names:
                raise ValueError(f"a view is given of camera {name!r}; seen are {', '.join(self.names) or 'none'}")
            self._prepared[name] = preparation(size, view, self.cameras.model(name))
        count = engine.num_envs
        # Everything random of an episode follows from one seed, and the noise of a frame from its number besides: an
        # environment's images do not depend on its neighbours, and going on later takes few numbers.
        self._seeds = np.zeros(count, dtype=np.int64)
        self._frames = np.zeros(count, dtype=np.int64)
        self._effects: list[dict[str, ImageEffects]] = [{} for _ in range(count)]
        self._last = {name: np.zeros((count, *self._sizes[name], 3), np.uint8) for name in self.names}

    def reset(self, ids: np.ndarray, generator: torch.Generator | np.random.Generator) -> None:
        """Draw the looks and the cameras' faults of a new episode in the environments `ids` (K,) int."""
        self._seeds[ids] = _draw_seeds(generator, len(ids))
        self._frames[ids] = 0
        self._begin(ids)

    def _begin(self, ids: np.ndarray) -> None:
        for env in np.asarray(ids).tolist():
            own = np.random.default_rng(int(self._seeds[env]))
            if self.image_randomization is not None:
                self._effects[env] = {
                    name: sample(self.image_randomization, self._sizes[name], own) for name in self.names
                }
            if self.appearance is not None:
                apply_appearance(self.engine, np.array([env]), self.appearance, own)

    def images(self) -> dict[str, np.ndarray]:
        """New images (N, H, W, 3) uint8 by camera, of the state as it is now: one frame per call."""
        found = {name: self.cameras.images(name) for name in self.names}
        for env, effects in enumerate(self._effects):
            if not effects:
                continue
            frame = int(self._frames[env])
            noise = np.random.default_rng([int(self._seeds[env]), frame])
            for name, images in found.items():
                previous = self._last[name][env] if frame > 0 else None
                images[env] = apply(images[env], effects[name], noise, frame=frame, previous=previous)
                self._last[name][env] = images[env]
        self._frames += 1
        return {n: self._prepared[n].apply(i) if n in self._prepared else i for n, i in found.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to go on later, bit by bit; the engine's state is its own."""
        last = {f"last.{name}": images.copy() for name, images in self._last.items()}
        return {"seeds": self._seeds.copy(), "frames": self._frames.copy(), **last}

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self._seeds, self._frames = np.array(stored["seeds"]), np.array(stored["frames"])
        self._last = {name: np.array(stored[f"last.{name}"]) for name in self.names}
        self._begin(np.arange(self.engine.num_envs))

    def close(self) -> None:
        """Give the GL context back."""
        self.cameras.close()


def _draw_seeds(generator: torch.Generator | np.random.Generator, count: int) -> np.ndarray:
    if isinstance(generator, torch.Generator):
        return torch.randint(2**62, (count,), generator=generator, device=generator.device).cpu().numpy()
    return generator.integers(2**62, size=count)
