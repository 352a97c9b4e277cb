"""Nothing that a page says can do harm, and what is sent to it is what was meant."""

from __future__ import annotations

import asyncio
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.cockpit import messages
from robot_rl.cockpit.messages import MessageError, parse
from robot_rl.cockpit.viewer import MOST_UNSEEN, Viewer

GOOD = {
    "type": "command", "sequence": 3, "at": 1.5, "motion": [0, 0.5, -1, 0, 0, 1.0], "dead_man": True, "clutch": True,
    "held": ["slow"], "pressed": ["gripper"],
}  # fmt: skip


def test_a_command_is_read():
    command = parse(json.dumps(GOOD))["command"]
    assert (command.sequence, command.at, command.dead_man, command.clutch) == (3, 1.5, True, True)
    assert command.motion == (0.0, 0.5, -1.0, 0.0, 0.0, 1.0)
    assert command.held == {"slow"} and command.pressed == {"gripper"}


@pytest.mark.parametrize(
    "change",
    [
        {"motion": [0] * 5}, {"motion": [2, 0, 0, 0, 0, 0]}, {"motion": ["1", 0, 0, 0, 0, 0]}, {"motion": [True] * 6},
        {"sequence": -1}, {"sequence": 1.5}, {"at": "now"}, {"at": 1e300}, {"pressed": ["explode"]},
        {"pressed": "gripper"}, {"held": ["slow"] * 99}, {"type": "reboot"}, {"type": None},
    ],
)  # fmt: skip
def test_a_wrong_command_is_refused(change):
    with pytest.raises(MessageError):
        parse(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("word", ["true", 1, "yes", [True]])
def test_only_a_true_dead_man_is_one(word):
    assert not parse(json.dumps({**GOOD, "dead_man": word}))["command"].dead_man


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"type":"pong"}', "[" * 4000, '{"a":NaN}', "x" * 5000])
def test_what_is_no_message_is_refused(text):
    with pytest.raises(MessageError):
        parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(GOOD)), json_values)
def test_hostile_values_end_in_a_sentence(key, value):
    try:
        found = parse(json.dumps({**GOOD, key: value}))
    except MessageError as error:
        assert str(error)
        return
    assert found["type"] in ("command", "take", "leave")
    if "command" in found:
        assert all(abs(deflection) <= 1.0 for deflection in found["command"].motion)


def test_pictures_and_poses_carry_their_time():
    data = messages.picture(3, 2**32 + 7, 12.25, b"jpeg")
    assert messages.HEADER.size == 16
    assert struct.unpack_from("<BBHId", data) == (messages.PICTURE, 3, 0, 7, 12.25) and data[16:] == b"jpeg"
    assert messages.poses(1, 2.0, b"1234")[0] == messages.POSES


def test_states_know_arrays_and_refuse_what_json_cannot_say():
    assert json.loads(messages.text("state", {"q": np.arange(2.0)})) == {"type": "state", "q": [0.0, 1.0]}
    assert messages.finite(float("nan")) is None
    with pytest.raises(ValueError):
        messages.text("state", {"q": float("nan")})


class Wire:
    """A connection that keeps what is sent."""

    def __init__(self):
        self.sent = []

    async def send_str(self, text):
        self.sent.append(text)

    async def send_bytes(self, data):
        self.sent.append(data)


def run_viewer(script):
    """What goes out while `script(viewer, settle)` runs."""

    async def run():
        viewer, wire = Viewer("page 1"), Wire()
        task = asyncio.ensure_future(viewer.run(wire))

        async def settle():
            for _ in range(5):
                await asyncio.sleep(0)

        await script(viewer, settle)
        task.cancel()
        return viewer, wire.sent

    return asyncio.run(run())


def test_a_slow_page_gets_newer_pictures_and_not_older_ones():
    async def script(viewer, settle):
        for number in range(1, 10):
            viewer.show(0, number, b"%d" % number)
            await settle()
        viewer.shown(0, 1)
        await settle()
        viewer.show(0, 10, b"10")
        viewer.show(0, 11, b"11")
        viewer.shown(0, 2)
        await settle()

    viewer, sent = run_viewer(script)
    assert sent == [b"1", b"2", b"9", b"11"], f"at most {MOST_UNSEEN} on their way, then the newest"
    assert viewer.dropped == 7


def test_every_camera_has_its_own_way_and_states_come_first():
    async def script(viewer, settle):
        for number in range(1, 4):
            viewer.show(0, number, b"a%d" % number)
            await settle()
        viewer.show(1, 4, b"b")
        viewer.tell("state", "old")
        viewer.tell("state", "new")
        await settle()

    _, sent = run_viewer(script)
    assert sent == [b"a1", b"a2", "new", b"b"]
