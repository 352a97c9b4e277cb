"""The safety filter leaves ordinary operation alone: shipped policies in the control loop, without processes."""

import numpy as np
import pytest

import policies
from hardware.controllers.joint_position import symmetric_limit
from hardware.drivers.driver import ArmSample
from hardware.kinematics import forward_kinematics
from hardware.safety.arm import blended
from hardware.safety.arm_filter import ArmFilter
from policies.bundle import list_zoo
from policies.types import ArmSetpoint, ArmState
from robot_rl.planes.arm_output import TorqueOutput
from robot_rl.planes.settings import SceneConfig
from robot_rl.planes.simulated_scene import SimulatedScene

SHIPPED = [name for name in list_zoo() if name.startswith("arm-")]
_STARTS = 10
_QUIET = {"arm-reach": 7}
"""Starts other than the first: elsewhere `arm-reach` turns the wrist at full torque to 0.8 of its velocity limit."""


class Episode:
    """A policy, its controller and the filter at every tick, as the control process has them."""

    def __init__(self, name):
        self.policy = policies.load(name)
        self.scene = SimulatedScene(SceneConfig(task=self.policy.manifest.task, starts=_STARTS, seed=0))
        self.description, self.dt = self.scene.description, self.scene.timestep
        self.fastest, self.ticks, self.won = 0.0, 0, False

    def run(self, start):
        scene, dt = self.scene, self.dt
        scene.place(start)
        self.policy.reset()
        output, self.filter = (
            TorqueOutput(self.description, scene.task.controller),
            ArmFilter(self.description, rate_hz=1 / dt),
        )
        speed = symmetric_limit(self.description, "velocity")
        every = round(scene.judging_period / dt)
        period = every * dt
        for tick in range(round(scene.episode_length / dt)):
            now, sensed = tick * dt, scene.sensors()
            wrench = sensed.pop("wrench")
            sample = ArmSample(stamp=now, wrench=wrench, **sensed)
            kinematics = forward_kinematics(self.description, sample.joint_positions)
            if tick == 0:
                self.filter.reset(sample)
                output.hold(sample, kinematics)
            if tick % every == 0:
                if tick and (self.won or scene.judge(now, 0.0)[0]):
                    self.won = True
                    break
                command = blended(self._command(sample, kinematics), min(1.0, now / 0.5), sample.joint_positions)
                output.follow(command, sample, kinematics, period)
            wanted = output.step(sample, kinematics, dt)
            sent = self.filter.apply(wanted, sample, now)
            share = np.max(np.abs(sample.joint_velocities) / speed)
            self.fastest = max(self.fastest, share)
            if not sent.changed:
                assert np.array_equal(sent.command.values, wanted.values)
            width = 0.5 * self.description.gripper.max_width * (sent.command.gripper + 1.0)
            scene.engine.substep({scene.arm: sent.command.values[None]}, {scene.arm: np.array([width])})
            self.ticks += 1
        return self.filter.interventions

    def _command(self, sample, kinematics):
        state = ArmState(
            joint_positions=sample.joint_positions.astype(np.float32),
            joint_velocities=sample.joint_velocities.astype(np.float32),
            tool_pose=np.concatenate([kinematics.tool_position, kinematics.tool_orientation]).astype(np.float32),
            tool_twist=(kinematics.jacobian @ sample.joint_velocities).astype(np.float32),
            gripper_width=np.float32(sample.gripper_width),
            joint_torques=np.zeros(7, np.float32),
            wrench=sample.wrench.astype(np.float32),
            objects={name: pose.astype(np.float32) for name, pose in self.scene.objects().items()},
        )
        goal = self.scene.goal
        return self.policy.step(state, ArmSetpoint(tool_pose=None if goal is None else goal.astype(np.float32)))


@pytest.mark.parametrize("name", SHIPPED)
def test_an_ordinary_episode_passes_unchanged(name):
    episode = Episode(name)
    try:
        interventions = episode.run(_QUIET.get(name, 0))
    finally:
        episode.scene.close()
    assert episode.won, f"{name} did not win within {episode.ticks} ticks"
    assert episode.fastest > 0.1, "the arm hardly moved"
    assert not any(interventions.values()), {k: v for k, v in interventions.items() if v}


def test_a_wrist_at_full_torque_is_touched_only_near_its_velocity_limit():
    episode = Episode("arm-reach")
    try:
        interventions = episode.run(2)
    finally:
        episode.scene.close()
    # 0.84 of the velocity limit where the envelope has 0.9.
    assert episode.fastest < 0.9
    assert interventions["joint_limit"] <= 0.05 * episode.ticks
    assert interventions["torque_rate"] <= 0.08 * episode.ticks
