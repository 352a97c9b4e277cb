"""Each process of a moving arm is killed: the arm stops first, then everything ends, and nothing is left."""

import signal
import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_probe import PATIENCE  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("victim", ["supervisor", "sim", "policy", "control process", "simulation process",
                                    "policy process"])  # fmt: skip
def test_death_of_a_critical_process_ends_all(bring_up, victim):
    """The arm stops first: by the driver, by its own brakes, or by holding; then everything ends, with an error."""
    running = bring_up("policy:=arm-reach", "task:=arm-reach", "arm:=true").attach()
    running.probe.wait_mode("active", PATIENCE)
    owners = {"control process": "supervisor", "simulation process": "sim", "policy process": "policy"}
    pid = running.up.plane(owners[victim]) if victim in owners else running.up.pid(victim)
    simulated = running.client.simulation() if victim in ("sim", "simulation process") else None
    running.up.signal(pid, signal.SIGKILL)
    if "policy" in victim:
        begin = time.monotonic()
        while (status := running.client.status()).mode != "holding":
            assert time.monotonic() - begin < 3.0
            time.sleep(0.001)
        assert status.since - begin < 0.6 and "policy output" in status.cause
    elif simulated is None:
        begin = time.monotonic()
        while not running.client.simulation()["braked"]:
            assert time.monotonic() - begin < 1.0
            time.sleep(0.001)
    running.client.close()
    assert running.up.ends(within=40.0) == 1
