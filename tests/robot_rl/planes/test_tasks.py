"""What a bundle says about an arm's limits and its controller, and the barrier, reach the control process."""

import dataclasses
import importlib.util
import json
import os
import shutil

import pytest

from hardware.controllers.cartesian_impedance import ImpedanceGains
from hardware.descriptions import load_arm
from hardware.safety.arm_envelope import envelope_from_dict
from policies.bundle import BundleError, find_bundle
from robot_rl.nodes.arm_supervisor import SupervisorConfig, control_config
from robot_rl.planes.processes import Planes
from robot_rl.planes.tasks import planes_of_task, run_episode


@pytest.fixture
def bundle(tmp_path):
    """Limits, settings of the controller → a copy of a shipped bundle with them."""

    def make(controller=None, **limits):
        folder = tmp_path / "bundle"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(find_bundle("arm-reach"), folder)
        contents = json.loads((folder / "manifest.json").read_text())
        contents["envelope"]["arm"] = limits
        contents["controller"] = controller or {}
        (folder / "manifest.json").write_text(json.dumps(contents))
        return str(folder)

    return make


def test_a_bundle_without_an_arms_envelope_has_the_defaults_and_its_own_ages():
    control = planes_of_task("arm-reach", "arm-reach").control
    assert set(control.envelope) == {"state_age", "command_age_periods"}
    assert envelope_from_dict(control.envelope).contact_force == 100.0


def test_a_bundles_limits_go_to_the_control_process(bundle):
    rule = {"name": "soft", "formula": "always force < 30"}
    config = planes_of_task("arm-reach", bundle(table_height=0.0, contact_force=30.0, rules=[rule]))
    envelope = envelope_from_dict(config.control.envelope)
    assert (envelope.table_height, envelope.contact_force, envelope.rules[0].name) == (0.0, 30.0, "soft")


def test_the_controller_of_training_goes_to_the_control_process(bundle):
    given = {"compliant": {"clip_lower": [-0.001] * 6}, "slow_speed": 0.02, "slow_upper": [1.0, 1.0, 0.1]}
    for control in (
        planes_of_task("arm-reach", bundle(given)).control,
        control_config(SupervisorConfig(policy=bundle(given)), load_arm("panda").interface),
    ):
        assert control.controller.compliant.clip_lower == (-0.001,) * 6
        assert control.controller.compliant.clip_upper == ImpedanceGains().clip_upper
        assert (control.controller.slow_speed, control.controller.slow_upper) == (0.02, (1.0, 1.0, 0.1))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stiffness": 3.0}, "ArmControllerConfig has no field 'stiffness'"),
        ({"compliant": {"damping_ratio": "much"}}, "ImpedanceGains.damping_ratio is 'much'"),
        ({"slow_speed": -0.1}, "slow_speed is -0.1 m/s"),
    ],
)
def test_settings_of_no_controller_are_refused_by_name(bundle, given, says):
    with pytest.raises(ValueError, match=f"controller: {says}"):
        planes_of_task("arm-reach", bundle(given))


def test_limits_that_protect_nothing_are_refused_by_name(bundle):
    with pytest.raises(BundleError, match=r"envelope.arm.velocity_share: 7"):
        planes_of_task("arm-reach", bundle(velocity_share=7.0))
    box = {"lower": [0.0, 0.0, 1.0], "upper": [1.0, 1.0, 0.0]}
    with pytest.raises(ValueError, match=r"envelope.arm: box from .* is empty"):
        planes_of_task("arm-reach", bundle(forbidden=[box]))


def test_limits_that_are_a_range_for_the_node_too(bundle):
    supervisor = pytest.importorskip("robot_rl.nodes.arm_supervisor")
    from hardware.descriptions import load_arm

    interface = load_arm("panda").interface
    config = supervisor.SupervisorConfig(policy=bundle(contact_force=25.0))
    assert supervisor.control_config(config, interface).envelope["contact_force"] == 25.0
    box = {"lower": [0.0, 0.0, 1.0], "upper": [1.0, 1.0, 0.0]}
    config = supervisor.SupervisorConfig(policy=bundle(workspace=[box]))
    with pytest.raises(ValueError, match=r"envelope.arm: box from"):
        supervisor.control_config(config, interface)


def test_the_barrier_is_asked_for_by_name_and_refused_without_its_package(monkeypatch):
    interface = load_arm("panda").interface
    assert not control_config(SupervisorConfig(), interface).barrier
    assert control_config(SupervisorConfig(barrier=True), interface).barrier
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="parameter barrier needs the package 'daqp'"):
        control_config(SupervisorConfig(barrier=True), interface)


def test_an_arm_reaches_its_goal_with_the_barrier_in_its_loop():
    pytest.importorskip("daqp")
    config = planes_of_task("arm-reach", "arm-reach", name=f"barrier-{os.getpid()}")
    config = dataclasses.replace(config, control=dataclasses.replace(config.control, barrier=True))
    with Planes(config) as planes:
        assert run_episode(planes, 0).success
        assert planes.timing()["ticks"] > 200
