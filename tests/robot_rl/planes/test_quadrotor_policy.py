"""The policy process of a quadrotor from inside: what it flies on, and when its memory begins anew."""

from types import SimpleNamespace

import numpy as np
import pytest

from hardware.realtime.loop import DeadlineLoop
from hardware.realtime.seqlock import SlotReader, SlotWriter
from policies.types import MotorSpeeds, QuadrotorSetpoint
from robot_rl.planes import quadrotor_records, records
from robot_rl.planes.quadrotor_client import QuadrotorClient
from robot_rl.planes.quadrotor_policy import QuadrotorPolicy, open_policy
from robot_rl.planes.quadrotor_settings import QuadrotorPolicyConfig

PERIOD = 0.01


class Counting:
    """A policy that answers with the number of its steps since its memory began."""

    def __init__(self):
        envelope = SimpleNamespace(state_age=(0.1, 0.5, 2.0))
        self.manifest = SimpleNamespace(control_rate_hz=1.0 / PERIOD, envelope=envelope)
        self.last_action, self.resets, self.step_number, self.seen, self.nan = None, 0, 0, None, False

    def reset(self, mask=None):
        self.resets, self.step_number = self.resets + 1, 0

    def step(self, state, setpoint):
        self.step_number += 1
        self.seen = state, setpoint
        self.last_action = np.linspace(-1.0, 1.0, 20)
        return MotorSpeeds(np.full(4, np.nan if self.nan else float(self.step_number)))


class Loop:
    """The process between its slots; `run` makes time go by, with a state every 10 ms while there are some."""

    def __init__(self, folder):
        self.policy, self.now, self.states = Counting(), 1000.0, True
        self.process = QuadrotorPolicy(self.policy, QuadrotorPolicyConfig(folder=str(folder), policy="counting"))
        layouts = quadrotor_records.LAYOUTS
        self.state, self.setpoint, self.status = (
            SlotWriter(folder, name, layouts[name]) for name in ("state", "setpoint", "status")
        )
        self.command = SlotReader(folder, "command", layouts["command"])
        self.client = QuadrotorClient(folder)
        self.policy.resets = 0

    def run(self, seconds, **state):
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if self.states:
                self.measure(**state)
            self.process.tick(self.now)

    def measure(self, position=(0.0, 0.0, 1.0), stamp=None):
        record = records.new(quadrotor_records.STATE)
        record["has_state"], record["stamp"] = True, self.now - 0.002 if stamp is None else stamp
        record["has_attitude"], record["attitude_stamp"] = True, self.now
        record["position"], record["orientation"] = position, (1.0, 0.0, 0.0, 0.0)
        self.state.write(record)

    def aim(self, velocity=(0.0, 0.0, 0.0)):
        record = records.new(quadrotor_records.SETPOINT)
        goal = QuadrotorSetpoint(np.array([1.0, 2.0, 3.0]), np.array(velocity), np.zeros(3), np.asarray(0.5))
        self.setpoint.write(quadrotor_records.fill_setpoint(record, goal, self.now))

    def say(self, mode):
        record = records.new(records.STATUS)
        record["mode"] = mode.encode()
        self.status.write(record)

    @property
    def sent(self):
        return self.command.sequence

    def close(self):
        for each in (self.process, self.state, self.setpoint, self.status, self.command, self.client):
            each.close()


@pytest.fixture
def loop(tmp_path):
    made = Loop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def commanding(loop):
    """It has a state and a set-point."""
    loop.aim()
    loop.run(0.1)
    assert loop.sent == 10
    return loop


def test_it_commands_from_the_first_set_point_on_also_before_take_off(loop):
    loop.say("disarmed")
    loop.run(0.1)
    assert loop.sent == 0 and loop.process.newest.reason == "no set-point yet"
    loop.aim()
    loop.run(0.05)
    reading = loop.command.read()
    assert reading.sequence == 5 and reading.record["stamp"] == loop.now
    assert reading.record["values"].tolist() == [5.0] * 4
    state, setpoint = loop.policy.seen
    assert state.position.tolist() == [0.0, 0.0, 1.0] and setpoint.position.tolist() == [1.0, 2.0, 3.0]
    sequence, action = loop.client.action()
    assert sequence == 5 and action.size == quadrotor_records.MAX_ACTION and action[0] == -1.0


def test_its_memory_begins_anew_when_the_vehicle_is_handed_over(commanding):
    loop = commanding
    before = loop.policy.resets
    loop.say("disarmed")
    loop.run(0.1)
    assert loop.policy.resets == before
    loop.say("active")
    loop.run(PERIOD)
    assert loop.policy.resets == before + 1 and loop.command.read().record["values"][0] == 1.0
    loop.say("active")  # the same flight
    loop.run(0.1)
    assert loop.policy.resets == before + 1
    for mode in ("holding", "active"):  # handed back
        loop.say(mode)
        loop.run(0.1)
    assert loop.policy.resets == before + 2


def test_its_memory_begins_anew_after_a_pause(commanding):
    before = commanding.policy.resets
    commanding.now += 0.02
    commanding.run(0.05)
    assert commanding.policy.resets == before
    commanding.now += 0.03
    commanding.run(0.05)
    assert commanding.policy.resets == before + 1


def test_an_old_state_gives_no_command(commanding):
    commanding.states = False
    commanding.run(0.08)
    sent = commanding.sent
    commanding.run(0.5)
    assert commanding.sent <= sent + 2 and "ms old (limit 100 ms)" in commanding.process.newest.reason
    commanding.states = True
    commanding.run(PERIOD)
    assert commanding.command.read().record["values"][0] == 1.0


def test_a_record_of_the_inertial_sensor_alone_is_no_new_state(commanding):
    stamp = commanding.now - 0.002
    commanding.run(0.05, stamp=stamp)
    assert commanding.process.newest.reason == "" and not commanding.process.runner.counters["state_not_newer"]
    commanding.run(0.1, stamp=stamp)
    assert "state is" in commanding.process.newest.reason


def test_a_state_that_is_no_number_is_none(commanding):
    commanding.run(0.2, position=(np.nan, 0.0, 1.0))
    assert "non-finite position" in commanding.process.newest.reason
    assert np.isfinite(commanding.policy.seen[0].position).all()
    commanding.process.publish(DeadlineLoop(100.0), "normal")
    told = commanding.client.policy()
    assert "non-finite position" in told["reason"] and told["bundle"] == "counting" and told["rate_hz"] == 100.0


def test_a_command_that_is_no_number_is_not_sent_and_not_remembered(commanding):
    before, sent = commanding.policy.resets, commanding.sent
    commanding.policy.nan = True
    commanding.run(0.05)
    assert commanding.sent == sent and commanding.process.newest.reason == "the policy's command is not finite"
    commanding.policy.nan = False
    commanding.run(0.05)
    assert commanding.sent == sent + 5 and commanding.policy.resets > before


def test_a_set_point_is_carried_on_for_a_while_and_then_a_place_to_stand_still(loop):
    loop.aim(velocity=(1.0, 0.0, 0.0))
    loop.run(0.05)
    assert loop.policy.seen[1].position == pytest.approx([1.05, 2.0, 3.0])
    loop.run(0.4)
    assert loop.policy.seen[1].position == pytest.approx([1.1, 2.0, 3.0])
    assert loop.policy.seen[1].velocity.tolist() == [1.0, 0.0, 0.0]
    loop.run(0.1)
    goal = loop.policy.seen[1]
    assert goal.velocity.tolist() == goal.acceleration.tolist() == [0.0, 0.0, 0.0]
    assert goal.position == pytest.approx([1.1, 2.0, 3.0]) and float(goal.yaw) == 0.5


def test_a_set_point_that_is_no_number_is_refused_in_words(commanding):
    commanding.aim(velocity=(np.nan, 0.0, 0.0))
    commanding.run(PERIOD)
    commanding.process.publish(DeadlineLoop(100.0), "normal")
    assert "set-point has non-finite velocity" in commanding.client.policy()["reason"]
    assert commanding.policy.seen[1].velocity.tolist() == [0.0, 0.0, 0.0]


def test_a_bundle_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no policy bundle 'quadrotor-trakc'; did you mean 'quadrotor-track'"):
        open_policy(QuadrotorPolicyConfig(policy="quadrotor-trakc"))
    with pytest.raises(ValueError, match="arm-reach"):
        open_policy(QuadrotorPolicyConfig(policy="arm-reach"))
