"""A simulated quadrotor behind the page: taken over in flight, standing without a dead-man, recorded."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("mujoco")
pytest.importorskip("rosbags")

from robot_rl.cockpit.access import Access  # noqa: E402
from robot_rl.cockpit.clock import ClockOffset  # noqa: E402
from robot_rl.cockpit.config import CockpitConfig, device_config  # noqa: E402
from robot_rl.cockpit.device import PageDevice  # noqa: E402
from robot_rl.cockpit.flight_session import FlightSession  # noqa: E402
from robot_rl.cockpit.messages import Command  # noqa: E402
from robot_rl.cockpit.server import CockpitServer  # noqa: E402
from robot_rl.errors import UserError  # noqa: E402
from robot_rl.recording import load_recording  # noqa: E402


@pytest.fixture
def flight(tmp_path):
    config = CockpitConfig(task="quadrotor-hover", out=tmp_path / "set", record=True)
    server = CockpitServer(Access(port=0), PageDevice(device_config(config, "quadrotor")))
    session = FlightSession(config, server)
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    yield session, server
    session.controls.close()
    thread.join(10.0)
    session.close()
    server.close()


def hold(device, seconds, until=None, sequence=[0], **fields):  # noqa: B006  (counts over all calls)
    """A page's commands for a while, or until something is so."""
    offset, end = ClockOffset(), time.monotonic() + seconds
    now = time.monotonic()
    offset.answer(now, now, now)
    while time.monotonic() < end and not (until is not None and until()):
        sequence[0] += 1
        now = time.monotonic()
        told = {"motion": (0.0,) * 6, "dead_man": False, "clutch": True, "held": frozenset(), "pressed": frozenset()}
        device.feed(Command(sequence=sequence[0], at=now, **{**told, **fields}), now, offset)
        time.sleep(0.02)
    assert until is None or until()


def wait_for(condition, timeout=40.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_person_takes_over_in_flight_and_the_vehicle_stands_without_them(flight):
    session, server = flight
    time.sleep(0.5)
    assert session.vehicle.truth().position[2] < 0.2, "without anybody in the seat it does not take off"
    server.device.occupy(True)
    hold(server.device, 0.1, pressed=frozenset({"hand_back"}))
    hold(server.device, 40.0, until=lambda: session.vehicle.truth().position[2] > 0.9)
    ahead = {"motion": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0), "dead_man": True}
    hold(server.device, 30.0, until=lambda: session.vehicle.truth().position[0] > 0.6, **ahead)
    assert session._mode == "correcting"
    server.device.occupy(False)  # the page is gone
    left = session._time
    wait_for(lambda: session._time > left + 3.0)  # on a crowded machine its time is slower than ours
    state = session.vehicle.truth()
    assert np.linalg.norm(state.linear_velocity) < 0.1 and state.position[2] > 0.7
    server.device.occupy(True)
    hold(server.device, 10.0, until=lambda: bool(session.rows), pressed=frozenset({"success"}))
    row = session.rows[0]
    assert row.outcome == "success" and 0.0 < row.helped < 1.0
    recording = load_recording(session.recorder.folder / row.file)
    assert recording.info["operator"] == "page"
    assert {"pose", "setpoint", "driver"} <= {name.strip("/") for name in recording.streams}


def test_a_quadrotor_has_no_scripted_expert():
    server = CockpitServer(Access(port=0), PageDevice())
    try:
        with pytest.raises(UserError, match="no scripted expert"):
            FlightSession(CockpitConfig(task="quadrotor-hover", policy="expert"), server)
        with pytest.raises(UserError, match="moves a"):
            FlightSession(CockpitConfig(task="quadrotor-hover", policy="arm-reach"), server)
    finally:
        server.close()
