"""A policy in C moves a simulated arm through the real processes."""

import sys

import pytest

from hardware.realtime.seqlock import SlotFolder
from robot_rl.errors import UserError
from robot_rl.export_c.compiled import find_compiler
from robot_rl.native import cache
from robot_rl.planes.tasks import Planes, planes_of_task, run_episode

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler: nothing native is tested")


def test_a_missing_compiler_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "find_compiler", lambda: None)
    with pytest.raises(UserError, match="a native policy needs a C compiler .* and there is none; install one"):
        cache.compiled("arm-reach", tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_a_policy_is_compiled_once_and_anew_where_the_bundle_differs(tmp_path):
    first = cache.compiled("arm-reach", tmp_path)
    written = first.stat().st_mtime_ns
    assert cache.compiled("arm-reach", tmp_path) == first
    assert first.stat().st_mtime_ns == written
    assert cache.compiled("arm-push", tmp_path) != first
    assert len(list(tmp_path.iterdir())) == 2  # nothing half-made is left


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="the native loop needs Linux")
def test_arm_reach_succeeds_with_the_policy_in_c(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = planes_of_task("arm-reach", "arm-reach", name="test-native", starts=3, native=True)
    with Planes(config) as planes:
        assert planes.policy()["bundle"] == "arm-reach"
        episodes = [run_episode(planes, start) for start in range(3)]
        assert any(episode.success for episode in episodes), episodes  # a busy machine may spoil some
        assert planes.policy()["commands"] > 3
        assert "native" in planes.policy()["realtime"]
    assert not SlotFolder("test-native").path.exists()
