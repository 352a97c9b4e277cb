"""The matrix of faults: its judges can say no, the cells in made time pass, a few of the others are run for real."""

import json

import numpy as np
import pytest

import policies
from hardware.controllers.joint_position import symmetric_limit
from hardware.descriptions import load_arm
from hardware.drivers import bridged_quadrotor
from hardware.drivers.simulated import sensors_dtype, torques_dtype
from policies.bundle import BundleError
from robot_rl.bench.faults import arm_cells, arm_made_time, arm_refusals, spoiled_commands
from robot_rl.bench.faults.arm import ArmArena, run_cells
from robot_rl.bench.faults.cells import Finding, Stage, judge, section, table
from robot_rl.bench.faults.observed import ArmObserved, QuadrotorObserved

PANDA = load_arm("panda")
WHERE = {"machine": "a machine", "commit": "abc"}
LIMIT, RATE = (symmetric_limit(PANDA, name) for name in ("torque", "torque_rate"))


def observed(*torques, numbers=None, stop=(), gripper=0.0):
    orders = np.zeros(len(torques), torques_dtype(7))
    orders["torques"], orders["gripper"] = torques, gripper
    orders["order"][list(stop)] = 1
    numbers = np.arange(len(torques)) if numbers is None else np.array(numbers)
    samples = np.zeros(3, sensors_dtype(7))
    samples["braked"] = [False, False, True]
    times = 10.0 + 0.002 * np.arange(len(torques))
    return ArmObserved(
        sequence=numbers, seen=times, orders=orders, sampled=np.array([10.0, 10.5, 11.0]), samples=samples
    )


def test_the_observer_passes_what_is_within_the_limits():
    ramp = [k * 0.002 * RATE for k in range(5)]
    assert observed(*ramp).outside("panda") == []
    # Five steps at once, four of them unseen, and a stop, after which torques begin at nothing.
    assert observed(ramp[0], ramp[4], 0 * RATE, ramp[1], numbers=[0, 4, 5, 6], stop=[2]).outside("panda") == []
    assert observed(ramp[0], ramp[4], numbers=[0, 4]).missed == 3


@pytest.mark.parametrize(
    ("torques", "words"),
    [
        ([np.full(7, np.nan)], "not finite"),
        ([LIMIT * 1.01], "beyond the torque limits"),
        ([np.zeros(7), 0.003 * RATE], "changes by"),
    ],
)
def test_the_observer_finds_what_is_not(torques, words):
    (found,) = observed(*torques).outside("panda")
    assert words in found


def test_the_observer_finds_a_gripper_that_is_no_number():
    assert "gripper" in observed(np.zeros(7), gripper=np.nan).outside("panda")[0]


def test_brakes_are_the_first_order_or_the_first_sample_that_says_so():
    assert observed(np.zeros(7), np.zeros(7)).braked_after(10.0) == pytest.approx(1.0)
    assert observed(np.zeros(7), np.zeros(7), stop=[1]).braked_after(10.0) == pytest.approx(0.002)
    assert observed(np.zeros(7)).braked_after(11.5) is None


@pytest.mark.parametrize(
    ("seconds", "problems"),
    [(0.3, []), (0.34, []), (0.36, ["holding after 360 ms (limit 300 ms)"]),
     (0.1, ["holding after 100 ms, not before 200"]), (None, ["never holding"])],
)  # fmt: skip
def test_a_time_that_is_late_early_or_missing_is_said(seconds, problems):
    finding = Finding(robot="arm", victim="policy", fault="killed")
    times = {} if seconds is None else {"holding": seconds}
    judge(finding, [Stage(mode="holding", within=0.3, not_before=0.2)], times, late=0.05)
    assert finding.problems == problems and finding.passed == (not problems)


def test_the_page_says_what_was_found():
    good = Finding(robot="arm", victim="policy process", fault="killed", sequence=[("holding", 0.288)], cause="a | b",
                   way_back="recover", commands=500)  # fmt: skip
    bad = Finding(robot="arm", victim="face", fault="hung", problems=["never holding"], outside=2, commands=3)
    lines = table([good.to_dict(), bad.to_dict()])
    assert "| policy process | killed | holding 288 | - | a / b | recover |" in lines
    assert "**not as it should be: never holding**" in lines[-1]
    cells = [good.to_dict(), bad.to_dict()]
    stored = json.loads(json.dumps({"where": WHERE, "late": 0.05, "arm": {"seconds": 1.0, "cells": cells}}))
    page = "\n".join(section(stored))
    assert "2 cells, 1 as they should be; 503 commands seen," in page and "2 outside the limits" in page


@pytest.mark.parametrize("index", range(len(arm_made_time.made_cells())))
def test_cells_in_made_time(index):
    (finding,) = arm_made_time.run_made_cells(arm_made_time.made_cells()[index : index + 1])
    assert finding.problems == [] and finding.commands > 100


def test_bundles_that_are_no_good_are_refused_by_name(tmp_path):
    for fault, path, words in arm_refusals.spoiled_bundles(tmp_path):
        with pytest.raises(BundleError) as refusal:
            policies.load(path, robot=PANDA.interface)
        assert words in str(refusal.value), fault


def chosen(cells, *faults):
    found = [cell for cell in cells if cell.fault in faults]
    assert len(found) == len(faults)
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_cells_of_the_arm(tmp_path):
    """Times with room for a busy machine: they are limits, not speed."""
    cells = chosen(arm_cells.state_cells(), "permuted", "infinite", "stopped for 250 ms", "stamps 1 s in the future")
    cells += chosen(arm_cells.command_cells(), "not a number", "joint targets permuted", "torques beyond the limits")
    cells += chosen(arm_refusals.refusal_cells(tmp_path), "a second control process", "for another robot")
    findings = run_cells(ArmArena(policy=False, late=0.3), cells)
    assert [finding.line() for finding in findings if not finding.passed] == []
    assert all(finding.commands > 50 and finding.outside == 0 for finding in findings)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_cells_of_the_quadrotor():
    pytest.importorskip("rclpy")
    from robot_rl.bench.faults import quadrotor, quadrotor_cells

    cells = chosen(quadrotor_cells.state_cells(), "jumps by 5 m", "not a number")
    hurt = ("control process", "killed"), ("node supervisor", "frozen"), ("policy process", "frozen")
    cells += [cell for cell in quadrotor_cells.process_cells() if (cell.victim, cell.fault) in hurt]
    findings = quadrotor.run_cells(quadrotor.QuadrotorArena(domain=64, late=0.3), cells)
    assert [finding.line() for finding in findings if not finding.passed] == []


def test_spoiled_commands(tmp_path):
    def spoiled(fault, count=1):
        values, stamp = spoiled_commands.command_fault(fault)(np.arange(4.0), 100.0, count)
        return values.tolist(), stamp

    assert spoiled("") == ([0.0, 1.0, 2.0, 3.0], 100.0)
    assert np.isnan(spoiled("nan")[0][1]) and spoiled("inf")[0][1] == np.inf and spoiled("beyond")[0][1] == 1e5
    assert spoiled("jump") == ([0.0, 1.0, 2.0, 3.0], 100.0) and spoiled("jump", 20) == ([0.0] * 4, 100.0)
    assert spoiled("stamp=-1")[1] == 99.0
    with pytest.raises(ValueError, match="no fault 'missing'; there are nan"):
        spoiled_commands.spoil(tmp_path, "missing")


def motors(*speeds):
    orders = np.zeros(len(speeds), bridged_quadrotor.MOTORS_RECORD)
    orders["values"] = speeds
    seen = 10.0 + 0.01 * np.arange(len(speeds))
    samples = np.zeros(0, bridged_quadrotor.SENSORS_RECORD)
    return QuadrotorObserved(
        sequence=np.arange(len(speeds)), seen=seen, orders=orders, sampled=np.zeros(0), samples=samples
    )


def test_the_observer_of_a_quadrotor_finds_what_is_outside_and_when_it_is_off():
    flight = motors([1000.0] * 4, [2272.0] * 4, [0.0] * 4)
    assert flight.outside("crazyflie") == [] and flight.off_after(10.0) == pytest.approx(0.02)
    assert flight.off_after(10.03) is None
    assert not flight.turning_since(10.0) and motors([1000.0] * 4).turning_since(10.0)
    assert "not finite" in motors([np.nan] * 4).outside("crazyflie")[0]
    assert "leaves [0" in motors([-1.0] * 4).outside("crazyflie")[0]
    assert "leaves [0" in motors([3000.0] * 4).outside("crazyflie")[0]
