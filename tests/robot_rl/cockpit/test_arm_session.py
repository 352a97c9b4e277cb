"""A simulated arm behind the page: driven, corrected, recorded, and stopped when nobody holds the dead-man."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("mujoco")
pytest.importorskip("mcap")
pytest.importorskip("rosbags")

from policies import rotation  # noqa: E402
from robot_rl.cockpit.access import Access  # noqa: E402
from robot_rl.cockpit.arm_session import ArmSession  # noqa: E402
from robot_rl.cockpit.clock import ClockOffset  # noqa: E402
from robot_rl.cockpit.config import CockpitConfig  # noqa: E402
from robot_rl.cockpit.device import PageDevice  # noqa: E402
from robot_rl.cockpit.messages import Command  # noqa: E402
from robot_rl.cockpit.server import CockpitServer  # noqa: E402
from robot_rl.demos.plants import build_plant, find_task  # noqa: E402
from robot_rl.episodes import load_episodes  # noqa: E402
from robot_rl.recording import load_recording  # noqa: E402


class Hands:
    """What a page sends, fifty times a second, from a thread."""

    def __init__(self, device: PageDevice):
        self.device = device
        self.motion = (0.0,) * 6
        self.dead_man = self.silent = self.closed = False
        self.pressed: set[str] = set()
        self.offset = ClockOffset()
        now = time.monotonic()
        self.offset.answer(now, now, now)
        self.sequence = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.closed:
            if not self.silent:
                self.sequence += 1
                pressed, self.pressed = frozenset(self.pressed), set()
                now = time.monotonic()
                command = Command(
                    sequence=self.sequence, at=now, motion=self.motion, dead_man=self.dead_man, clutch=True,
                    held=frozenset(), pressed=pressed,
                )  # fmt: skip
                self.device.feed(command, now, self.offset)
            time.sleep(0.02)


@pytest.fixture
def start(tmp_path):
    """Starts a session in a thread: (config) → session, hands."""
    started = []

    def begin(seated=True, **changes):
        config = CockpitConfig(**{"task": "arm-pick-lift", "out": tmp_path / "set", "randomization": "none", **changes})
        server = CockpitServer(Access(port=0), PageDevice())
        session = ArmSession(config, server)
        hands = Hands(server.device)
        server.device.occupy(seated)
        thread = threading.Thread(target=session.run, daemon=True)
        thread.start()
        started.append((session, server, hands, thread))
        wait_for(lambda: session._seen is not None)  # a dead-man that is held from before does not count
        return session, hands

    yield begin
    for session, server, hands, thread in started:
        hands.closed = True
        session.controls.close()
        thread.join(10.0)
        session.close()
        server.close()


def wait_for(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def reach_for(state):
    """What a person does who sees cube and tool: above it, down around it, close, lift."""
    cube, at = state.objects["cube"][0].numpy(), state.tool_pose[0].numpy()
    away = cube[:3] - at[:3]
    aside = float(np.linalg.norm(away[:2]))
    turn = float(rotation.yaw_of(cube[3:]) - rotation.yaw_of(at[3:]))
    turn -= 0.5 * math.pi * round(turn / (0.5 * math.pi))
    around = aside < 0.012 and abs(away[2]) < 0.014 and abs(turn) < 0.2
    if around and float(state.gripper_width[0]) < 0.052:
        return (0.0, 0.0, 0.7, 0.0, 0.0, 0.0), True
    height = 0.06 if aside > 0.01 or abs(turn) > 0.15 else 0.0
    wanted = np.clip(12.0 * np.array([away[0], away[1], away[2] + height]), -1.0, 1.0)
    return (*map(float, wanted), 0.0, 0.0, float(np.clip(2.0 * turn, -1.0, 1.0))), around


def tool(session):
    return np.asarray(session.plant.env.engine.kinematics("arm").tool_position[0]).copy()


def test_the_arm_goes_where_it_is_driven_and_stands_when_the_dead_man_is_let_go(start):
    session, hands = start()
    before = tool(session)
    time.sleep(0.3)
    assert session.rollout.steps == 0, "nobody drives: time stands still"
    hands.motion, hands.dead_man = (0, 1.0, 0, 0, 0, 0), True
    wait_for(lambda: session.rollout.steps >= 6)
    hands.dead_man = False
    moved = tool(session) - before
    assert moved[1] > 0.03 and abs(moved[0]) < 0.02
    time.sleep(0.6)  # two more steps of rest, then the policy, if there were one, would go on
    stands, steps = tool(session), session.rollout.steps
    time.sleep(0.3)
    assert session.rollout.steps == steps and np.linalg.norm(tool(session) - stands) < 1e-9


def test_a_page_that_falls_silent_stops_the_arm(start):
    session, hands = start()
    hands.pressed = {"take_over"}  # time goes on while the person thinks
    hands.motion, hands.dead_man = (0, 0, 0.7, 0, 0, 0), True
    wait_for(lambda: session.rollout.steps >= 5)
    hands.silent = True
    time.sleep(0.15 + session.task.period + 0.15)
    stands = tool(session)
    time.sleep(0.3)
    assert np.linalg.norm(tool(session) - stands) < 1e-3
    wait_for(lambda: session.operator.state.mode == "paused")


def test_simulated_time_is_real_time(start):
    session, hands = start()
    hands.pressed = {"take_over"}
    wait_for(lambda: session.rollout.steps >= 2)
    began, steps = time.monotonic(), session.rollout.steps
    time.sleep(2.0)
    rate = (session.rollout.steps - steps) / (time.monotonic() - began)
    assert rate == pytest.approx(session.task.control_rate_hz, rel=0.08)


def test_a_policy_drives_only_while_somebody_has_the_seat_and_is_corrected(start):
    session, hands = start(policy="expert", record=True, seated=False)
    wait_for(lambda: session.operator.state.mode == "paused")
    session._server.device.occupy(True)
    time.sleep(0.1)
    assert session.rollout.steps == 0, "to have the seat is not to let it go on"
    hands.pressed = {"pause"}
    wait_for(lambda: session.rollout.steps >= 4)
    assert session.operator.state.mode == "autonomous"
    hands.motion, hands.dead_man = (0, 0, 1.0, 0, 0, 0), True
    wait_for(lambda: session.rollout.statistics.intervened >= 4)
    hands.dead_man = False
    wait_for(lambda: len(session.rows) >= 1)
    assert session.rows[0].outcome == "success" and 0.0 < session.rows[0].helped < 0.9
    episode = load_episodes(session.recorder.folder)[0]
    assert set(episode.drivers) == {"policy", "person"}
    session._server.device.occupy(False)  # the page is closed
    wait_for(lambda: session.operator.state.mode == "paused")
    steps = session.rollout.steps
    time.sleep(0.3)
    assert session.rollout.steps - steps <= 1


def test_what_was_recorded_is_what_happened(start):
    """The person solves the task; the recording begins and goes as it did, and ends in success again."""
    session, hands = start(record=True, linear=0.3, angular=1.5, randomization="default", seed=5)
    device = session._server.device
    device.config = type(device.config)(linear=0.3, angular=1.5)
    hands.dead_man = open_ = True
    end = time.monotonic() + 40.0
    while not session.rows and time.monotonic() < end:
        hands.motion, close = reach_for(session.plant.env.measured)
        if close == open_:  # the button toggles
            hands.pressed, open_ = {"gripper"}, not close
        time.sleep(0.02)
    assert session.rows and session.rows[0].outcome == "success"
    wait_for(lambda: session.recorder.count >= 1)
    path = session.recorder.folder / session.rows[0].file
    recording = load_recording(path)
    info = recording.info
    assert (info["task"], info["seed"], info["operator"]) == ("arm-pick-lift", 5, "page")
    (episode,) = load_episodes(path)
    assert episode.success and set(episode.drivers) == {"person"}
    np.testing.assert_allclose(np.diff(episode.observed_at), 0.1, atol=1e-6)  # pauses are no part of it

    plant = build_plant(find_task(info["task"], info["settings"]), info["randomization"])
    plant.next_seed = info["seed"]
    first = plant.reset()
    np.testing.assert_allclose(first.observation, episode.observations[0], atol=1e-6)
    outcomes = [plant.step(action) for action in episode.actions]
    plant.close()
    assert outcomes[-1].success and not any(outcome.success for outcome in outcomes[:-1])


@pytest.mark.slow
def test_verdicts_end_episodes_and_a_discarded_one_leaves_no_file(start):
    session, hands = start(record=True)
    for number, verdict in enumerate(("failure", "discard", "success"), start=1):
        hands.motion, hands.dead_man = (0, 0.5, 0, 0, 0, 0), True
        wait_for(lambda: session.rollout.running and session.rollout.statistics.steps >= 2)
        hands.pressed = {verdict}
        wait_for(lambda number=number: len(session.rows) == number)
        hands.dead_man = False
        wait_for(lambda: session.rollout.running)
        time.sleep(0.3)
    assert [row.outcome for row in session.rows] == ["failure", "discarded", "success"]
    assert [bool(row.file) for row in session.rows] == [True, False, True]
    episodes = load_episodes(session.recorder.folder)
    assert [episode.success for episode in episodes] == [False, True]
    assert all(math.isfinite(episode.wall_time) for episode in episodes)


@pytest.mark.slow
def test_recording_is_turned_on_for_whole_episodes(start):
    session, hands = start()
    hands.motion, hands.dead_man = (0, 0.5, 0, 0, 0, 0), True
    wait_for(lambda: session.rollout.statistics.steps >= 2)
    session._server.requests.put({"action": "record", "on": True})
    wait_for(lambda: session.recorder.on)
    assert not session.recorder.running, "its beginning is missing"
    hands.pressed = {"failure"}
    wait_for(lambda: len(session.rows) == 1)
    hands.dead_man = False
    wait_for(lambda: session.recorder.running)
    assert session.rows[0].file == ""


def test_a_later_session_goes_on_with_other_starts(start, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "episode-000006.mcap").touch()
    session, _ = start(seed=100)
    assert session.plant.next_seed == 107


def test_a_full_disk_is_said_and_the_robot_goes_on(start, monkeypatch):
    from robot_rl.recording import EpisodeWriter, RecordingError

    def full(self, record):
        raise RecordingError("no space left on device")

    monkeypatch.setattr(EpisodeWriter, "step", full)
    session, hands = start(record=True)
    hands.motion, hands.dead_man = (0, 0.5, 0, 0, 0, 0), True
    wait_for(lambda: session.rollout.steps >= 4)
    assert not session.recorder.on and "no space left" in session._lines[-1]["text"]
