"""What the pages see of a simulated arm: the 3-D scene, the camera views and the state of the robot."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from robot_rl.cockpit.pictures import PictureMaker, Snapshot
from robot_rl.cockpit.robot_state import describe_arm, tell_arm
from robot_rl.cockpit.server import CockpitServer
from robot_rl.cockpit.shapes import SceneShapes
from sim.arm_environment import ArmEnv
from sim.look import ArmLook


class ArmScreen:
    """Shows environment 0; touches nothing of it."""

    def __init__(
        self, env: ArmEnv, server: CockpitServer, *, size: tuple[int, int] = (480, 360), stamped: bool = False
    ) -> None:
        """Begin to render.

        Args:
            env: What is shown.
            server: To whose pages.
            size: Of the camera views, pixels.
            stamped: Draw a code into them, see `pictures.draw_code`.
        """
        self._env, self._server = env, server
        self._look = ArmLook(env)
        self._shapes = SceneShapes(self._look)
        self._values: dict[str, Any] = {}
        self._force = {mount.name: mount.wrench for mount in env.engine.scene.arms}
        self.pictures = PictureMaker(
            self._look, env.terms, server.publish_picture, size=size, stamped=stamped, wanted=lambda: server.watched
        )

    def describe(self) -> dict[str, Any]:
        """What does not change."""
        arms = [describe_arm(mount) for mount in self._env.engine.scene.arms]
        eye, target = self._view()
        return {"kind": "arm", "arms": arms, "cameras": self.pictures.cameras, "view": {"eye": eye, "target": target}}

    def _view(self) -> tuple[list[float], list[float]]:
        """Where one looks from at first: over the shoulder of a single arm, so that forward is up on the screen."""
        mounts = self._env.engine.scene.arms
        if len(mounts) > 1:
            camera = self._look.camera()
            return list(camera.position), list(camera.target)
        base = np.array(mounts[0].position)
        return (base + [-0.62, -0.78, 0.92]).tolist(), (base + [0.42, 0.02, 0.14]).tolist()

    def begin(self) -> None:
        """An episode begins: shapes and sizes may be others."""
        self._look.begin()
        self._values = {name: value.clone() for name, value in self._env.view.values.items()}
        self.show()
        shapes = self._shapes.changed()
        if shapes is not None:
            self._server.publish("scene", shapes)

    def show(self) -> None:
        """Show where everything is now."""
        now = time.monotonic()
        self._look.update()
        self._server.publish_poses(now, self._shapes.poses())
        self.pictures.show(Snapshot(at=now, state=self._look.engine.state(), values=self._values))

    def arms(self) -> dict[str, Any]:
        """The true state of every arm, by name."""
        loop = self._env.loop
        states = loop.states(loop.truth())
        return {name: tell_arm(state, self._force[name]) for name, state in states.items()}

    def close(self) -> None:
        """Stop to render."""
        self.pictures.close()
