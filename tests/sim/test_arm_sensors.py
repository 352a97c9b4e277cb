"""What a policy is told: every variable of the sensors shows where it should, and nowhere else."""

import dataclasses

import numpy as np
import pytest
import torch

import sim
from hardware.controllers.arm import ArmController
from hardware.descriptions import load_arm
from hardware.kinematics import forward_kinematics
from policies import rotation
from policies.types import ArmState
from sim.adr import AutomaticRandomization
from sim.arm_environment import ArmEnv
from sim.arm_randomization import nominal_variables
from sim.arm_sensors import OBJECT_VARIABLES, arm_sensor_variables, disturb, hold_lost, measure, noise_size
from sim.randomization import RandomizationTerm
from sim.scene import Scene
from sim.tasks import find_task

COUNT = 500
PANDA = load_arm("panda")
HOME = np.array(PANDA.home)
SHOWS_IN = {
    "joint_position_noise": {"joint_positions", "tool_pose"},
    "joint_position_bias": {"joint_positions", "tool_pose"},
    "joint_position_drift": {"joint_positions", "tool_pose"},
    "joint_velocity_noise": {"joint_velocities", "tool_twist"},
    "object_position_noise": {"objects"},
    "object_position_bias": {"objects"},
    "object_position_drift": {"objects"},
    "object_rotation_noise": {"objects"},
    "object_rotation_bias": {"objects"},
    "object_rotation_drift": {"objects"},
    "wrench_noise": {"wrench"},
    "wrench_bias": {"wrench"},
    "wrench_drift": {"wrench"},
}


def truth():
    kinematics = forward_kinematics(PANDA, HOME)

    def many(array):
        return torch.tensor(np.asarray(array), dtype=torch.float32).expand(COUNT, *np.shape(array))

    pose = many(np.concatenate([kinematics.tool_position, kinematics.tool_orientation]))
    state = ArmState(
        joint_positions=many(HOME), joint_velocities=many(np.zeros(7)), tool_pose=pose, tool_twist=many(np.zeros(6)),
        gripper_width=many(0.04), wrench=many(np.zeros(6)),
        objects={name: many([x, 0.1, 0.02, 1.0, 0.0, 0.0, 0.0]) for name, x in (("a", 0.5), ("b", 0.4))},
    )  # fmt: skip
    return state, many(kinematics.jacobian)


def values(**changed):
    nominal = {name: value.expand(COUNT, -1) for name, value in nominal_variables(Scene()).items()}
    assert set(changed) <= set(nominal)
    return {**nominal, **{name: torch.as_tensor(v) * torch.ones_like(nominal[name]) for name, v in changed.items()}}


def measured(seed=0, **changed):
    state, jacobian = truth()
    white = torch.randn(COUNT, noise_size(7, 2), generator=torch.Generator().manual_seed(seed))
    return measure(state, jacobian, values(**changed), white)


def parts(state):
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    fields["objects"] = torch.cat(list(state.objects.values()), dim=-1)
    return {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}


def test_perfect_sensors_tell_the_truth_to_the_bit():
    true, said = parts(truth()[0]), parts(measured())
    assert all(torch.equal(true[name], said[name]) for name in true)


@pytest.mark.parametrize("name", SHOWS_IN)
def test_every_variable_shows_where_it_should_and_nowhere_else(name):
    true, said = parts(truth()[0]), parts(measured(**{name: 0.01}))
    assert {field for field in true if not torch.equal(true[field], said[field])} == SHOWS_IN[name]


def test_every_variable_is_tested():
    losses = {"object_loss", "state_loss"}
    assert set(SHOWS_IN) | losses == set(OBJECT_VARIABLES) | set(arm_sensor_variables(7))


def test_noise_is_white_and_bias_the_same_for_all_samples():
    said = measured(joint_position_noise=0.01, joint_velocity_noise=0.1, wrench_noise=torch.tensor([2.0, 0.1]))
    noise = said.joint_positions - torch.tensor(HOME, dtype=torch.float32)
    assert float(noise.std()) == pytest.approx(0.01, rel=0.05)
    assert np.abs(np.corrcoef(noise.T.numpy()) - np.eye(7)).max() < 0.2
    assert float(said.joint_velocities.std()) == pytest.approx(0.1, rel=0.05)
    assert float(said.wrench[:, :3].std()) == pytest.approx(2.0, rel=0.08)
    assert float(said.wrench[:, 3:].std()) == pytest.approx(0.1, rel=0.08)
    off = measured(joint_position_bias=0.003, joint_position_drift=0.002).joint_positions
    np.testing.assert_allclose(off - torch.tensor(HOME, dtype=torch.float32), 0.005, atol=1e-6)


def test_an_encoder_error_moves_the_tool_as_forward_kinematics_says():
    bias = torch.linspace(-0.002, 0.002, 7)
    said = measured(joint_position_bias=bias)
    expected = forward_kinematics(PANDA, HOME + bias.numpy())
    np.testing.assert_allclose(said.tool_pose[0, :3], expected.tool_position, atol=1e-5)
    turn = rotation.multiply(
        said.tool_pose[0, 3:], rotation.conjugate(torch.tensor(expected.tool_orientation, dtype=torch.float32))
    )
    assert float(turn[1:].norm()) < 1e-5


def test_objects_share_the_camera_s_error_and_have_noise_of_their_own():
    said = measured(object_position_bias=0.01, object_position_noise=0.002)
    true = truth()[0]
    a, b = (said.objects[name][:, :3] - true.objects[name][:, :3] for name in ("a", "b"))
    np.testing.assert_allclose([a.mean(), b.mean()], 0.01, atol=3e-4)
    assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) < 0.15


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_lost_frames_repeat_the_one_before(probability):
    before, now = measured(seed=1, joint_position_noise=0.1, object_position_noise=0.1), truth()[0]
    uniform = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(2))
    fresh = torch.arange(COUNT) < 50
    said = hold_lost(now, before, values(state_loss=probability, object_loss=probability), fresh, uniform)
    held = {
        "arm": (said.joint_positions == before.joint_positions).all(-1),
        "a": (said.objects["a"] == before.objects["a"]).all(-1),
        "b": (said.objects["b"] == before.objects["b"]).all(-1),
    }
    for lost in held.values():
        assert not lost[:50].any()  # an episode begins with a frame
        assert float(lost[50:].float().mean()) == pytest.approx(probability, abs=0.08)
    assert torch.equal(said.joint_positions[~held["arm"]], now.joint_positions[~held["arm"]])
    if probability == 0.3:
        assert not torch.equal(held["a"], held["b"])
    # The whole state is of one instant.
    assert torch.equal(said.tool_pose[held["arm"]], before.tool_pose[held["arm"]])


def test_a_signal_takes_factor_and_offset():
    made = {"action_offset": 0.1, "action_bias": 0.2, "action_scale": 2.0, "action_scale_bias": -0.5}
    tensors = {name: torch.full((4, 3), value) for name, value in made.items()}
    np.testing.assert_allclose(disturb(torch.ones(4, 3), tensors, "action"), 1.5 + 0.3, rtol=1e-6)


# In the environment

LOOP = {
    "action_latency": 0.05, "observation_latency": 0.05, "motor_strength": 0.5, "gain_stiffness": 0.5,
    "gain_damping": 2.0, "state_loss": 1.0, "joint_position_drift": 0.01,
    "observation_offset": 0.1, "observation_bias": 0.1, "observation_scale": 1.1, "observation_scale_bias": 0.1,
    "action_offset": 0.1, "action_bias": 0.1, "action_scale": 0.5, "action_scale_bias": 0.2,
}  # fmt: skip
"""Values off the nominal ones, one for each environment; one more environment keeps all nominal."""


class OneEach(AutomaticRandomization):
    """Gives each environment one variable off its nominal value."""

    names, ranges, limits = tuple(LOOP), {}, {}

    def __init__(self):
        pass

    def restart(self, seed):
        pass

    def begin(self, mask, randomizer):
        for env, (name, value) in enumerate(LOOP.items()):
            here = mask & (torch.arange(len(mask)) == env)
            randomizer.pin(name, mask, float(randomizer.nominal[name][0]))
            randomizer.pin(name, here, value)

    def report(self, ended, objective, randomizer):
        pass


def test_every_variable_of_loop_and_signals_changes_what_an_environment_returns():
    task, count = find_task("arm-pick-lift"), len(LOOP) + 1
    plain = sim.make("arm-pick-lift", num_envs=count, randomization="none")
    engine = sim.make("arm-pick-lift", num_envs=count, randomization="none").engine
    terms = tuple(RandomizationTerm(parameter=name, low=0.0, high=1.0) for name in LOOP)
    env = ArmEnv(task, engine, randomization=terms, automatic=OneEach())
    actions = 0.5 * torch.cos(torch.arange(count)[:, None] + torch.arange(plain.num_actions))
    seen = []
    for each in (plain, env):
        obs = [each.reset(seed=3)["obs"]]
        obs += [each.step(actions)[0]["obs"] for _ in range(4)]
        seen.append(torch.stack(obs))
    moved = (seen[0] - seen[1]).abs().amax(dim=(0, 2))
    assert float(moved[-1]) < 1e-5  # float32 of gains and factors that are nominal
    for name, difference in zip(LOOP, moved.tolist(), strict=False):
        assert difference > 1e-3, f"{name} does nothing: {difference}"


def test_gains_of_the_controllers_scale_per_environment():
    controller = ArmController(PANDA, batch=(2,))
    kinematics = forward_kinematics(PANDA, np.tile(HOME, (2, 1)))
    controller.reset(kinematics, np.tile(HOME, (2, 1)))
    controller.scale_gains(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    moved = np.tile(HOME, (2, 1)) + 0.001
    torques = controller.torques(forward_kinematics(PANDA, moved), moved, np.zeros((2, 7)), 10.0)
    assert (np.abs(torques[1]) > np.abs(torques[0])).any()
