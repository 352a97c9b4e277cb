"""The control process of a quadrotor from inside, in a time that the test makes."""

import numpy as np
import pytest
from plain_quadrotor import HOVER, PlainQuadrotor

from hardware.drivers.driver import DriverError
from robot_rl.planes.quadrotor_control import rehearse

ZEROS = np.zeros(4)


def off(commands):
    return len(commands) > 0 and all(np.array_equal(command.values, ZEROS) for command in commands)


def rise(cell, height=1.0, each=None):
    for z in np.linspace(cell.driver.position[2], height, 20):
        cell.driver.position[2] = z
        cell.run(0.05, each or cell.commanding())


# The motors


def test_on_the_ground_its_motors_are_off_and_told_so_at_the_policys_rate(make_flight):
    cell = make_flight()
    cell.run(0.25, cell.commanding())
    assert not cell.driver.sent  # not known to stand yet
    cell.run(0.25, cell.commanding())
    begin = cell.now
    cell.run(1.0, cell.commanding())
    sent = cell.sent_since(begin)
    assert off(sent) and 80 <= len(sent) <= 102
    assert cell.status.mode == "disarmed" and cell.status.follow == "brake"


def test_in_the_air_nothing_is_said_until_somebody_asks(make_flight):
    """This process began, and who flies is not known: zeros would be a fall."""
    cell = make_flight()
    cell.driver.position[2] = 1.0
    cell.run(1.0, cell.commanding())
    assert not cell.driver.sent and cell.status.mode == "disarmed"
    assert cell.ask("disarm")[0]
    cell.run(0.1)
    assert off(cell.driver.sent and cell.sent_since(0.0))


def test_it_may_be_armed_in_the_air(make_flight):
    cell = make_flight()
    cell.driver.position[2] = 1.0
    cell.run(0.5, cell.commanding())
    assert cell.ask("arm") == (True, "armed")
    cell.run(0.1, cell.commanding())
    assert all(np.array_equal(values, HOVER) for values in cell.driver.values)


def test_a_command_goes_to_the_motors_in_the_tick_that_finds_it(flight):
    for number in range(20):
        values = HOVER + number
        flight.command(values)
        flight.run(0.002)
        moment, command = flight.driver.sent[-1]
        assert moment == flight.now and np.array_equal(command.values, values)
        before = len(flight.driver.sent)
        flight.run(0.008)
        assert len(flight.driver.sent) == before  # the next one is waited for
    motors = flight.client.motors()
    assert np.array_equal(motors.values, HOVER + 19) and motors.mode == "active" and motors.stamp == moment


def test_a_silent_policy_is_repeated_and_then_replaced_at_its_rate(flight):
    last = flight.now
    flight.run(0.03)
    repeated = [moment - last for moment, _ in flight.driver.sent if moment > last + 1e-9]
    assert repeated == pytest.approx([0.012, 0.022], abs=0.005)
    assert all(np.array_equal(command.values, HOVER) for command in flight.sent_since(last))
    flight.run(0.2)
    assert flight.status.mode == "holding" and "policy output is" in flight.status.cause
    moments = np.array([moment for moment, _ in flight.driver.sent if moment > last + 0.04])
    assert np.diff(moments) == pytest.approx(np.full(len(moments) - 1, 0.01), abs=0.0021)
    assert flight.status.follow == "hold" and flight.status.blend == 0.0
    flight.run(0.5)
    assert flight.status.mode == "descending"


@pytest.mark.parametrize(("values", "offset", "words"), [
    ([np.nan, 1.0, 1.0, 1.0], 0.0, "expected 4 finite rotor speeds"),
    ([9e4, 1.0, 1.0, 1.0], 0.0, "leaves [0, "),
    (HOVER, 0.2, "ms in the future"),
    (HOVER, -0.7, "old on arrival"),
])  # fmt: skip
def test_a_command_that_is_not_believed_is_counted_and_its_reason_told(flight, values, offset, words):
    last = flight.now
    for _ in range(20):
        flight.command(values, flight.now + offset)
        flight.run(0.01)
    assert flight.status.mode == "holding" and words in flight.status.cause
    assert np.isfinite([command.values for command in flight.sent_since(last)]).all()
    assert max(command.values.max() for command in flight.sent_since(last)) < 3000.0
    flight.run(0.5)
    report = flight.client.report()
    assert report["command refused"] == 20 and words in report["last refused command"]
    assert sum(report["supervisor"][name] for name in report["supervisor"] if name.startswith("command_")) == 20


def test_what_was_said_to_an_earlier_control_process_is_not_said_to_this_one(make_flight, tmp_path):
    first = make_flight()
    first.run(0.4, first.commanding())
    first.command()
    first.client.request("arm")
    first.close()
    cell = make_flight()
    cell.run(0.5)
    assert cell.status.mode == "disarmed" and cell.status.request_id == 0 and np.isinf(cell.status.command_age)


# The face


def test_commands_of_a_dead_face_are_not_taken(make_flight):
    cell = make_flight(face_timeout=0.5)
    cell.run(0.5, cell.commanding())
    granted, why = cell.ask("arm")
    assert not granted and "never gave a sign of life" in why

    def alive():
        cell.commanding()()
        cell.beat()

    cell.run(0.1, alive)
    assert cell.ask("arm")[0]
    rise(cell, each=alive)
    assert cell.status.mode == "active"
    cell.run(0.4, cell.commanding())
    assert cell.status.mode == "active"
    cell.run(0.2, cell.commanding())
    assert cell.status.mode == "holding" and "commands are not taken: the face" in cell.status.cause
    cell.run(0.1, alive)
    assert cell.status.mode == "active"


# What people ask


def test_a_request_has_its_answer_in_its_tick_and_its_reasons_in_words(make_flight):
    cell = make_flight()
    cell.run(0.5)
    granted, why = cell.ask("arm")
    assert not granted and "no policy output yet" in why
    cell.run(0.1, cell.commanding())
    assert cell.ask("arm") == (True, "armed")
    assert cell.ask("recover") == (False, "nothing to recover, mode is active")
    assert cell.ask("disarm")[0] and cell.status.mode == "disarmed"
    assert off(cell.driver.sent and [cell.driver.sent[-1][1]])


def test_an_emergency_stop_is_motors_off_until_somebody_recovers(flight):
    granted, why = flight.ask("estop")
    assert granted and "emergency stop" in why
    assert flight.driver.kills == 1 and flight.status.mode == "fault" and flight.status.latched
    begin = flight.now
    flight.run(0.1, flight.commanding())
    assert off(flight.sent_since(begin))
    assert not flight.ask("arm")[0] and flight.ask("recover")[0] and flight.status.mode == "disarmed"


@pytest.mark.parametrize("later", ["arm", "disarm", "recover"])
def test_an_emergency_stop_is_not_lost_behind_a_later_request(flight, later):
    flight.client.request("estop")
    flight.ask(later)
    assert flight.driver.kills == 1
    assert flight.status.mode in ("fault", "disarmed")
    begin = flight.now
    flight.run(0.05, flight.commanding())
    assert off(flight.sent_since(begin))


def test_an_emergency_stop_that_does_not_arrive_says_so(own):
    own.driver.broken = "no radio"
    assert own.ask("estop") == (False, "no radio")
    assert own.status.mode == "fault" and own.driver.kills == 1


# The driver


def test_an_error_of_the_driver_is_trouble_and_not_the_end(flight):
    flight.driver.broken = "the wire is cut"
    flight.run(0.06, flight.commanding())
    assert flight.status.driver_fault == "the wire is cut" and flight.client.vehicle()["problem"] == "the wire is cut"
    flight.run(0.1, flight.commanding())
    assert flight.status.mode == "level" and "state is" in flight.status.cause
    flight.driver.broken = ""
    flight.run(0.2, flight.commanding())
    assert flight.status.mode == "active" and not flight.status.driver_fault


def test_a_driver_that_cannot_write_is_trouble_too(ground):
    ground.driver.deaf = "no radio"
    ground.run(0.1, ground.commanding())
    assert ground.status.mode == "disarmed"
    ground.driver.deaf = ""
    begin = ground.now
    ground.run(0.05, ground.commanding())
    assert off(ground.sent_since(begin))


def test_a_vehicle_that_cannot_be_released_is_trouble_too(own):
    """It took too long to arm, and cannot be told that nobody waits any more."""

    def cut():
        raise DriverError("the link broke")

    own.ask("arm")
    own.driver.stop = cut
    own.run(15.2, own.commanding())
    assert own.status.mode == "disarmed" and own.client.vehicle()["requests"] == 1


def test_what_the_vehicle_says_is_told(ground):
    told = ground.client.vehicle()
    assert told["driver"] == "plain" and told["armed"] and told["following"] and not told["airborne"]
    assert told["details"]["battery voltage"] == 4.0
    sample = ground.client.sample()
    assert sample.stamp == pytest.approx(ground.now) and np.array_equal(sample.state.position, np.zeros(3))
    assert sample.specific_force is None


def test_a_vehicle_without_a_position_is_not_armed(make_flight):
    cell = make_flight()
    cell.driver.blind = True
    cell.run(0.5, cell.commanding())
    assert cell.client.sample().state is None and cell.client.sample().orientation is not None
    granted, why = cell.ask("arm")
    assert not granted and "no state yet" in why


# A vehicle with a safety of its own


def test_it_arms_only_because_somebody_asks_and_flies_once_it_follows(own):
    assert own.driver.requests == 0 and own.client.vehicle()["arming"] == "idle"
    granted, why = own.ask("arm")
    assert not granted and "asked to arm: it takes some seconds" in why and own.driver.requests == 1
    own.driver.arming = "mode"
    own.run(0.1, own.commanding())
    assert own.status.mode == "disarmed" and "the vehicle is arming: mode" in own.status.cause
    assert "the vehicle is arming: mode" in own.ask("arm")[1] and own.driver.requests == 1
    assert off(own.sent_since(0.0))
    own.driver.follow()
    own.run(0.02, own.commanding())
    assert own.status.mode == "active" and own.ask("arm") == (True, "armed; the vehicle follows")
    assert np.array_equal(own.driver.values[-1], HOVER)


def test_it_arms_on_a_stream_wherever_it_believes_the_ground_to_be(make_flight):
    """An estimator's height drifts while it stands: it has not landed for the supervisor then."""
    cell = make_flight(driver=PlainQuadrotor(own_arming=True))
    cell.driver.position[2] = 0.3
    cell.run(0.5, cell.commanding())
    assert not cell.driver.sent
    cell.ask("arm")
    cell.run(0.5, cell.commanding())
    assert off(cell.sent_since(0.0)) and len(cell.driver.sent) > 40


def test_its_refusal_is_the_answer_to_the_next_request(own):
    own.ask("arm")
    own.driver.arming, own.driver.arming_problem = "failed", "arming: denied"
    own.run(0.05, own.commanding())
    assert own.status.mode == "disarmed" and "arming: denied" in own.status.cause
    own.driver.arming_problem += "; the autopilot says: compass"  # a moment later
    own.run(0.05, own.commanding())
    assert "compass" in own.status.cause
    assert own.ask("arm") == (False, "arming: denied; the autopilot says: compass") and own.driver.requests == 1
    assert "asked to arm" in own.ask("arm")[1] and own.driver.requests == 2


def test_it_is_not_asked_while_there_is_a_reason_not_to(own):
    own.driver.velocity[:] = 1.0
    own.run(0.1, own.commanding())
    assert "moving at" in own.ask("arm")[1] and own.driver.requests == 0


def test_a_vehicle_that_follows_when_the_policy_has_died_is_released(own):
    own.ask("arm")
    own.run(0.5)
    own.driver.follow()
    own.run(0.02)
    assert own.status.mode == "disarmed" and own.driver.stops == 1
    assert "policy output is" in own.ask("arm")[1]


def test_a_pilot_who_takes_it_is_left_alone(following):
    """Neither a set-point nor a landing, whoever notices first: this process or its driver."""
    taken = following.now
    following.driver.accepting = False
    following.run(0.02, following.commanding())
    assert not following.sent_since(taken)
    assert following.status.mode == "disarmed" and "does not follow any more" in following.status.cause
    following.driver.arming = "idle"
    following.driver.arming_problem = "the vehicle changed to Hold by itself"
    following.run(1.0, following.commanding())
    assert following.status.mode == "disarmed" and "by itself" in following.status.cause
    assert following.driver.stops == 0 and following.driver.requests == 1
    assert not [c for c in following.sent_since(taken) if np.any(c.values)]  # its driver lets none of the zeros through
    following.control.stop("told to end")
    assert following.driver.stops == 0


def test_a_pilots_vehicle_hears_an_emergency_stop_only(own):
    own.driver.armed = True
    rise(own)
    assert own.ask("disarm")[0] and own.driver.stops == 0
    assert own.ask("estop")[0] and own.driver.kills == 1 and own.driver.stops == 0


def test_it_is_taken_over_in_the_air_with_the_policy_flying_from_the_first_moment(own):
    own.driver.armed = True
    rise(own)
    begin = own.now
    own.ask("arm")
    own.run(0.3, own.commanding())
    assert own.status.mode == "active" and own.client.vehicle()["arming"] == "streaming"
    sent = own.sent_since(begin + 0.01)
    assert len(sent) > 20 and all(np.array_equal(command.values, HOVER) for command in sent)
    own.driver.follow()
    own.run(0.1, own.commanding())
    assert own.status.mode == "active" and own.driver.stops == 0


def test_a_take_over_in_the_air_that_is_refused_leaves_it_to_its_pilot(own):
    own.driver.armed = True
    rise(own)
    own.ask("arm")
    own.driver.arming, own.driver.arming_problem = "failed", "mode: denied"
    own.run(0.1, own.commanding())
    assert own.status.mode == "disarmed" and "mode: denied" in own.status.cause and own.driver.stops == 0


def test_disarm_lands_what_is_flown_from_here_by_its_own_means(following):
    assert following.ask("disarm")[0]
    asked = following.now
    following.run(0.5, following.commanding())
    assert following.driver.stops == 1 and following.status.mode == "disarmed"
    assert off(following.sent_since(asked))  # its driver lets none of them through


def test_a_fault_lands_it_by_its_own_means_too(following):
    following.driver.frozen = True
    following.run(2.5, following.commanding())
    assert following.status.mode == "fault" and following.driver.stops == 1


def test_nothing_is_sent_to_a_vehicle_that_still_follows_after_the_end_of_a_flight(following):
    """Zeros are a fall, silence is its own failsafe."""
    stop, following.driver.stop = following.driver.stop, lambda: None  # lost on its way
    following.ask("disarm")
    asked = following.now
    following.run(1.0, following.commanding())
    assert not following.sent_since(asked)
    following.driver.stop = stop


# The end


def end(cell):
    before, stops = len(cell.driver.sent), cell.driver.stops
    cell.control.stop("told to end by SIGTERM")
    status = cell.status
    assert status.mode == "stopped" and "SIGTERM" in status.cause and status.follow == "brake"
    assert len(cell.driver.sent) == before
    return cell.driver.stops - stops


def test_at_the_end_motors_are_off_on_the_ground_and_hear_nothing_in_the_air(ground):
    assert end(ground) == 1


def test_at_the_end_a_flying_vehicle_hears_nothing(flight):
    assert end(flight) == 0


def test_at_the_end_a_vehicle_that_was_never_spoken_to_hears_nothing(make_flight):
    cell = make_flight()
    cell.driver.position[2] = 1.0
    cell.run(0.5, cell.commanding())
    assert end(cell) == 0


def test_at_the_end_armed_on_the_ground_motors_are_off(ground):
    assert ground.ask("arm")[0]
    ground.run(0.1, ground.commanding())
    assert end(ground) == 1


def test_at_the_end_what_is_flown_from_here_lands_by_its_own_means(following):
    assert end(following) == 1


def test_at_the_end_a_vehicle_that_nobody_asked_is_left_alone(own):
    own.driver.armed = True
    rise(own)
    assert end(own) == 0


def test_a_rehearsal_flies_with_and_without_policy_and_state(make_flight):
    core = make_flight().core
    rehearse(core)
    assert all(core.counters[mode] > 0 for mode in ("armed", "holding", "descending", "fault"))
    assert core.mode == "fault" and "state is" in core.cause
