"""How a quadrotor looks: a body with four rotors, the set-point as a ball with axes, and a trail of dots behind.

The vehicle is drawn larger than it is (a Crazyflie is 9 cm across and flies metres); the floor is there to be looked
at, nothing collides with it.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from torch import Tensor

from hardware.descriptions import load_quadrotor
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.environment import QuadrotorEnv
from sim.look import UNSEEN, axes
from sim.scene import Body, Camera, Color, Scene, Shape

SCALE = 2.0
"""How many times larger than it is the vehicle is drawn."""
LIFT = 0.7
"""m by which the world is drawn higher: the floor of the scene is at -0.75 m."""
_DOTS = 60
_SPACING = 0.04
"""m between the dots of the trail."""
_EASE = 0.1
"""Share of the way that the camera follows from frame to frame: a steady hand."""
_NEAREST = 0.85
"""m from the camera to a vehicle at its set-point."""
_ONLY = np.arange(1)
_FRONT: Color = (0.93, 0.35, 0.12, 1.0)
_REAR: Color = (0.25, 0.28, 0.32, 1.0)
_BOARD: Color = (0.12, 0.14, 0.17, 1.0)
_METAL: Color = (0.75, 0.76, 0.78, 1.0)
_GLASS = 0.45


class QuadrotorLook:
    """Environment 0 of quadrotors."""

    marks: tuple[str, ...] = ("set-point",)

    def __init__(self, env: QuadrotorEnv) -> None:
        """Build the scene.

        Args:
            env: What is looked at.
        """
        self.env = env
        positions = load_quadrotor(env.task.robot).parameters["rotor_positions"]
        self.engine = MujocoEngine(quadrotor_scene(positions), 1)
        self._trail: deque[np.ndarray] = deque(maxlen=_DOTS)
        self.begin()
        self.update()

    def begin(self) -> None:
        """A new flight: the trail begins anew."""
        self._trail.clear()
        target, vehicle = _raised(self.env.setpoint.position)[0], _raised(self.env.state.position)[0]
        self._center = 0.5 * (target + vehicle)
        self._distance = _NEAREST + 0.9 * float(np.linalg.norm(target - vehicle))

    def update(self) -> None:
        """Put vehicle, set-point and trail where they are; once per frame."""
        state, setpoint = self.env.state, self.env.setpoint
        vehicle = np.concatenate([_raised(state.position)[:1], state.orientation[:1].numpy()], axis=1, dtype=float)
        half = 0.5 * float(setpoint.yaw[0])
        heading = np.array([[math.cos(half), 0.0, 0.0, math.sin(half)]])
        target = np.concatenate([_raised(setpoint.position)[:1], heading], axis=1)
        if np.isfinite(vehicle).all():
            if not self._trail or np.linalg.norm(vehicle[0, :3] - self._trail[-1]) > _SPACING:
                self._trail.append(vehicle[0, :3].copy())
            middle = 0.5 * (vehicle[0, :3] + target[0, :3])
            apart = float(np.linalg.norm(vehicle[0, :3] - target[0, :3]))
            self._center = self._center + _EASE * (middle - self._center)
            self._distance += _EASE * (_NEAREST + 0.9 * apart - self._distance)
        else:
            vehicle = UNSEEN  # a flight whose numbers have overflowed is over
        poses = {"quadrotor": vehicle, "set-point": target}
        for k in range(_DOTS):
            pose = UNSEEN.copy()
            if k < len(self._trail):
                pose[0, :3] = self._trail[k]
            poses[f"trail.{k}"] = pose
        self.engine.place(_ONLY, Placement(joints={}, poses=poses))

    def camera(self) -> Camera:
        """Follows the vehicle and its set-point."""
        position = self._center + self._distance * np.array([0.76, 0.40, 0.51])
        return Camera(
            name="overview",
            position=tuple(position.tolist()),
            target=tuple(self._center.tolist()),
            field_of_view=0.85,
            width=640,
            height=480,
        )


def quadrotor_scene(rotor_positions: np.ndarray) -> Scene:
    """A scene without arms: the vehicle, its set-point and the dots of its trail.

    Args:
        rotor_positions: Shape (4, 3), m, body frame; x is forward.
    """
    dot = Shape(kind="sphere", size=(0.007,), color=(0.15, 0.45, 0.85, 0.8), collides=False)
    ball = Shape(kind="sphere", size=(0.03,), color=(0.1, 0.75, 0.3, 0.4), collides=False)
    bodies = [
        Body(name="quadrotor", motion="placed", shapes=tuple(_vehicle(SCALE * rotor_positions))),
        Body(name="set-point", motion="placed", shapes=(*axes(0.11, 0.003), ball)),
        *(Body(name=f"trail.{k}", motion="placed", shapes=(dot,)) for k in range(_DOTS)),
    ]
    return Scene(arms=(), bodies=tuple(bodies), table=False)


def _vehicle(rotors: np.ndarray) -> list[Shape]:
    reach = float(np.linalg.norm(rotors[:, :2], axis=1).mean())
    shapes = [
        _box((0.42 * reach, 0.34 * reach, 0.05 * reach), (0.0, 0.0, 0.0), _BOARD),
        _box((0.36 * reach, 0.24 * reach, 0.09 * reach), (0.0, 0.0, 0.13 * reach), _METAL),
        _box((0.14 * reach, 0.2 * reach, 0.05 * reach), (0.52 * reach, 0.0, 0.0), _FRONT),
    ]
    for x, y, z in rotors.tolist():
        color = _FRONT if x > 0.0 else _REAR
        half = 0.5 * math.atan2(y, x)
        along = 0.5 * math.hypot(x, y)
        turn = (math.cos(half), 0.0, 0.0, math.sin(half))
        shapes += [
            _box((along, 0.07 * reach, 0.04 * reach), (0.5 * x, 0.5 * y, 0.5 * z), _BOARD, turn),
            _disc(0.1 * reach, 0.16 * reach, (x, y, z + 0.08 * reach), _METAL),
            _disc(0.57 * reach, 0.012 * reach, (x, y, z + 0.26 * reach), (*color[:3], _GLASS)),
            _box((0.55 * reach, 0.045 * reach, 0.02 * reach), (x, y, z + 0.27 * reach), color, turn),
        ]
    return shapes


def _box(
    size: tuple[float, float, float],
    position: tuple[float, float, float],
    color: Color,
    orientation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
) -> Shape:
    return Shape(kind="box", size=size, position=position, orientation=orientation, color=color, collides=False)


def _disc(radius: float, half_height: float, position: tuple[float, float, float], color: Color) -> Shape:
    return Shape(kind="cylinder", size=(radius, half_height), position=position, color=color, collides=False)


def _raised(positions: Tensor) -> np.ndarray:
    raised = positions.detach().cpu().numpy().astype(float)
    raised[..., 2] += LIFT
    return raised
