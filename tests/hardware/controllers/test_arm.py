"""The arm's controller: bounded contact force, ramps, holding, modes, limits, batches."""

import numpy as np
import pytest
import torch

from hardware.controllers.arm import ArmController
from hardware.controllers.arm_config import ArmControllerConfig
from hardware.controllers.cartesian_impedance import ImpedanceGains
from hardware.descriptions import load_arm
from hardware.kinematics import ArmKinematics, forward_kinematics
from policies import rotation
from policies.types import CartesianTwist, JointPositions, JointTorques, MotorSpeeds

PERIOD = 0.1
# N/m and m; another bound for every axis and sign.
LOWER, UPPER = (-0.004, -0.006, -0.01), (0.0075, 0.008, 0.012)
PEG = ArmControllerConfig(
    compliant=ImpedanceGains(clip_lower=(*LOWER, -0.2, -0.2, -0.2), clip_upper=(*UPPER, 0.2, 0.2, 0.2))
)
OPEN = np.array(1.0)


def twist(values, frame="base", gripper=OPEN):
    return CartesianTwist(np.asarray(values, dtype=float), frame, gripper)


def make(walled_arm, panda, config=None, batch=(), dt=0.002):
    arm = walled_arm(panda, batch, dt)
    controller = ArmController(panda, config, batch)
    controller.reset(arm.kinematics, arm.q)
    return arm, controller


def drive(arm, controller, values, periods, frame="base"):
    """Give the same twist again and again; returns everything that happened."""
    steps = []
    for _ in range(periods):
        controller.command(twist(values, frame), arm.kinematics, arm.q, PERIOD)
        steps += arm.run(controller, PERIOD)
    return steps


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_policy_that_dies_while_it_pushes_leaves_exactly_the_bounded_force(walled_arm, panda, axis, sign):
    arm, controller = make(walled_arm, panda, PEG)
    start = arm.kinematics.tool_position
    wall = arm.upper if sign > 0 else arm.lower
    wall[axis] = start[axis] + sign * 0.01
    values = np.zeros(6)
    values[axis] = sign * 0.15
    pushing = drive(arm, controller, values, 13)
    bound = 2000.0 * (UPPER[axis] if sign > 0 else -LOWER[axis])
    # The policy says no more; nothing else happens than ticks of the controller.
    left_alone = list(arm.run(controller, 1.0))
    force = sign * np.array([s.force[axis] for s in left_alone])
    np.testing.assert_allclose(force[-100:], bound, rtol=0.02)
    assert force.max() < 1.05 * bound
    # While the policy still pushed it was no more either, once the impact was over.
    assert max(sign * s.force[axis] for s in pushing[500:]) < 1.1 * bound


def test_free_motion_follows_the_ramp_and_stops_where_the_last_target_is(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    start = arm.kinematics
    values = np.array([0.1, -0.2, 0.1, 0.0, 0.0, 0.4])
    moving = drive(arm, controller, values, 8)
    speed = (moving[-1].position - moving[-51].position) / PERIOD
    np.testing.assert_allclose(speed, values[:3], atol=0.015)
    drive(arm, controller, np.zeros(6), 8)
    now = arm.kinematics
    np.testing.assert_allclose(now.tool_position, controller.target_pose[:3], atol=1e-3)
    turned = rotation.multiply(now.tool_orientation, rotation.conjugate(start.tool_orientation))
    assert 2.0 * np.arcsin(abs(turned[3])) == pytest.approx(0.4 * 0.8, abs=0.03)
    assert np.linalg.norm(turned[1:3]) < 5e-3


@pytest.mark.parametrize("name", ["fr3", "ur5e", "xarm7"])
def test_other_arms_move_to_the_target_with_the_same_gains(walled_arm, name):
    arm, controller = make(walled_arm, load_arm(name))
    start = arm.kinematics.tool_position
    drive(arm, controller, [0.1, 0.1, -0.1, 0.0, 0.0, 0.3], 4)
    drive(arm, controller, np.zeros(6), 5)
    np.testing.assert_allclose(arm.kinematics.tool_position, controller.target_pose[:3], atol=2e-3)
    np.testing.assert_allclose(arm.kinematics.tool_position - start, [0.04, 0.04, -0.04], atol=0.01)
    assert np.linalg.norm((arm.kinematics.jacobian @ arm.qd)[:3]) < 0.02


def test_a_tool_twist_displaces_the_tool_point_itself(walled_arm, panda):
    """A pure rotation in the tool's frame leaves the tool where it is; the adjoint would swing it through the room."""
    arm, controller = make(walled_arm, panda)
    start = arm.kinematics
    drive(arm, controller, [0.0, 0.0, 0.0, 0.0, 0.5, 0.0], 5, frame="tool")
    drive(arm, controller, np.zeros(6), 5, frame="tool")
    now = arm.kinematics
    np.testing.assert_allclose(now.tool_position, start.tool_position, atol=2e-3)
    turned = rotation.multiply(rotation.conjugate(start.tool_orientation), now.tool_orientation)
    # The start from rest lags, and what the measured pose lags is not made up for: 0.25 rad less a little.
    assert 0.2 < 2.0 * turned[2] * np.sign(turned[0]) < 0.25
    assert np.abs(turned[[1, 3]]).max() < 2e-3
    drive(arm, controller, [0.0, 0.0, 0.1, 0.0, 0.0, 0.0], 5, frame="tool")
    approach = rotation.rotate(now.tool_orientation, np.array([0.0, 0.0, 1.0]))
    moved = arm.kinematics.tool_position - now.tool_position
    assert moved @ approach / np.linalg.norm(moved) > 0.995


def test_an_arm_at_rest_does_not_creep_under_a_constant_load(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    start = arm.kinematics.tool_position
    arm.load = np.array([0.0, 0.0, -8.0, 0.5, 0.0, 0.0])
    # Commands that say "stay", again and again, while y moves.
    drive(arm, controller, [0.0, 0.02, 0.0, 0.0, 0.0, 0.0], 8)
    drive(arm, controller, np.zeros(6), 10)
    sag = arm.kinematics.tool_position - start
    assert sag[2] == pytest.approx(-8.0 / 2000.0, rel=0.1)
    assert abs(sag[0]) < 5e-4


def test_a_kept_target_is_pulled_along_when_the_arm_is_carried_away(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    start = arm.kinematics.tool_position
    arm.load = np.array([0.0, 0.0, -100.0, 0.0, 0.0, 12.0])
    for _ in range(3):
        drive(arm, controller, np.zeros(6), 1)
    far = arm.kinematics
    assert start[2] - far.tool_position[2] > 0.05
    controller.command(twist(np.zeros(6)), far, arm.q, PERIOD)
    assert controller.target_pose[2] - far.tool_position[2] == pytest.approx(0.025)


def test_the_workspace_bounds_the_target(walled_arm, panda):
    config = ArmControllerConfig(workspace_lower=(0.3, -0.2, 0.1), workspace_upper=(0.7, 0.2, 0.6))
    arm, controller = make(walled_arm, panda, config)
    steps = drive(arm, controller, [0.0, 0.3, 0.0, 0.0, 0.0, 0.0], 12)
    assert controller.target_pose[1] == 0.2
    assert steps[-1].position[1] == pytest.approx(0.2, abs=2e-3)


def test_the_tool_arrives_slowly_in_a_slow_zone_and_goes_through_it_slowly(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    top = float(arm.kinematics.tool_position[2]) - 0.05
    config = ArmControllerConfig(slow_speed=0.03, slow_upper=(10.0, 10.0, top))
    arm, controller = make(walled_arm, panda, config)
    steps = drive(arm, controller, [0.0, 0.0, -0.2, 0.0, 0.0, 0.0], 12)
    heights = np.array([step.position[2] for step in steps])
    speeds = -np.gradient(heights, 0.002)
    assert speeds.max() > 0.15
    # A compliant arm needs some millimetres to become as slow as its reference.
    assert 0.02 < speeds[heights < top - 0.012].mean() < 0.035
    assert speeds[heights < top - 0.012].max() < 0.06
    before = arm.kinematics.tool_position
    drive(arm, controller, [0.3, 0.0, 0.0, 0.0, 0.0, 0.0], 5)  # sideways too
    assert np.linalg.norm(arm.kinematics.tool_position - before) < 0.5 * 0.035
    drive(arm, controller, [0.0, 0.0, 0.2, 0.0, 0.0, 0.0], 12)  # and out of it
    assert arm.kinematics.tool_position[2] > top


def test_a_slow_zone_has_a_speed():
    with pytest.raises(ValueError, match="slow_speed is -1"):
        ArmControllerConfig(slow_speed=-1.0)
    with pytest.raises(ValueError, match="give its slow_speed"):
        ArmControllerConfig(slow_upper=(1.0, 1.0, 0.1))


def test_gain_sets_and_scales_change_the_stiffness(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    arm.load = np.array([0.0, 0.0, -10.0, 0.0, 0.0, 0.0])
    sags = []
    for gains, scale in (("compliant", 1.0), ("precise", 1.0), ("compliant", 0.5)):
        controller.use(gains)
        controller.scale_gains(scale)
        start = controller.target_pose[2]
        drive(arm, controller, np.zeros(6), 8)
        sags.append(start - arm.kinematics.tool_position[2])
    np.testing.assert_allclose(sags, [0.005, 0.01 / 3.0, 0.01], rtol=0.05)
    with pytest.raises(ValueError, match="'compliant' or 'precise'"):
        controller.use("soft")


def test_joint_positions_arrive_within_the_limits(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    target = panda.home + np.array([0.5, 0.2, -0.4, 0.3, 0.5, 0.4, -0.6])
    controller.command(JointPositions(target, OPEN), arm.kinematics, arm.q, PERIOD)
    fastest = np.zeros(7)
    for _ in arm.run(controller, 1.5):
        fastest = np.maximum(fastest, np.abs(arm.qd))
    np.testing.assert_allclose(arm.q, target, atol=2e-3)
    assert np.all(fastest < np.array(panda.interface.limits["velocity"])[:, 1])
    controller.command(JointPositions(np.full(7, 99.0), OPEN), arm.kinematics, arm.q, PERIOD)
    upper = np.array(panda.interface.limits["position"])[:, 1]
    for _ in arm.run(controller, 2.5):
        assert np.all(arm.q < upper)


def test_joint_torques_pass_and_old_ones_are_given_up(walled_arm, panda):
    arm, controller = make(walled_arm, panda)
    wanted = np.array([3.0, -2.0, 1.0, 2.0, 0.5, -0.5, 0.2])
    controller.command(JointTorques(wanted, OPEN), arm.kinematics, arm.q, PERIOD)
    steps = list(arm.run(controller, 0.2))
    np.testing.assert_allclose(steps[-1].torques, wanted)
    list(arm.run(controller, 0.8))
    held = arm.q.copy()
    list(arm.run(controller, 0.5))
    assert np.abs(arm.qd).max() < 1e-2
    assert np.abs(arm.q - held).max() < 0.05


def test_limits_hold_under_random_commands_of_every_kind(walled_arm, panda):
    rng = np.random.default_rng(7)
    limit = np.array(panda.interface.limits["torque"])[:, 1]
    rate = np.array(panda.interface.limits["torque_rate"])[:, 1]
    arm, controller = make(walled_arm, panda, batch=(4,))
    before = np.zeros((4, 7))
    commands = [
        lambda: twist(rng.normal(size=(4, 6)) * 3.0, rng.choice(["base", "tool"]), rng.uniform(-1, 1, 4)),
        lambda: JointPositions(rng.normal(size=(4, 7)) * 3.0, rng.uniform(-1, 1, 4)),
        lambda: JointTorques(rng.normal(size=(4, 7)) * 500.0, rng.uniform(-1, 1, 4)),
    ]
    for _ in range(30):
        # Measured states that no arm would go through, too.
        q = np.clip(panda.home + rng.normal(size=(4, 7)), -2.5, 2.5)
        controller.command(commands[rng.integers(3)](), forward_kinematics(panda, q), q, PERIOD)
        for _ in range(20):
            q, qd = q + 0.02 * rng.normal(size=(4, 7)), 3.0 * rng.normal(size=(4, 7))
            torques = controller.torques(forward_kinematics(panda, q), q, qd, 0.002)
            assert np.all(np.abs(torques) <= limit)
            assert np.all(np.abs(torques - before) <= rate * 0.002 + 1e-9)
            before = torques


def script(controller, kinematics, qs, qds, convert, batch):
    """The same commands and measurements for any kind of array; yields torques and widths."""
    rng = np.random.default_rng(11)
    kinds = ["base", "tool", "base", "joint", "joint", "torque", "tool", "base"]
    controller.reset(kinematics(qs[0]), qs[0])
    for kind in kinds:
        size = 6 if kind in ("base", "tool") else 7
        values = rng.normal(size=(*batch, size)) * 0.2
        gripper = convert(rng.uniform(-1.0, 1.0, batch))
        if kind in ("base", "tool"):
            values[..., 3:] *= rng.uniform() > 0.5
            values[..., 1] = 0.0
            command = CartesianTwist(convert(values), kind, gripper)
        else:
            command = (JointPositions if kind == "joint" else JointTorques)(convert(values), gripper)
        controller.command(command, kinematics(qs[0]), qs[0], 0.02)
        for q, qd in zip(qs, qds, strict=True):
            yield controller.torques(kinematics(q), q, qd, 0.004), controller.gripper_width(0.004)


def test_batch_single_and_torch_agree(panda):
    batch = (6,)
    rng = np.random.default_rng(12)
    qs = panda.home + 0.1 * np.cumsum(rng.normal(size=(8, 6, 7)), axis=0)
    qds = rng.normal(size=(8, 6, 7))
    expected = list(
        script(ArmController(panda, batch=batch), lambda q: forward_kinematics(panda, q), qs, qds, np.asarray, batch)
    )
    for i in (0, 5):
        singles = script(
            ArmController(panda),
            lambda q: forward_kinematics(panda, q),
            qs[:, i],
            qds[:, i],
            lambda values, i=i: values[i],
            batch,
        )
        for (torques, width), (all_torques, all_widths) in zip(singles, expected, strict=True):
            np.testing.assert_allclose(torques, all_torques[i], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(width, all_widths[i])
    theirs = script(
        ArmController(panda, batch=batch),
        lambda q: forward_kinematics(panda, q),
        torch.from_numpy(qs),
        torch.from_numpy(qds),
        torch.from_numpy,
        batch,
    )
    for (torques, width), (numpy_torques, numpy_width) in zip(theirs, expected, strict=True):
        np.testing.assert_allclose(torques.numpy(), numpy_torques, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(width.numpy(), numpy_width)


@pytest.mark.parametrize("kind", ["cartesian", "joint", "torque"])
def test_a_masked_reset_and_a_masked_command_leave_the_others_alone(panda, kind):
    rng = np.random.default_rng(13)
    q = panda.home + 0.05 * rng.normal(size=(4, 7))
    mask = np.array([False, True, False, True])
    first, second = rng.normal(size=(2, 4, 7)) * 0.2

    def command(values):
        if kind == "cartesian":
            return twist(values[:, :6], gripper=np.full(4, -1.0))
        return {"joint": JointPositions, "torque": JointTorques}[kind](values, np.full(4, -1.0))

    kinematics = forward_kinematics(panda, q)
    outputs = []
    for touched in (False, True):
        controller = ArmController(panda, batch=(4,))
        controller.reset(kinematics, q)
        controller.command(command(first), kinematics, q, PERIOD)
        for _ in range(10):
            controller.torques(kinematics, q, np.zeros((4, 7)), 0.002)
            controller.gripper_width(0.002)
        if touched:
            controller.reset(kinematics, q, mask)
            restarted = controller.torques(kinematics, q, np.zeros((4, 7)), 0.002)
            controller.command(command(second), kinematics, q, PERIOD, mask)
        else:
            controller.torques(kinematics, q, np.zeros((4, 7)), 0.002)
        torques = [controller.torques(kinematics, q, np.zeros((4, 7)), 0.002) for _ in range(80)]
        outputs.append((np.array(torques), controller.gripper_width(0.002)))
    # Reset: at rest where it is measured, the gripper open; only the posture spring may pull.
    assert np.abs(restarted[mask]).max() <= (2.0 if kind == "cartesian" else 1e-9)
    np.testing.assert_array_equal(outputs[0][0][:, ~mask], outputs[1][0][:, ~mask])
    np.testing.assert_array_equal(outputs[0][1][~mask], outputs[1][1][~mask])
    assert np.abs(outputs[0][0][-1, mask] - outputs[1][0][-1, mask]).max() > 1e-3


def test_arrays_that_an_engine_reuses_do_not_move_the_latched_target(panda):
    q = np.broadcast_to(panda.home, (2, 7)).copy()
    kinematics = forward_kinematics(panda, q)
    buffers = ArmKinematics(*(np.array(a) for a in vars(kinematics).values()))
    ours, theirs = ArmController(panda, batch=(2,)), ArmController(panda, batch=(2,))
    for controller, given in ((ours, buffers), (theirs, kinematics)):
        given_q = q.copy()
        controller.reset(given, given_q)
        controller.command(JointPositions(given_q, np.ones(2)), given, given_q, PERIOD)
        given_q += 1.0
    buffers.tool_position[:] += 1.0
    np.testing.assert_array_equal(ours.target_pose, theirs.target_pose)
    result = [c.torques(kinematics, q, np.zeros((2, 7)), 0.002) for c in (ours, theirs)]
    np.testing.assert_allclose(result[0], 0.0, atol=1e-12)
    np.testing.assert_array_equal(*result)


def test_commands_that_are_not_finite_are_refused_and_the_arm_holds(panda):
    q = np.broadcast_to(panda.home, (2, 7))
    kinematics = forward_kinematics(panda, q)
    zero = np.zeros((2, 7))
    for kind, size in ((CartesianTwist, 6), (JointPositions, 7), (JointTorques, 7)):
        controller = ArmController(panda, batch=(2,))
        controller.reset(kinematics, q)
        values = np.zeros((2, size)) if size == 6 else q * 1.0
        values[0, 3] = np.nan
        gripper = np.array([np.nan, -1.0])
        command = kind(values, "base", gripper) if kind is CartesianTwist else kind(values, gripper)
        np.testing.assert_array_equal(controller.command(command, kinematics, q, PERIOD), [True, False])
        for _ in range(50):
            torques = controller.torques(kinematics, q, zero, 0.002)
            width = controller.gripper_width(0.1)
        np.testing.assert_allclose(torques[0], 0.0, atol=1e-9)
        assert width[0] == panda.gripper.max_width
        assert width[1] == 0.0


def test_wrong_use_is_refused(panda):
    controller = ArmController(panda)
    kinematics = forward_kinematics(panda, panda.home)
    controller.reset(kinematics, panda.home)
    with pytest.raises(TypeError, match="MotorSpeeds; an arm takes CartesianTwist, JointPositions, JointTorques"):
        controller.command(MotorSpeeds(np.zeros(4)), kinematics, panda.home, PERIOD)
    with pytest.raises(ValueError, match="posture has 2 angles; 'panda' has 7 joints"):
        ArmController(panda, ArmControllerConfig(posture=(0.0, 1.0)))
