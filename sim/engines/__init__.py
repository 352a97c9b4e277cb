"""Physics engines for arms, one file each, all with the interface of `sim.engines.base`."""

from __future__ import annotations

from sim.engines.base import ArmEngine
from sim.scene import Scene


def make_engine(name: str, scene: Scene, num_envs: int, *, threads: int = 1) -> ArmEngine:
    """N copies of a scene in the engine `name`, which alone is imported.

    Raises:
        ImportError: The engine is not installed; the message says how to.
    """
    if name == "pybullet":
        from sim.engines.bullet import BulletEngine

        return BulletEngine(scene, num_envs)
    if name == "warp":
        from sim.engines.warp import WarpEngine

        return WarpEngine(scene, num_envs, threads=threads)
    from sim.engines.mujoco import MujocoEngine

    return MujocoEngine(scene, num_envs, threads=threads)
