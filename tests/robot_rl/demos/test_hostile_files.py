"""Damaged and hostile files cost themselves only, and are said in one sentence."""

import dataclasses
import json
import random
import time

import numpy as np
import pytest
from mcap.writer import Writer

from robot_rl import cli
from robot_rl.demos.check import check
from robot_rl.demos.dataset import open_set
from robot_rl.episodes import load_episodes
from robot_rl.hil.log import RecordLog
from robot_rl.recording import EpisodeWriter, marks


def damaged(data, kind, generator):
    """Bytes of a file after an accident, or an attack."""
    data = bytearray(data)
    place = generator.randrange(len(data))
    if kind == "cut":
        return bytes(data[:place])
    if kind == "flipped":
        for _ in range(generator.choice([1, 8, 64])):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    elif kind == "zeros":
        data[place : place + 4096] = bytes(len(data[place : place + 4096]))
    elif kind == "huge":  # a length that is no length
        data[place : place + 8] = generator.choice([b"\xff" * 8, b"\xff\xff\xff\x7f\0\0\0\0", b"\0\0\0\0\0\0\0\x40"])
    elif kind == "doubled":
        data = data + data
    elif kind == "noise":
        data = bytearray(generator.randbytes(len(data)))
    elif kind == "inserted":
        data[place:place] = generator.randbytes(generator.choice([1, 100]))
    return bytes(data)


KINDS = ("cut", "flipped", "zeros", "huge", "doubled", "noise", "inserted")


def make(kind, tmp_path, tools):
    point_records, write_episode, point_schema = tools
    if kind == "mcap":
        return write_episode(tmp_path / "made", point_records(20, cameras=("front",)), ("front",))
    with RecordLog(tmp_path / "made" / "steps.log", point_schema(("front",))) as log:
        for number in range(2):
            for record in point_records(20, seed=number, cameras=("front",)):
                log.append(dataclasses.replace(record, episode=number))
    return tmp_path / "made" / "steps.log"


@pytest.mark.parametrize("kind", ["mcap", "log"])
def test_a_damaged_file_costs_itself_only(kind, tmp_path, tools):
    point_records, write_episode, _ = tools
    whole = make(kind, tmp_path, tools).read_bytes()
    folder = tmp_path / "set"
    good = write_episode(folder, point_records(20, seed=9))
    bad = folder / f"episode-000005.{kind}"
    generator = random.Random(0)
    for count in range(70):
        bad.write_bytes(damaged(whole, KINDS[count % len(KINDS)], generator))
        began = time.monotonic()
        data = open_set(folder)
        assert time.monotonic() - began < 5.0
        assert good.name in {one.name for one in data}
        for sentence in (*data.unreadable.values(), *data.repaired.values()):
            assert sentence and "\n" not in sentence and len(sentence) < 600
            assert "Traceback" not in sentence
        for one in data:
            assert np.isfinite(one.episode.observations).all() and np.abs(one.episode.actions).max() <= 1.0001
        check(data)
        assert load_episodes(folder, problems=[])


def test_what_every_command_says_of_a_bad_file_is_one_sentence(record_set, tmp_path, capsys):
    folder = record_set(4, noise=0.2)
    (folder / "episode-000001.mcap").write_bytes(b"\x89MCAP0\r\n" + b"\xff" * 100)
    (folder / "episode-000007.log").write_bytes(b"")
    commands = [["list"], ["show"], ["score"], ["split", "--out", str(tmp_path / "parts")]]
    commands.append(["convert", "--to", "gymnasium", "--out", str(tmp_path / "min-v0")])
    for name, *options in commands:
        assert cli.main(["demos", name, str(folder), *options]) == 0
        said = capsys.readouterr().err.splitlines()
        assert len([line for line in said if "episode-000001.mcap" in line]) == 1, said
    assert len(open_set(tmp_path / "parts" / "train")) + len(open_set(tmp_path / "parts" / "valid")) == 3
    for file in folder.glob("episode-00000[023].*"):
        file.unlink()
    for name, *options in (*commands, ["replay"]):
        if name != "list":
            status = cli.main(["demos", name, str(folder), *(o.replace(str(tmp_path), str(folder)) for o in options)])
            assert status == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_a_recording_of_another_kind_is_none_of_ours(tmp_path, capsys):
    with open(tmp_path / "other.mcap", "wb") as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema("Thing", "jsonschema", b"{}")
        channel = writer.register_channel("/thing", "json", schema)
        writer.add_message(channel, 0, b"{}", 0)
        writer.finish()
    data = open_set(tmp_path)
    assert not len(data) and "no control steps" in data.unreadable["other.mcap"]
    assert cli.main(["demos", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


HOSTILE = [
    {"task": "arm-reach", "seed": "0; rm -rf /"},
    {"task": "arm-reach", "seed": -1},
    {"task": "../../etc/passwd", "seed": 0},
    {"task": "arm-reach", "seed": 0, "settings": {"__class__": 1.0}},
    {"task": "arm-reach", "seed": 0, "settings": 7},
    {"task": "arm-reach", "seed": 0, "randomization": "/etc/passwd"},
    {"task": "arm-reach", "seed": 0, "randomization": [{"parameter": "x", "evil": 1}]},
    {"task": "arm-reach", "seed": 0, "randomization": 3},
    {"task": "arm-reach", "seed": 0, "engine": "os.system"},
    {"task": ["arm-reach"], "seed": 0},
    {"task": "arm-reach", "seed": 0, "steps_of_original": "all"},
    {"quality": "\x1b[2J\x07 clears the screen"},
]


@pytest.mark.parametrize("info", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_recording_says_of_itself_is_not_believed(info, tmp_path, tools, capsys):
    pytest.importorskip("mujoco")
    point_records, write_episode, _ = tools
    write_episode(tmp_path / "set", point_records(10), info=info)
    assert cli.main(["demos", "replay", str(tmp_path / "set"), "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["success"] is None and row["problem"] and "\n" not in row["problem"]
    assert cli.main(["demos", "list", str(tmp_path / "set")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_mark_that_says_too_much_is_refused(tmp_path, tools):
    point_records, _, point_schema = tools
    with EpisodeWriter(tmp_path, point_schema()) as writer:
        writer.begin({"deep": json.loads("[" * 500 + "]" * 500)})
        for record in point_records(5):
            writer.step(record)
        writer.end(True, "test")
    (one,) = open_set(tmp_path)
    assert one.info["deep"] and marks.BEGIN == "robot_rl.begin"
    assert cli.main(["demos", "list", str(tmp_path), "--json"]) == 0
