"""Definitions of message types: as installed, with all their parts, so that a file can be read anywhere."""

import pytest

pytest.importorskip("rclpy")

from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402

from robot_rl.nodes.definitions import full_definition, has_header  # noqa: E402
from robot_rl.recording import RecordingError  # noqa: E402
from robot_rl.recording.types import definition  # noqa: E402


@pytest.fixture
def installed(tmp_path, monkeypatch):
    files = {
        "mine/msg/Thing.msg": "# A thing.\nstd_msgs/Header header\nPart[<=3] parts\nuint8 K=3\nstring<=9 name 'a=b'\n",
        "mine/msg/Part.msg": "other/Deep deep # of another package\nfloat64[9] values\n",
        "other/msg/Deep.msg": "bool[] flags\nint32 x 5\n",
        "mine/msg/Broken.msg": "nowhere/Missing x\n",
        "std_msgs/msg/Header.msg": "builtin_interfaces/Time stamp\nstring frame_id\n",
        "builtin_interfaces/msg/Time.msg": "int32 sec\nuint32 nanosec\n",
    }
    for name, text in files.items():
        path = tmp_path / "share" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    full_definition.cache_clear()
    yield
    full_definition.cache_clear()


def test_a_definition_holds_all_its_parts(installed):
    text = full_definition("mine/msg/Thing")
    assert text.count("=" * 80) == 4
    types = get_types_from_msg(text, "mine/msg/Thing")
    assert set(types) == {
        "mine/msg/Thing", "mine/msg/Part", "other/msg/Deep", "std_msgs/msg/Header", "builtin_interfaces/msg/Time",
    }  # fmt: skip
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    assert has_header(text) and not has_header(full_definition("mine/msg/Part"))


def test_a_part_that_is_missing_is_named(installed):
    with pytest.raises(RecordingError, match=r"nowhere/msg/Missing, a part of mine/msg/Broken, is not installed"):
        full_definition("mine/msg/Broken")
    with pytest.raises(RecordingError, match="'mine/msg/Nothing' is not known"):
        full_definition("mine/msg/Nothing")


def test_standard_types_need_no_installation(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    full_definition.cache_clear()
    for name in ("sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage", "nav_msgs/msg/Odometry"):
        assert full_definition(name) == definition(name) and has_header(definition(name))
    assert not has_header(definition("std_msgs/msg/String"))
