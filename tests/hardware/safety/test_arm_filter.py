"""The last thing before the driver: what leaves it, whatever goes in."""

import math

import numpy as np
import pytest

from hardware.controllers.arm import ArmController
from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample
from hardware.dynamics import bias_torques, gravity_torques, mass_matrix
from hardware.kinematics import forward_kinematics
from hardware.safety import arm_filter
from hardware.safety.arm_envelope import ArmEnvelope, joint_envelope
from hardware.safety.arm_filter import ArmFilter, ArmFilterConfig
from policies.types import CartesianTwist, JointPositions, JointTorques

RATE = 500.0


def sample_at(q, qd=None, stamp=0.0):
    return ArmSample(stamp=stamp, joint_positions=q, joint_velocities=np.zeros_like(q) if qd is None else qd)


def ready(description, **settings):
    filtered = ArmFilter(description, rate_hz=RATE, config=ArmFilterConfig(**settings))
    filtered.reset(sample_at(description.home))
    return filtered


class SimulatedArm:
    """The description's own dynamics, gravity compensated, as the robot's torque interface is."""

    def __init__(self, description, q):
        self.description, self.q, self.qd = description, q.copy(), np.zeros_like(q)

    def advance(self, torques, dt=1.0 / RATE):
        d = self.description
        bias = bias_torques(d, self.q, self.qd) - gravity_torques(d, self.q)
        friction = d.joint_damping * self.qd + d.joint_friction * np.tanh(self.qd / 0.02)
        self.qd = self.qd + dt * np.linalg.solve(mass_matrix(d, self.q), torques - bias - friction)
        self.q = self.q + dt * self.qd


@pytest.mark.parametrize("name", ["panda", "ur5e", "xarm7"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_constant_full_torque_into_the_limits_never_crosses_them(name, sign):
    description = load_arm(name)
    lower, upper = np.array(description.interface.limits["position"]).T
    speed = np.array(description.interface.limits["velocity"])[:, 1]
    torque = sign * np.array(description.interface.limits["torque"])[:, 1]
    start = np.clip(description.home + sign * 0.3, lower + 0.1, upper - 0.1)
    arm, last = SimulatedArm(description, start), ArmFilter(description, rate_hz=RATE)
    last.reset(sample_at(start))
    for k in range(700):
        now = k / RATE
        arm.advance(last.apply(JointTorques(torque, 0.0), sample_at(arm.q, arm.qd, now), now).command.values)
        assert np.all(arm.q > lower) and np.all(arm.q < upper)
        assert np.all(np.abs(arm.qd) < speed)
    assert last.interventions["joint_limit"] > 100
    assert "N m would leave" in last.explain or last.explain.startswith("torque_rate")


@pytest.mark.parametrize("name", ["panda", "xarm7"])
def test_full_torques_that_change_their_signs_keep_the_velocity_limits(name):
    """Spinning and folding: what one joint does to another by Coriolis torques, and by taking the torques' rate."""
    description, rng = load_arm(name), np.random.default_rng(0)
    lower, upper = np.array(description.interface.limits["position"]).T
    speed, full = (np.array(description.interface.limits[key])[:, 1] for key in ("velocity", "torque"))
    fastest = np.zeros(description.num_joints)
    for _ in range(3):
        signs = rng.choice([-1.0, 1.0], description.num_joints)
        start = np.clip(description.home + rng.uniform(-0.5, 0.5, len(full)), lower + 0.1, upper - 0.1)
        arm, last = SimulatedArm(description, start), ArmFilter(description, rate_hz=RATE)
        last.reset(sample_at(start))
        for k in range(250):
            now = k / RATE
            if k % int(rng.integers(20, 200)) == 0:
                signs = rng.choice([-1.0, 1.0], description.num_joints)
            arm.advance(last.apply(JointTorques(signs * full, 0.0), sample_at(arm.q, arm.qd, now), now).command.values)
            fastest = np.maximum(fastest, np.abs(arm.qd) / speed)
            assert np.all(arm.q > lower) and np.all(arm.q < upper)
    assert fastest.max() > 0.6
    assert fastest.max() < 1.0, fastest


def test_another_joint_that_wants_all_the_rate_does_not_delay_braking():
    panda = load_arm("panda")
    last = ready(panda)
    q, fast = panda.home, np.array([0.0, 0, 0, 0, 0, 2.3, 0])
    for k in range(6):  # 10 N m on joint 6
        last.apply(JointTorques(np.eye(7)[5] * 10.0, 0.0), sample_at(q, stamp=k / RATE), k / RATE)
    command = np.array([-87.0, 0, 0, 0, 0, 10.0, 0])
    before = last.apply(JointTorques(np.eye(7)[5] * 10.0, 0.0), sample_at(q, stamp=6 / RATE), 6 / RATE).command.values
    after = last.apply(JointTorques(command, 0.0), sample_at(q, fast, 7 / RATE), 7 / RATE).command.values
    assert np.abs(after - before).max() == pytest.approx(2.0)  # the whole rate, 1000 N m/s
    assert before[5] - after[5] > 1.5  # joint 4, which it leans on, changes as much
    assert abs(after[0]) < 0.5


def test_ordinary_control_passes_unchanged():
    panda = load_arm("panda")
    arm, last, controller = SimulatedArm(panda, panda.home), ready(panda), ArmController(panda)
    kinematics = forward_kinematics(panda, arm.q)
    controller.reset(kinematics, arm.q)
    start = kinematics.tool_position
    for k in range(400):
        now = k / RATE
        kinematics = forward_kinematics(panda, arm.q)
        if k % 50 == 0:
            twist = np.array([0.15, 0.1, -0.1, 0.0, 0.0, 0.2]) * (1.0 if k < 200 else -1.0)
            controller.command(CartesianTwist(twist, "base", np.array(0.0)), kinematics, arm.q, 0.1)
        torques = controller.torques(kinematics, arm.q, arm.qd, 1.0 / RATE)
        result = last.apply(JointTorques(torques, 0.0), sample_at(arm.q, arm.qd, now), now)
        assert not result.changed, result.explain
        assert np.array_equal(result.command.values, torques)
        arm.advance(torques)
        if k == 200:
            assert np.linalg.norm(kinematics.tool_position - start) > 0.04


def garbage(rng, count):
    """Anything that a broken program may send."""
    kind = rng.integers(0, 9)
    values = rng.normal(size=count) * 10.0 ** rng.integers(-3, 6)
    gripper = rng.normal()
    if kind == 0:
        values[rng.integers(count)] = rng.choice([math.nan, math.inf, -math.inf])
    elif kind == 1:
        values = np.full(count, rng.choice([1e308, -1e308, math.nan]))
    elif kind == 2:
        values = values[: rng.integers(0, count)]
    elif kind == 3:
        values = np.zeros((2, count))
    elif kind == 4:
        values = "torques"
    elif kind == 5:
        gripper = rng.choice([math.nan, math.inf, 3.0])
    elif kind == 6:
        values = rng.permutation(values).tolist()
    elif kind == 7:
        values = None
    return values, gripper


@pytest.mark.parametrize("type_", [JointTorques, JointPositions])
@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_nothing_outside_the_limits_leaves_whatever_goes_in(type_, name):
    description = load_arm(name)
    limits = joint_envelope(description, ArmEnvelope())
    last, rng, count = ready(description), np.random.default_rng(5), description.num_joints
    sent = [description.home] * 3 if type_ is JointPositions else [np.zeros(count)] * 2
    for k in range(700):
        now = k / RATE
        values, gripper = garbage(rng, count)
        q, qd = rng.uniform(limits.lower, limits.upper), rng.normal(size=count) * 3.0
        if k % 17 == 0:
            q = q * math.nan
        if k % 23 == 0:
            qd = qd[:-1]
        stamp = now - rng.choice([0.0, 0.0, 0.05, 0.3, math.nan, -10.0])
        result = last.apply(type_(values, gripper), sample_at(q, qd, stamp), now)
        assert type(result.command) is type_
        assert result.command.values.shape == (count,)
        assert -1.0 <= result.command.gripper <= 1.0
        sent.append(result.command.values)
    sent = np.array(sent)
    assert np.all(np.isfinite(sent))
    rate = np.diff(sent, axis=0) * RATE
    if type_ is JointTorques:
        assert np.all(np.abs(sent) <= limits.torque)
        assert np.all(np.abs(rate) <= limits.torque_rate * (1.0 + 1e-9))
        expected = ("not_finite", "shape", "stale_state", "torque_rate", "gripper", "joint_limit", "torque")
    else:
        assert np.all((sent >= limits.lower) & (sent <= limits.upper))
        assert np.all(np.abs(rate) <= limits.velocity * (1.0 + 2e-6))
        acceleration = np.diff(rate, axis=0) * RATE
        assert np.all(np.abs(acceleration) <= limits.acceleration * (1.0 + 2e-6))
        assert np.all(np.abs(np.diff(acceleration, axis=0) * RATE) <= limits.jerk * (1.0 + 2e-6))
        expected = ("not_finite", "shape", "stale_state", "gripper", "velocity")
    assert all(last.interventions[name] > 0 for name in expected), last.interventions


def test_torques_fade_while_the_state_gets_old():
    panda = load_arm("panda")
    last, torques = ready(panda), np.full(7, 1.0)
    norms = [np.max(last.apply(JointTorques(torques, 0.0), sample_at(panda.home), k / RATE).command.values)
             for k in range(80)]  # fmt: skip
    assert norms[5] == 1.0
    assert norms[30] == pytest.approx(0.5, abs=0.01)  # 60 ms, half way from 20 to 100 ms
    assert norms[50:] == [0.0] * 30
    assert "stale_state" in last.explain and "158 ms" in last.explain


def test_positions_come_to_rest_when_the_state_is_old():
    panda = load_arm("panda")
    last = ready(panda)
    far = JointPositions(panda.home + 0.4, 0.0)
    moving = [last.apply(far, sample_at(panda.home, stamp=k / RATE), k / RATE).command.values for k in range(40)]
    assert np.all(moving[-1] - moving[-2] > 0.0)
    old = [last.apply(far, sample_at(panda.home), 1.0 + k / RATE).command.values for k in range(200)]
    assert np.array_equal(old[-1], old[-2])
    assert np.all(np.abs(old[-1] - panda.home) < 0.4)


def test_explanations_name_joint_value_and_limit():
    panda = load_arm("panda")
    last = ready(panda)
    last.apply(JointTorques(np.array([0, 0, math.nan, 0, 0, 0, 0]), 0.0), sample_at(panda.home), 0.0)
    assert last.explain == "not_finite: joint3: nan"
    last.apply(JointTorques(np.array([0, 0, 0, 0, 0, 0, 5.0]), 0.0), sample_at(panda.home), 0.0)
    assert last.explain == "torque_rate: joint7: 2500 N m/s (limit 1000 N m/s)"
    with pytest.raises(RuntimeError, match="call reset"):
        ArmFilter(panda).apply(JointTorques(np.zeros(7), 0.0), sample_at(panda.home), 0.0)
    assert last.apply(CartesianTwist(np.zeros(6), "base", 0.0), sample_at(panda.home), 0.0).changed
    assert last.explain.startswith("type: a command of type CartesianTwist")


def test_heavy_work_is_never_older_than_its_period_and_shares_no_tick(monkeypatch):
    done = {"inertia": [], "coriolis": []}
    tick = 0

    def counted(name, function):
        return lambda *arguments: done[name].append(tick) or function(*arguments)

    monkeypatch.setattr(arm_filter, "mass_matrix", counted("inertia", mass_matrix))
    monkeypatch.setattr(arm_filter, "bias_torques", counted("coriolis", bias_torques))
    panda = load_arm("panda")
    filtered, fast = ready(panda), 0.5 * joint_envelope(panda, ArmEnvelope()).velocity
    done["inertia"].clear()
    for tick in range(500):
        filtered.apply(
            JointTorques(np.zeros(7), 0.0), sample_at(panda.home, fast, tick / RATE), tick / RATE, busy=tick % 5 == 0
        )
    for name, period in (("inertia", 10), ("coriolis", 5)):
        assert done[name][0] == 0
        assert np.diff(done[name]).max() <= period
        assert np.mean(np.diff(done[name])) > period - 1.5
    later = [set(done[name][3:]) for name in done]
    assert not later[0] & later[1]
    assert not any(when % 5 == 0 for ticks in later for when in ticks)
