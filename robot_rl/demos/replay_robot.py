"""Replaying on a robot: what was recorded goes the way of a person's commands, and what guards those guards it.

The robot is led slowly to the first pose, or refused where that is far; then the recorded actions are sent as twists at
a share of their speed, with a slow pull towards the recorded way, since twists alone drift. Who strays from that way is
stopped. Any end, Ctrl-C too, ends with a twist of zeros and a dead-man that is let go.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hardware.teleop.clutch import limited, twist_towards
from policies import rotation
from policies.actions import ActionConfig, to_command
from policies.types import CartesianTwist
from robot_rl.demos.configs import ReplayConfig
from robot_rl.demos.dataset import Demonstration
from robot_rl.demos.links import RobotLink, open_link
from robot_rl.errors import UserError

NEAR = 0.005
"""m from the first pose at which the approach ends; its angle is ten times that in rad."""
SEND_PERIOD = 0.05
"""s between two commands at most: a supervisor takes older ones for a person that has gone."""
PULL_TIME = 1.0
"""s in which a deviation from the recorded way fades."""
TURN = 0.3
"""rad/s, of the approach."""
PATIENCE = 3.0
"""How many times as long as needed an approach may take."""


@dataclass(frozen=True, kw_only=True)
class RobotReplay:
    """What became of an episode on a robot."""

    name: str
    """Of the episode."""
    steps: int
    """That were sent."""
    largest_deviation: float
    """m between the tool and where it was in the recording, at any step."""
    final_deviation: float
    """m at the end."""


def run_on_robot(demonstrations: Sequence[Demonstration], config: ReplayConfig) -> int:
    """Replay one episode on the robot that the config names."""
    if len(demonstrations) != 1:
        raise UserError(f"{len(demonstrations)} episodes; a robot replays one at a time: give --episode")
    if not (0.0 < config.speed <= 1.0):
        raise UserError(f"--speed is {config.speed}; expected a share of the recorded speed, above 0, at most 1")
    link = open_link(config, demonstrations[0].episode.schema.robot)
    try:
        done = replay_on(link, demonstrations[0], config)
    finally:
        link.close()
    if config.json:
        sys.stdout.write(json.dumps([done.__dict__], indent=2) + "\n")
    else:
        sys.stdout.write(
            f"{done.name}: {done.steps} steps; at most {1e3 * done.largest_deviation:.0f} mm beside the recorded way,"
            f" {1e3 * done.final_deviation:.0f} mm at the end\n"
        )
    return 0


def replay_on(
    link: RobotLink,
    one: Demonstration,
    config: ReplayConfig,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RobotReplay:
    """Lead the robot to the first pose, then send the recorded actions.

    Raises:
        UserError: The recording lacks what is needed, the robot is too far, does not move, or strays.
    """
    poses, commands = recorded_poses(one), recorded_commands(one)
    pieces = max(1, math.ceil(one.period / config.speed / SEND_PERIOD))
    piece = one.period / config.speed / pieces
    largest = 0.0
    try:
        _approach(link, poses[0], float(np.asarray(commands[0].gripper)), config, sleep, clock)
        due = clock()
        for index, command in enumerate(commands):
            following = poses[min(index + 1, len(poses) - 1)]
            for number in range(pieces):
                tool = link.pose()
                wanted = poses[index] + number / pieces * (following - poses[index])
                away = _distance(tool, wanted)
                largest = max(largest, away)
                if away > config.stray:
                    raise UserError(
                        f"the robot is {1e3 * away:.0f} mm beside the recorded way at step {index}; --stray allows"
                        f" {1e3 * config.stray:.0f} mm: it was stopped"
                    )
                _check(link)
                twist = config.speed * _in_base(command, tool) + _pull(tool, wanted)
                link.send(twist, float(np.asarray(command.gripper)), piece)
                due += piece
                sleep(max(0.0, due - clock()))
        final = _distance(link.pose(), poses[-1])
    finally:
        link.stop()
    return RobotReplay(name=one.name, steps=len(commands), largest_deviation=largest, final_deviation=final)


def _in_base(command: CartesianTwist, tool: np.ndarray) -> np.ndarray:
    twist = np.asarray(command.values, np.float64)
    if command.frame == "base":
        return twist
    return np.concatenate([rotation.rotate(tool[3:], twist[:3]), rotation.rotate(tool[3:], twist[3:])])


def _pull(tool: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    wanted = np.concatenate([wanted[:3], wanted[3:] / np.linalg.norm(wanted[3:])])
    return np.asarray(twist_towards(tool, wanted, PULL_TIME), np.float64)


def recorded_poses(one: Demonstration) -> np.ndarray:
    """Poses (T, 7) of the tool at the steps: the newest that was measured until then.

    Raises:
        UserError: The recording has none, or old ones only.
    """
    from robot_rl.recording import steps

    if one.recording is None or not len(one.recording.streams.get("tool_pose", ())):
        raise UserError(f"{one.name} has no stream tool_pose, so that nobody can lead a robot to its first pose")
    stream = one.recording.streams["tool_pose"]
    when = one.recording.stream(steps.TOPIC).measured[: len(one.episode)]
    order = np.argsort(stream.measured, kind="stable")
    place = np.searchsorted(stream.measured[order], when + 1e-6, side="right") - 1
    age = when - stream.measured[order][np.maximum(place, 0)]
    if (place < 0).any() or age.max() > 2.0 * one.period:
        step = int(np.argmax((place < 0) | (age > 2.0 * one.period)))
        raise UserError(f"{one.name}: no tool_pose was measured shortly before step {step}")
    poses = stream.values("pose")[order][place]
    # Both signs of a quaternion are one rotation; neighbours get the same.
    flips = np.cumprod(np.where((poses[1:, 3:] * poses[:-1, 3:]).sum(axis=1) < 0.0, -1.0, 1.0))
    poses[1:, 3:] *= flips[:, None]
    return np.asarray(poses)


def recorded_commands(one: Demonstration) -> list[CartesianTwist]:
    """The twists that the recorded actions stand for.

    Raises:
        UserError: They are no twists of one arm.
    """
    action = one.info.get("action")
    if not isinstance(action, dict) or action.get("name") != "cartesian_twist":
        raise UserError(f"{one.name} does not say that its actions are twists; only those are replayed on a robot")
    config = ActionConfig(name="cartesian_twist", parameters=dict(action.get("parameters", {})))
    commands = [to_command(config, values.astype(np.float64)) for values in one.episode.actions]
    if not isinstance(commands[0], CartesianTwist):
        raise UserError(f"{one.name} moves {len(commands[0])} arms; a robot with one can be driven")
    return commands


def _approach(
    link: RobotLink,
    goal: np.ndarray,
    gripper: float,
    config: ReplayConfig,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> None:
    away, turn = _distance(link.pose(), goal), _angle(link.pose(), goal)
    if away > config.reach:
        raise UserError(
            f"the tool is {away:.2f} m from the first pose of the recording; --reach allows {config.reach:g} m:"
            " move it nearer first"
        )
    end = clock() + 2.0 + PATIENCE * max(away / config.approach, turn / TURN)
    while _distance(link.pose(), goal) > NEAR or _angle(link.pose(), goal) > 10.0 * NEAR:
        _check(link)
        if clock() > end:
            raise UserError(
                f"the tool is still {1e3 * _distance(link.pose(), goal):.0f} mm from the first pose: something is in"
                " its way, or it is not allowed there"
            )
        twist = limited(twist_towards(link.pose(), goal, 4.0 * SEND_PERIOD), config.approach, TURN)
        link.send(np.asarray(twist, np.float64), gripper, SEND_PERIOD)
        sleep(SEND_PERIOD)


def _check(link: RobotLink) -> None:
    if refusal := link.refusal():
        raise UserError(f"the robot does not move: {refusal}")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:3] - b[:3]))


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * math.acos(min(1.0, abs(float(np.dot(a[3:], b[3:])))))
