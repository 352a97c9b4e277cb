"""The page as the operator's device of a human-in-the-loop run."""

from __future__ import annotations

import asyncio
import json
import stat
import time

import numpy as np
import pytest

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("mujoco")
pytest.importorskip("msgpack")

from robot_rl.cockpit.episodes import EpisodeRow, curves, episodes_message  # noqa: E402
from robot_rl.cockpit.hil import read_rows  # noqa: E402
from robot_rl.errors import UserError  # noqa: E402
from robot_rl.hil.devices import open_device  # noqa: E402
from robot_rl.hil.judged import JudgedPlant  # noqa: E402
from robot_rl.hil.person import PersonOperator  # noqa: E402
from robot_rl.hil.plant import SimulatedPlant  # noqa: E402
from robot_rl.hil.rollout import Rollout  # noqa: E402
from sim.tasks import TASKS  # noqa: E402


def row(number, **changes):
    told = {"number": number, "success": True, "discarded": False, "seconds": 4.0, "steps": 40, "intervened": 10}
    return json.dumps({**told, **changes})


def test_curves_are_means_over_the_last_episodes():
    rows = [
        EpisodeRow(number=1, outcome="failure", seconds=8.0, helped=1.0),
        EpisodeRow(number=2, outcome="success", seconds=4.0, helped=0.5),
        EpisodeRow(number=3, outcome="discarded", seconds=1.0, helped=1.0),
        EpisodeRow(number=4, outcome="success", seconds=2.0, helped=0.0),
    ]
    found = curves(rows, window=2)
    assert found["success"] == [0.0, 0.5, 1.0]
    assert found["intervention"] == [1.0, 0.75, 0.25]
    assert found["cycle_time"] == [None, 4.0, 3.0]
    assert [one["number"] for one in episodes_message(rows, most=2)["rows"]] == [4, 3]


def test_a_run_s_episodes_are_read_while_they_are_written(tmp_path):
    path = tmp_path / "episodes.jsonl"
    assert read_rows(path) == []
    path.write_text(row(0) + "\n" + row(1, success=False, intervened=40) + "\n" + row(2)[:-10])
    found = read_rows(path)
    assert [(one.number, one.outcome, one.helped) for one in found] == [(1, "success", 0.25), (2, "failure", 1.0)]


def test_the_device_is_named_cockpit():
    device = open_device("cockpit:9123")
    assert "printed when the robot is ready" in device.help() and not device.read().connected
    device.close()
    with pytest.raises(UserError, match="is no port"):
        open_device("cockpit:http")


def test_a_run_is_watched_and_corrected_from_the_page(tmp_path):
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor" / "episodes.jsonl").write_text(row(0) + "\n")
    task = TASKS["arm-reach"]
    plant = SimulatedPlant(task, seed=1, randomization=())
    device = open_device("cockpit")
    device._port = 0
    rollout = Rollout(JudgedPlant(plant, judge=Never()), PersonOperator(device, task.action, task.period))
    device.attend(rollout.plant, rollout, tmp_path)
    server = device._server
    rest = np.zeros(plant.action_size, np.float32)
    try:
        rollout.begin()
        rollout.step(lambda moment, index: (rest, None))
        seen, record = asyncio.run(watch_and_drive(server, rollout, rest))
    finally:
        device.close()
        plant.close()
    assert seen["setup"]["task"] == "arm-reach" and seen["setup"]["policy"] == "in training"
    assert seen["episodes"]["curves"]["success"] == [1.0]
    assert len(seen["state"]["arms"]["arm"]["positions"]) == 7
    assert record.driver == "person" and record.action[1] > 0.1
    token = tmp_path / "actor" / "page.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    again = open_device("cockpit")
    again._port = 0
    again.attend(rollout.plant, rollout, tmp_path)
    assert again._server.access.token == server.access.token, "an actor that is started again keeps its link"
    again.close()


class Never:
    """A judge that is never content."""

    last_probability = 0.0

    def reset(self):
        pass

    def success(self, images, state):
        return False


async def watch_and_drive(server, rollout, rest):
    base = f"http://127.0.0.1:{server.access.port}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(server.link):
            pass
        page = await browser.ws_connect(f"{base}/socket", origin=base)
        await page.send_json({"type": "take"})
        seen, end, sequence, record = {}, time.monotonic() + 20.0, 0, None
        while time.monotonic() < end:
            message = await page.receive(timeout=10.0)
            if message.type == aiohttp.WSMsgType.TEXT:
                data = json.loads(message.data)
                seen[data["type"]] = data
                if data["type"] == "ping":
                    await page.send_json({"type": "pong", "asked": data["asked"], "at": time.monotonic()})
            sequence += 1
            fields = {"motion": [0, 1, 0, 0, 0, 0], "dead_man": True, "clutch": True}
            await page.send_json({"type": "command", "sequence": sequence, "at": time.monotonic(), **fields})
            await asyncio.sleep(0.01)
            record = rollout.step(lambda moment, index: (rest, None)) or record
            if record.driver == "person" and {"setup", "state", "episodes"} <= set(seen):
                return seen, record
    raise AssertionError(f"the person did not get to drive; heard of {sorted(seen)}")
