"""Rules in signal temporal logic in flight: the fallback takes over when one is broken, until someone recovers."""

import dataclasses
from copy import deepcopy

import numpy as np
import pytest

from hardware import load_description
from hardware.safety.arm_envelope import Rule
from hardware.safety.quadrotor import QuadrotorSupervisor
from hardware.safety.quadrotor_config import SupervisorConfig

SLOW = Rule(name="slow", formula="always speed < 0.6")
LOW = Rule(name="low", formula="always height < 1.3", reaction="brake")
CALM = Rule(name="calm", formula="always (speed > 0.3 implies eventually[0,1] speed < 0.3)")


@pytest.fixture
def fly(in_air):
    """Rules → the flight in the air, under a supervisor that has them."""

    def under(*rules, envelope=None, **settings):
        flight = deepcopy(in_air)
        old = flight.supervisor
        config = SupervisorConfig(rules=rules, **settings)
        description = load_description("crazyflie")
        flight.supervisor = QuadrotorSupervisor(description, envelope or old.envelope, 100.0, config)
        flight.run(0.1)
        assert flight.supervisor.arm(flight.now)[0]
        flight.run(0.5)
        return flight

    return under


def test_what_keeps_the_rules_flies_on(fly):
    flight = fly(SLOW, LOW, CALM)
    outputs = flight.run(1.0)
    assert flight.modes(outputs) == ["active"]
    assert {name: count for name, count in flight.supervisor.counters.items() if name.startswith("rule_")} == {
        "rule_slow": 0, "rule_low": 0, "rule_calm": 0,
    }  # fmt: skip


def test_a_broken_rule_lets_the_fallback_hold_until_someone_recovers(fly):
    flight = fly(SLOW)
    outputs = []  # of a policy that dashes: it is told to be further and further away
    for _ in range(200):
        flight.target = flight.vehicle.truth().position + np.array([2.0, 0.0, 0.0])
        outputs += flight.run(0.01)
        if outputs[-1].mode != "active":
            break
    speed = float(np.linalg.norm(flight.vehicle.truth().linear_velocity))
    assert outputs[-1].mode == "holding" and outputs[-1].latched
    assert 0.6 <= speed < 0.7
    assert outputs[-1].cause.startswith("rule 'slow' is broken by") and "(speed = 0.6" in outputs[-1].cause
    assert flight.supervisor.counters["rule_slow"] == 1
    flight.target = flight.vehicle.truth().position.copy()
    later = flight.run(2.0)
    assert flight.modes(later) == ["holding"], later[-1].cause
    assert np.linalg.norm(flight.vehicle.truth().linear_velocity) < 0.1
    assert flight.supervisor.recover(flight.now) == (True, "recovered; the policy flies on")
    assert flight.modes(flight.run(0.5)) == ["active"]


def test_nobody_recovers_so_it_comes_down(fly):
    flight = fly(Rule(name="never", formula="always height < 0.5"), rule_hold_time=1.0)
    outputs = [*flight.outputs[-49:], *flight.run(5.0)]  # armed in the air above the limit it is broken at once
    assert flight.modes(outputs) == ["holding", "descending", "fault"]
    assert "nobody recovered for 1 s after: rule 'never'" in flight.supervisor.cause
    assert not flight.vehicle.crashed


def test_a_rule_that_brakes_brings_it_down_at_once(fly):
    flight = fly(LOW)
    flight.target = np.array([0.0, 0.0, 2.0])
    outputs = flight.run(6.0)
    assert flight.modes(outputs) == ["active", "descending", "fault"]
    assert max(flight.heights) < 1.8
    assert "rule 'low' is broken" in outputs[-1].cause and not flight.vehicle.crashed


def test_rules_come_with_the_manifest(fly, in_air):
    rules = ({"name": "low", "formula": "always height < 1.3", "reaction": "brake"},)
    flight = fly(envelope=dataclasses.replace(in_air.supervisor.envelope, rules=rules))
    flight.target = np.array([0.0, 0.0, 2.0])
    assert "descending" in flight.modes(flight.run(3.0))


def test_a_rule_that_nobody_can_judge_is_refused_at_the_start(in_air):
    config = SupervisorConfig(rules=(Rule(name="far", formula="always distance < 1"),))
    with pytest.raises(ValueError, match="unknown signal distance"):
        QuadrotorSupervisor(load_description("crazyflie"), in_air.supervisor.envelope, 100.0, config)


def test_a_supervisor_that_stood_still_brings_the_vehicle_down(in_air):
    """Whatever it was told meanwhile: the vehicle's own watchdog has flown it."""
    in_air.vehicle.advance(0.7)
    outputs = in_air.run(0.5)
    assert in_air.modes(outputs) == ["descending"]
    assert "the supervisor stood still for 7" in outputs[-1].cause
