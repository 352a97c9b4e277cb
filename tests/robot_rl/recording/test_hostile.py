"""Files that somebody else made, well or badly: read where they are sound, refused in one sentence where not."""

import io
import json
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from mcap.writer import CompressionType, Writer
from tests_workers import make_record, make_schema

from robot_rl.episodes import load_episodes
from robot_rl.recording import EpisodeWriter, RecordingError, load_recording, marks, messages, pictures
from robot_rl.recording.scan import MAGIC
from robot_rl.recording.stream import RecordedPictures
from robot_rl.recording.types import definition, serialize

STRING = "std_msgs/msg/String"


def foreign(path, *, compression=CompressionType.NONE, text=None, name=STRING, data=None, count=10, **options):
    """A file as another recorder writes it."""
    with open(path, "wb") as file:
        writer = Writer(file, compression=compression, **options)
        writer.start(profile="ros2", library="other")
        text = definition(STRING) if text is None else text
        schema = writer.register_schema(name, "ros2msg", text.encode())
        channel = writer.register_channel("chatter", "cdr", schema)
        for index in range(count):
            message = bytes(serialize(messages.text(f"word {index}"))) if data is None else data
            writer.add_message(channel, 10**18 + 10**7 * index, message, 10**18 + 10**7 * index - 500)
        writer.finish()
    return path


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
def test_files_of_other_recorders_are_read(tmp_path, compression, chunked):
    path = foreign(tmp_path / "bag.mcap", compression=compression, use_chunking=chunked, chunk_size=100)
    recording = load_recording(path)
    assert (recording.state, recording.problem, recording.schema) == ("finished", "", None)
    stream = recording.stream("chatter")
    assert [message.data for message in stream.messages()] == [f"word {index}" for index in range(10)]
    assert stream.message(7).data == "word 7"
    np.testing.assert_allclose(stream.received, 0.01 * np.arange(10), atol=1e-9)
    np.testing.assert_allclose(stream.received - stream.measured, 5e-7, atol=1e-9)


def test_types_of_ones_own_are_read_by_their_definition(tmp_path):
    text = "float64[3] x\nPair[] pairs\n" + "=" * 80 + "\nMSG: mine/Pair\nint32 a\nstring b\n"
    data = struct.pack("<4B3dIi", 0, 1, 0, 0, 1.0, 2.0, 3.0, 1, 5) + struct.pack("<I3s", 3, b"hi\0")
    path = foreign(tmp_path / "a.mcap", text=text, name="mine/msg/Thing", data=data)
    message = load_recording(path).stream("chatter").message(0)
    assert message.x.tolist() == [1.0, 2.0, 3.0]
    assert (message.pairs[0].a, message.pairs[0].b) == (5, "hi")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("string data\n", "std_msgs/msg/x; import os", "cannot be read|is named"),
        ("float64[99999999] data\n", "a/msg/B", "a million elements"),
        ("x" * 70_000, "a/msg/B", "at most 65536"),
        ("float64 import\nfloat64 class\n", "a/msg/B", "no a/msg/B|cannot be read"),
        ("a/Missing x\n", "a/msg/B", "no a/msg/B|cannot be read"),
        ("(" * 5000, "a/msg/B", "cannot be read"),
    ],
)
def test_hostile_definitions_are_refused(tmp_path, text, name, said):
    path = foreign(tmp_path / "a.mcap", text=text, name=name)
    with pytest.raises(RecordingError, match=said) as caught:
        list(load_recording(path).stream("chatter").messages())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\1\0\0",
        b"\0\1\0\0\xff\xff\xff\x7f",
        b"\0\1\0\0\4\0\0\0abcd",
        b"\7\7\7\7aaaaaaaa",
        b"\0\1\0\0\2\0\0\0\xff\0",
    ],
)
def test_damaged_messages_are_refused(tmp_path, data):
    path = foreign(tmp_path / "a.mcap", data=data)
    with pytest.raises(RecordingError, match="a message is no std_msgs/msg/String"):
        list(load_recording(path).stream("chatter").messages())


def record(opcode, body):
    return struct.pack("<BQ", opcode, len(body)) + body


def chunk(data, size=None, packing=b"", checksum=None):
    size = len(data) if size is None else size
    checksum = zlib.crc32(data) if checksum is None else checksum
    head = struct.pack("<QQQII", 0, 1, size, checksum, len(packing)) + packing
    return record(6, head + struct.pack("<Q", len(data)) + data)


HEAD = MAGIC + record(1, struct.pack("<I4sI1s", 4, b"ros2", 1, b"x"))


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (struct.pack("<BQ", 6, 2**63), "incomplete record"),
        (struct.pack("<BQ", 0, 0), "unknown kind 0"),
        (record(0x20, b"abc"), "unknown kind 32"),
        (chunk(b"abc", checksum=1), "wrong checksum"),
        (chunk(b"abc", size=2**40), "at most 268435456 are read"),
        (chunk(b"abc", size=4), "another size"),
        (chunk(b"abc", packing=b"rar"), "packed as 'rar'"),
        (chunk(b"abc", packing=b"zstd", size=9), "cannot be unpacked"),
        (chunk(b"abc" * 9, packing=b"lz4", size=9), "cannot be unpacked"),
        (chunk(b"abc", packing=b"lz4", size=9), "another size"),
        (chunk(record(5, struct.pack("<HIQQ", 7, 0, 0, 0))), "unknown topic"),
        (chunk(record(5, b"short")), "damaged record"),
        (chunk(struct.pack("<BQ", 5, 2**50)), "damaged chunk"),
        (record(6, b"x"), "damaged record"),
        (record(12, struct.pack("<I", 2**31)), "damaged text"),
        (record(3, struct.pack("<HI3sIQ", 1, 3, b"\xff\xfe\xfd", 0, 0)), "damaged record"),
        (record(15, b""), "damaged record"),
        (record(15, struct.pack("<I", 5)), "wrong checksum of the whole"),
        (record(2, bytes(20)), "incomplete end"),
    ],
)
def test_every_kind_of_damage_is_said(tmp_path, rest, said):
    path = tmp_path / "a.mcap"
    path.write_bytes(HEAD + rest)
    recording = load_recording(path)
    assert recording.state == "cut off" and said in recording.problem
    problems = []
    assert load_episodes(path, problems=problems) == []
    assert len(problems) == 2 and said in problems[0] and "has no steps" in problems[1]


@pytest.mark.parametrize("data", [b"", b"x", MAGIC[:-1], b"PK\3\4" + bytes(100)])
def test_what_is_no_recording_is_said(tmp_path, data):
    path = tmp_path / "a.mcap"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="is no recording"):
        load_recording(path)
    with pytest.raises(RecordingError, match="cannot open"):
        load_recording(tmp_path / "missing.mcap")


def test_a_bomb_does_not_explode(tmp_path):
    packed = zstandard.compress(bytes(400 << 20))
    path = tmp_path / "a.mcap"
    path.write_bytes(HEAD + chunk(packed, size=1000, packing=b"zstd", checksum=0))
    tracemalloc.start()
    assert "another size" in load_recording(path).problem
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def test_pictures_that_claim_to_be_huge_are_not_unpacked(tmp_path):
    small = pictures.pack(np.zeros((8, 8, 3), np.uint8), "png")[0]
    huge = small[:16] + struct.pack(">II", 60_000, 60_000) + small[24:]
    jpeg = pictures.pack(np.zeros((8, 8, 3), np.uint8), "jpeg")[0]
    place = jpeg.index(b"\xff\xc0") + 5
    for data, said in (
        (huge, "60000 x 60000 pixels"),
        (jpeg[:place] + struct.pack(">HH", 65_000, 65_000) + jpeg[place + 4 :], "65000 x 65000"),
        (b"GIF89a" + bytes(50), "neither PNG nor JPEG"),
        (b"", "neither PNG nor JPEG"),
        (small[:40] + bytes(20), "damaged"),
        (jpeg[:30], "neither|damaged"),
    ):
        with pytest.raises(RecordingError, match=said):
            pictures.unpack(data)


def test_a_picture_of_another_size_than_the_schema_says_is_refused(tmp_path):
    schema = make_schema(images={"wrist": (20, 30, 3)})
    with EpisodeWriter(tmp_path, schema) as writer:
        path = writer.begin()
        writer.step(make_record(schema, 0, 0, ended=False))
        writer.end(True, "success")
    recording = load_recording(path)
    stream = recording.stream("step/wrist/compressed")
    right = RecordedPictures({"wrist": (stream, np.array([0]))}, schema.images)
    assert right["wrist"].shape == (1, 20, 30, 3)
    wrong = RecordedPictures({"wrist": (stream, np.array([0]))}, {"wrist": (20, 31, 3)})
    with pytest.raises(RecordingError, match=r"has a picture of shape \(20, 30, 3\); expected \(20, 31, 3\)"):
        wrong["wrist"]


def test_marks_that_lie_do_no_harm(tmp_path):
    def marked(**begin):
        file = io.BytesIO()
        writer = Writer(file)
        writer.start(profile="ros2")
        writer.add_metadata(marks.BEGIN, marks.seal(begin))
        writer.add_metadata(marks.END, marks.seal({"success": "yes", "cause": 5, "dropped": {"a": "b"}}))
        writer.finish()
        path = tmp_path / "a.mcap"
        path.write_bytes(file.getvalue())
        return path

    recording = load_recording(marked(info=[1], schema=None, clock_zero_ns=-5, started_ns="now"))
    assert (recording.info, recording.success, recording.cause, recording.dropped) == ({}, False, "5", {})
    with pytest.raises(RecordingError, match="schema"):
        load_recording(marked(schema={"observation": 10**12}))
    path = marked(info={})
    path.write_bytes(path.read_bytes().replace(b'"info": {}', b'"info": []'))
    with pytest.raises(RecordingError, match=r"its mark 'robot_rl.begin' is damaged \(a wrong checksum\)"):
        load_recording(path)
    assert json.loads(marks.seal({"a": 1})["json"]) == {"a": 1}


def test_a_bad_file_does_not_cost_the_data_set(tmp_path):
    schema = make_schema()
    with EpisodeWriter(tmp_path, schema) as writer:
        for _ in range(3):
            writer.begin()
            for index in range(4):
                writer.step(make_record(schema, 0, index, ended=index == 3))
            writer.end(True, "success")
    middle = tmp_path / "episode-000001.mcap"
    middle.write_bytes(middle.read_bytes()[:100])
    (tmp_path / "zeros.mcap").write_bytes(bytes(10_000))
    foreign(tmp_path / "bag.mcap")
    begin = time.monotonic()
    problems = []
    assert [(one.number, len(one)) for one in load_episodes(tmp_path, problems=problems)] == [(0, 4), (2, 4)]
    assert time.monotonic() - begin < 10.0
    assert len(problems) >= 3
