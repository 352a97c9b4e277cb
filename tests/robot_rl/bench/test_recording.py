"""The measurement of the recorder measures: a few kills and a second of streams."""

import json

import pytest

from robot_rl.bench.recording import KillsConfig, RecordingBenchConfig, run
from robot_rl.bench.recording_node import NodeConfig
from robot_rl.bench.recording_streams import StreamsConfig


def test_the_parts_are_measured_and_stored(tmp_path):
    out = tmp_path / "recording.json"
    streams = StreamsConfig(seconds=1.0, folder=tmp_path)
    for part in ("kills", "streams"):
        run(
            RecordingBenchConfig(part=part, out=out, kills=KillsConfig(count=3), streams=streams),
            {"machine": "test"},
        )
    results = json.loads(out.read_text())
    kills, streams = results["kills"], results["streams"]
    assert kills["kills"] == 3 and kills["where"] == {"machine": "test"}
    assert kills["finished_but_unreadable"] == kills["invented"] == kills["recovered_but_wrong"] == 0
    assert streams["given"]["joint_states"] == 500
    assert streams["given"].keys() == streams["stored"].keys() and len(streams["given"]) == 8
    assert streams["lost"] == streams["dropped"] == 0
    assert set(streams["control_loop_us"]) == {"without_before", "recording", "without_after"}
    assert not list(tmp_path.glob("*.mcap")), "the recording was left"


def test_at_normal_priority_it_is_stored_beside(tmp_path):
    out = tmp_path / "recording.json"
    streams = StreamsConfig(seconds=0.2, folder=tmp_path, priority=0)
    run(RecordingBenchConfig(part="streams", out=out, streams=streams), {})
    assert json.loads(out.read_text())["streams_at_normal_priority"]["priority"] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_node_is_measured_beside_the_control_process(tmp_path, monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    out = tmp_path / "recording.json"
    run(RecordingBenchConfig(part="node", out=out, node=NodeConfig(seconds=3.0, folder=tmp_path)), {})
    found = json.loads(out.read_text())["node"]
    assert found["published"].keys() == found["stored"].keys() and len(found["published"]) == 8
    assert found["published"]["joint_states"] > 1000
    assert found["lost"] == sum(found["published"].values()) - sum(found["stored"].values())
    for name, seconds in (("without_before", 1.5), ("recording", 3.0), ("without_after", 1.5)):
        ticks = found["control_loop"][name]["ticks"] + found["control_loop"][name]["lost_periods"]
        assert abs(ticks - 500.0 * seconds) < 100
        assert found["control_loop"][name]["wake_error_us"]["p99"] > 0.0
    assert found["mode_at_the_end"] == "active"
    assert [path.name for path in tmp_path.iterdir()] == ["recording.json"], "something was left"
