"""The control loop in a time that the test makes: who moves the arm, what stops it, what is said about it."""

import math

import numpy as np
import pytest

from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions import load_arm
from policies.types import CartesianTwist, JointPositions

PANDA = load_arm("panda")


def torques(cell):
    return np.array([command.values for command in cell.driver.commands])


def test_it_starts_idle_and_sends_nothing_to_the_robot(cell):
    cell.run(0.2, cell.commanding())
    status = cell.client.status()
    assert status.mode == "idle" and status.follow == "brake"
    assert not cell.driver.commands


def test_armed_it_holds_and_then_follows_the_policy(cell):
    cell.run(0.05)
    assert cell.ask("arm")[0]
    cell.run(0.5)
    assert cell.client.status().mode == "armed"
    assert np.abs(cell.driver.q - PANDA.home).max() < 1e-3
    begin = cell.client.state().state.tool_pose[0]
    cell.run(1.5, cell.commanding())
    assert cell.client.state().state.tool_pose[0] - begin == pytest.approx(0.05 * 1.25, abs=0.03)
    assert cell.client.status().command_source == "policy"
    assert [change.mode for change in cell.client.status().changes][-2:] == ["armed", "active"]


def test_no_torque_leaves_the_limits_whatever_is_commanded(active):
    rng = np.random.default_rng(0)

    def wild():
        if rng.random() < 0.02:
            active.command(rng.uniform(-1.0, 1.0, 6) * rng.choice([1.0, 10.0, math.nan, math.inf]))

    active.run(1.0, wild)
    sent = torques(active)
    assert np.isfinite(sent).all()
    assert (np.abs(sent) <= symmetric_limit(PANDA, "torque") + 1e-9).all()
    assert (np.abs(np.diff(sent, axis=0)) <= 0.002 * symmetric_limit(PANDA, "torque_rate") + 1e-6).all()


def test_a_command_that_is_no_number_is_refused_and_the_arm_holds(active):
    before = active.client.report()

    def broken():
        if active.loop.ticks % 50 == 0:
            active.command([math.nan, 0, 0, 0, 0, 0])

    active.run(0.45, broken)
    status = active.client.status()
    assert status.mode == "holding" and "policy output" in status.cause and "nan" in status.cause
    active.run(0.6)
    counted = active.client.report()["supervisor"]["command_not_finite"]
    assert counted > before["supervisor"]["command_not_finite"]


def test_a_policy_that_dies_ages_and_the_arm_holds_in_three_periods(active):
    active.run(0.27)
    assert active.client.status().mode == "active"
    active.run(0.15)
    assert active.client.status().mode == "holding"
    place = active.driver.q.copy()
    active.run(0.5)
    assert np.abs(active.driver.q - place).max() < 0.02
    assert not active.client.status().driver_fault and len(active.driver.commands) > 0


@pytest.mark.parametrize(("seconds", "mode", "follow"), [
    (0.05, "active", "command"), (0.25, "holding", "hold"), (0.6, "fault", "hold"), (2.1, "fault", "brake"),
])  # fmt: skip
def test_a_state_that_stops_is_acted_on_by_its_age(active, seconds, mode, follow):
    active.driver.frozen = True
    active.run(seconds, active.commanding())
    status = active.client.status()
    assert (active.decision.mode, active.decision.follow) == (mode, follow)
    if mode != "active":
        assert "state is" in status.cause
    if seconds > 0.2:
        assert np.abs(torques(active)[-1]).max() == 0.0  # no torque from a state that nobody knows


def test_a_state_that_is_no_number_is_none(active):
    active.driver.nan = True
    active.run(0.6, active.commanding())
    assert active.decision.mode == "fault" and "non-finite joint_positions" in active.decision.cause
    assert np.isfinite(torques(active)).all()


def test_an_error_of_the_driver_is_a_fault_that_takes_an_explicit_recovery(active):
    active.driver.broken = "the wire is cut"
    active.run(0.02)
    assert active.client.status().mode == "fault" and "the wire is cut" in active.client.status().cause
    assert active.driver.stops >= 1
    active.driver.broken = ""
    active.run(0.5, active.commanding())
    assert active.decision.mode == "fault"
    assert active.ask("arm")[0] is False
    assert active.ask("recover")[0]
    assert active.ask("arm")[0]


def test_a_fault_of_the_robot_is_cleared_by_recover_only(active):
    active.driver.fault = "protective stop"
    active.run(0.1)
    assert active.client.status().driver_fault == "protective stop" and active.decision.follow == "brake"
    assert active.driver.recoveries == 0
    granted, why = active.ask("recover")
    assert granted, why
    assert active.driver.recoveries == 1 and active.client.status().mode == "idle"


def test_an_emergency_stop_is_never_lost_behind_a_later_request(active):
    active.client.request("estop")
    active.client.request("arm")  # before the loop looked
    active.run(0.01)
    assert active.decision.mode == "fault" and active.decision.follow == "brake"
    assert "emergency stop" in active.client.status().cause


def test_a_new_control_process_does_what_it_is_asked_not_what_another_was(active, tmp_path, make_cell):
    active.client.request("arm")
    active.command()
    active.control.close()
    active.policy.close()
    again = make_cell()
    again.run(0.2)
    assert again.client.status().mode == "idle" and not again.driver.commands
    assert again.control.supervisor.command_input.sequence == 0


def test_a_person_goes_before_the_policy_and_gives_it_back(active):
    active.client.send_twist(twist([0, 0.1, 0]), 0.05, stamp=active.now)
    begin = active.client.state().state.tool_pose[1]
    policy = active.commanding()

    def person():
        policy()
        active.client.send_twist(twist([0, 0.1, 0]), 0.05, held=True, stamp=active.now)

    active.run(1.0, person)
    assert active.client.status().command_source == "teleop"
    assert active.client.state().state.tool_pose[1] - begin > 0.05
    active.client.send_twist(twist([0, 0.1, 0]), 0.05, held=False, stamp=active.now)
    active.run(0.5, policy)
    assert active.client.status().command_source == "policy" and active.decision.mode == "active"


def test_a_person_who_is_gone_stops_the_arm_in_150_ms(active):
    def person():
        active.client.send_twist(twist([0, 0.1, 0]), 0.05, held=True, stamp=active.now)

    active.run(0.5, person)
    active.run(0.17)
    assert active.decision.mode == "holding" and "teleoperation" in active.decision.cause


def twist(linear):
    return CartesianTwist(values=np.array([*linear, 0, 0, 0], dtype=float), frame="base", gripper=1.0)


def test_without_a_sign_of_life_of_the_face_it_is_not_armed_and_holds(make_cell):
    cell = make_cell(face_timeout=0.5)
    cell.run(0.05)
    assert cell.ask("arm") == (
        False,
        "the face of the control process never gave a sign of life (limit 500 ms)",
    )
    face = cell.client._writer("face")
    face.write(cell.client._face, cell.now)
    assert cell.ask("arm")[0]
    policy = cell.commanding()

    def alive():
        policy()
        face.write(cell.client._face, cell.now)

    cell.run(1.0, alive)
    assert cell.decision.mode == "active"
    cell.run(0.95, policy)
    status = cell.client.status()
    assert status.mode == "holding" and "gave no sign of life" in status.cause


def test_joint_positions_are_followed_too(cell):
    cell.run(0.05)
    assert cell.ask("arm")[0]
    goal = PANDA.home + 0.1

    def each():
        if cell.loop.ticks % 50 == 0:
            cell.command(command=JointPositions(values=goal, gripper=1.0))

    cell.run(2.5, each)
    assert np.abs(cell.driver.q - goal).max() < 0.03


def test_stopping_stops_the_robot_and_says_why(active):
    active.control.stop("told to end by SIGTERM")
    status = active.client.status()
    assert active.driver.stops >= 1
    assert (status.mode, status.cause, status.follow) == ("stopped", "told to end by SIGTERM", "brake")


def test_timing_and_counters_are_published(active):
    active.run(1.1, active.commanding())
    timing, report = active.client.timing(), active.client.report()
    assert timing["rate_hz"] == 500.0 and timing["state_age"]["count"] > 100
    assert timing["command_age"]["max"] <= 0.11
    assert report["supervisor"]["armed"] == 1 and "torque_rate" in report["filter"] or report["filter"] == {}
