"""The arm's supervisor: a table of faults, each with the sequence of modes, its times, and what is said."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hardware.descriptions import load_arm
from hardware.drivers.driver import ArmSample
from hardware.safety.arm import ArmSupervisor, blended
from hardware.safety.arm_envelope import ArmEnvelope, Box, Rule
from policies.types import CartesianTwist, JointPositions, JointTorques

TICK = 0.002
PANDA = load_arm("panda")
ENVELOPE = ArmEnvelope(
    table_height=0.0,
    workspace=(Box(lower=(0.2, -0.5, -0.2), upper=(0.7, 0.5, 0.8)),),
    rules=(
        Rule(name="gentle", formula="always (force > 30 implies eventually[0,0.1] force < 30)"),
        Rule(name="cold", formula="always moment < 15", reaction="brake"),
    ),
)
TWIST = CartesianTwist(np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0]), "base", 0.0)


class Arm:
    """A supervisor, an arm that rests unless told otherwise, and a policy at 20 Hz; time is counted."""

    def __init__(self, envelope=ENVELOPE):
        self.supervisor = ArmSupervisor(PANDA, envelope, control_rate_hz=20.0)
        self.now, self.ticks = 10.0, 0
        self.change = {}
        self.stamp_shift = self.clock_shift = 0.0
        self.state = self.policy = True
        self.command, self.source = TWIST, "policy"
        self.log = []  # (time, decision)

    def run(self, seconds):
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.ticks += 1
            now = self.now + self.clock_shift
            if self.state:
                sample = ArmSample(
                    stamp=now + self.stamp_shift,
                    joint_positions=PANDA.home,
                    joint_velocities=np.zeros(7),
                    wrench=np.zeros(6),
                )
                self.supervisor.observe_state(replace(sample, **self.change), now)
            if self.policy and self.ticks % 25 == 0:
                self.supervisor.observe_command(self.command, now, now, self.source)
            self.log.append((self.now, self.supervisor.tick(now)))
        return self.log[-1][1]

    def activate(self):
        self.run(0.06)
        accepted, reason = self.supervisor.arm(self.now)
        assert accepted, reason
        assert self.run(0.1).mode == "active"
        self.log.clear()
        self.began = self.now
        return self

    def sequence(self):
        """Modes with what is followed, and the time in s since the fault at which each began."""
        order = []
        for time, decision in self.log:
            step = f"{decision.mode}/{decision.follow}"
            if not order or order[-1][0] != step:
                order.append((step, time - self.began))
        return order


def push(newtons):
    return {"wrench": np.array([0.0, 0.0, newtons, 0.0, 0.0, 0.0])}


def bent(joint, angle):
    q = PANDA.home.copy()
    q[joint] += angle
    return {"joint_positions": q}


HOLDS, STOPS, BRAKES = "holding/hold", "fault/hold", "fault/brake"
# What is changed, for how long (s), the sequence of modes with its times (s), and what is said in the end.
FAULTS = {
    "state stops for 50 ms": ({"state": False}, 0.05, [], ""),
    "state stops for 250 ms": ({"state": False}, 0.25, [(HOLDS, 0.1), ("active/command", 0.25)], ""),
    "state stops for 600 ms": ({"state": False}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)], "state is 500 ms old"),
    "state stops for 2100 ms": ({"state": False}, 2.1, [(HOLDS, 0.1), (STOPS, 0.5), (BRAKES, 2.0)], "state is 500 ms"),
    "nan": (
        {"change": {"joint_positions": np.full(7, math.nan)}}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)],
        "non-finite joint_positions: joint1",
    ),
    "infinite velocity": (
        {"change": {"joint_velocities": np.array([0, 0, math.inf, 0, 0, 0, 0])}}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)],
        "non-finite joint_velocities: joint3",
    ),
    "missing joint": (
        {"change": {"joint_positions": PANDA.home[:6]}}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)], "is a joint missing?",
    ),
    "permuted joints": (
        {"change": {"joint_positions": PANDA.home[::-1].copy()}}, 0.3, [(STOPS, 0.006)], "are joints permuted?",
    ),
    "a jump": ({"change": bent(0, 0.3)}, 0.3, [(STOPS, 0.006)], "3 outliers in a row: state of joint1 jumps by 0.300"),
    "old stamps": ({"stamp_shift": -1.0}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)], "1000 ms old on arrival"),
    "future stamps": ({"stamp_shift": 0.3}, 0.6, [(HOLDS, 0.1), (STOPS, 0.5)], "300 ms in the future"),
    "clock back": ({"clock_shift": -5.0}, 0.1, [(BRAKES, 0.002)], "the clock went back by"),
    "clock ahead": ({"clock_shift": 5.0}, 0.3, [(HOLDS, 0.002)], "policy output is 50"),
    "driver fault": ({"change": {"fault": "joint 3 over-current"}}, 0.1, [(BRAKES, 0.002)], "driver: joint 3 over-cur"),
    "overspeed": (
        {"change": {"joint_velocities": np.array([0, 4.0, 0, 0, 0, 0, 0])}}, 0.7, [(STOPS, 0.002), (BRAKES, 0.502)],
        "joint2 moves at 4.00 rad/s (fault at 2.83 rad/s)",
    ),
    "contact": ({"change": push(150.0)}, 0.09, [(HOLDS, 0.012)], "contact of 150 N"),
    "hard contact": ({"change": push(250.0)}, 0.7, [(STOPS, 0.012), (BRAKES, 0.512)], "contact of 250 N"),
    "impact peak": ({"change": push(150.0)}, 0.008, [], ""),
    "rule holds": ({"change": push(40.0)}, 0.3, [(HOLDS, 0.102)], "rule 'gentle' is broken by 10"),
    "rule brakes": (
        {"change": {"wrench": np.array([0, 0, 0, 0, 0, 18.0])}}, 0.05, [(BRAKES, 0.002)], "rule 'cold' is broken by 3",
    ),
    "policy stops for 130 ms": ({"policy": False}, 0.12, [], ""),
    "policy stops for 300 ms": ({"policy": False}, 0.3, [(HOLDS, 0.152), ("active/command", 0.3)], ""),
    "policy stops for 700 ms": ({"policy": False}, 0.7, [(HOLDS, 0.152)], "policy output is"),
    "policy says nan": (
        {"command": replace(TWIST, values=np.full(6, math.nan))}, 0.7, [(HOLDS, 0.152)], "last: command is [nan",
    ),
    "scale applied twice": (
        {"command": replace(TWIST, values=np.full(6, 5.0))}, 0.7, [(HOLDS, 0.152)], "is a scale applied twice?",
    ),
    "command jump": (
        {"command": JointPositions(PANDA.home[::-1].copy(), 0.0)}, 0.7, [(HOLDS, 0.152)], "are joints permuted?",
    ),
    "too much torque": ({"command": JointTorques(np.full(7, 50.0), 0.0)}, 0.7, [(HOLDS, 0.152)], "limit 12.0 N m"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_table(name):
    changes, seconds, expected, cause = FAULTS[name]
    arm = Arm().activate()
    healthy = {key: getattr(arm, key) for key in changes}
    for key, value in changes.items():
        setattr(arm, key, value)
    arm.run(seconds)
    last = arm.log[-1][1]
    if not name.startswith("clock"):
        for key, value in healthy.items():
            setattr(arm, key, value)
        arm.run(0.12)
    found = [step for step in arm.sequence() if step != ("active/command", arm.sequence()[0][1])]
    assert [mode for mode, _ in found] == [mode for mode, _ in expected], (found, last.cause)
    for (_, time), (mode, limit) in zip(found, expected, strict=True):
        # A command comes at most a policy's period before or after, a state a tick before.
        assert time == pytest.approx(limit, abs=0.055 if "active" in mode or "policy" in name or "com" in name
                                     or "scale" in name or "torque" in name else 0.0045), (mode, time)  # fmt: skip
    assert cause in arm.log[-1][1].cause
    if expected and not expected[-1][0].startswith("active"):
        # What is latched stays so though all is well again, until a person recovers it.
        final = arm.run(0.06)
        assert final.latched and final.mode == expected[-1][0].split("/")[0]


@pytest.mark.parametrize(("name", "after"), [("contact", "armed"), ("driver fault", "idle"), ("a jump", "idle")])
def test_recovery_is_explicit(name, after):
    changes, seconds, _, _ = FAULTS[name]
    arm = Arm().activate()
    arm.change = changes["change"]
    arm.run(seconds)
    if name == "driver fault":
        assert not arm.supervisor.recover(arm.now)[0]
    arm.change = {}
    arm.run(0.1)
    if name == "a jump":  # nothing is believed until a person vouches for it
        assert not arm.supervisor.recover(arm.now)[0]
        arm.run(0.1)
    recovered, text = arm.supervisor.recover(arm.now)
    assert recovered, text
    assert arm.supervisor.mode == after
    if after == "idle":
        arm.run(0.1)
        assert arm.supervisor.mode == "idle"
        assert arm.supervisor.arm(arm.now)[0]
    assert arm.run(0.1).mode == "active"
    assert arm.supervisor.counters["recovered"] == 1


def test_arming_needs_rest_and_a_fresh_state_and_says_why():
    arm = Arm()
    assert arm.supervisor.arm(arm.now) == (False, "no state yet")
    arm.change = {"joint_velocities": np.array([0, 0, 0, 0.2, 0, 0, 0])}
    arm.run(0.1)
    assert arm.supervisor.arm(arm.now) == (False, "joint4 moves at 0.200 rad/s (limit 0.05 rad/s)")
    arm.change = {"fault": "not homed"}
    arm.run(0.1)
    assert arm.supervisor.arm(arm.now) == (False, "driver: not homed")
    arm.change, arm.policy = {}, False
    assert arm.run(0.1).follow == "brake"
    assert arm.supervisor.arm(arm.now)[0]
    waiting = arm.run(3.0)
    assert (waiting.mode, waiting.follow, waiting.blend) == ("armed", "hold", 0.0)
    assert arm.supervisor.counters["arm_refused"] == 3


def test_a_command_from_before_arming_does_not_move_the_arm():
    arm = Arm()
    arm.run(0.1)
    arm.policy = False
    arm.supervisor.arm(arm.now)
    assert arm.run(0.1).mode == "armed"


def test_commands_grow_from_nothing():
    arm = Arm()
    arm.run(0.1)
    arm.supervisor.arm(arm.now)
    arm.run(0.7)
    blends = [decision.blend for _, decision in arm.log if decision.mode == "active"]
    assert blends[0] == 0.0 and blends[-1] == 1.0
    assert np.max(np.diff(blends)) < 1.1 * TICK / ENVELOPE.blend_time
    held = np.zeros(7)
    assert blended(TWIST, 0.5, held).values[0] == pytest.approx(0.025)
    assert blended(JointPositions(np.ones(7), 0.0), 0.25, held).values == pytest.approx(np.full(7, 0.25))


def test_the_first_publisher_is_kept():
    arm = Arm().activate()
    for _ in range(10):
        arm.run(0.05)
        refusal = arm.supervisor.observe_command(replace(TWIST, frame="tool"), arm.now, arm.now, "intruder")
        assert "'intruder' is refused while 'policy' is alive" in refusal
    decision = arm.run(0.05)
    assert decision.mode == "active" and decision.command.frame == "base"
    assert arm.supervisor.counters["command_second_source"] == 10


def test_teleoperation_stops_after_150_ms():
    arm = Arm()
    arm.source = "teleop"
    arm.activate()
    arm.policy = False
    arm.run(0.3)
    ((mode, time),) = [step for step in arm.sequence() if step[0] == HOLDS]
    assert 0.1 <= time <= 0.152
    assert "teleoperation is" in arm.supervisor.cause and "limit 150 ms" in arm.supervisor.cause


def test_coming_closer_is_stopped_and_going_away_is_not():
    arm = Arm(replace(ENVELOPE, rules=()))
    arm.activate()
    low = {"joint_velocities": np.array([0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])}
    for step in range(200):  # shoulder forward: the hand goes down to the table
        arm.change = bent(1, 0.6 * 0.01 * step) | low
        arm.run(0.01)
        if arm.supervisor.mode != "active":
            break
    assert arm.supervisor.mode == "holding"
    assert "to the table" in arm.supervisor.cause and "coming closer at" in arm.supervisor.cause
    shape = arm.supervisor.watch.shape
    assert shape.distances(arm.change["joint_positions"]).values.min() > 0.0
    arm.change = {"joint_positions": arm.change["joint_positions"], "joint_velocities": np.zeros(7)}
    arm.run(0.1)
    assert arm.supervisor.recover(arm.now)[0]
    arm.change = arm.change | {"joint_velocities": -low["joint_velocities"]}
    assert arm.run(0.1).mode == "active"


def test_emergency_stop_and_disarm():
    arm = Arm().activate()
    arm.supervisor.disarm(arm.now)
    assert arm.run(TICK).follow == "hold"
    assert arm.run(0.6).follow == "brake" and arm.supervisor.mode == "idle"
    arm = Arm().activate()
    arm.supervisor.estop(arm.now)
    decision = arm.run(TICK)
    assert (decision.mode, decision.follow, decision.cause) == ("fault", "brake", "emergency stop")
    assert not arm.supervisor.arm(arm.now)[0]


@pytest.mark.filterwarnings("error")
def test_infinities_of_both_signs_are_refused_without_a_warning():
    arm = Arm().activate()
    both = np.array([math.inf, -math.inf, 0.0, 1e308, 1e308, 0.0, 0.0])
    command = CartesianTwist(both[:6], "base", 0.0)
    assert "is [inf, -inf" in arm.supervisor.observe_command(command, arm.now, arm.now, "policy")
    arm.change = {"joint_velocities": both}
    arm.run(TICK)
    assert arm.supervisor.state_input.refusal == "state has non-finite joint_velocities: joint1, joint2"


def test_anything_may_be_observed_and_nothing_bad_is_followed():
    rng, arm = np.random.default_rng(0), Arm().activate()
    bad = (math.nan, math.inf, -math.inf, 1e308, -1e300)
    for _ in range(300):
        values = rng.normal(size=int(rng.integers(0, 9)))
        if len(values):
            values[rng.integers(len(values))] = rng.choice(bad)
        kind = (CartesianTwist, JointPositions, JointTorques)[rng.integers(3)]
        command = kind(values, "base", 0.0) if kind is CartesianTwist else kind(values, rng.choice([0.0, math.nan]))
        stamp = arm.now + rng.choice([0.0, 9.0, -9.0, math.nan])
        assert arm.supervisor.observe_command(command, stamp, arm.now, "policy") != ""
        decision = arm.run(TICK)
        assert decision.command is None or np.array_equal(decision.command.values, TWIST.values)
