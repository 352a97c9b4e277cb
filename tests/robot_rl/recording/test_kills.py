"""A recording process that is killed at any moment costs no finished episode, and less than a second of its last."""

import os

import numpy as np

from robot_rl.bench.recording_kills import digests, kill_once

KILLS = int(os.environ.get("ROBOT_RL_KILLS", "40"))


def test_every_finished_episode_survives_a_kill_and_none_is_invented(tmp_path):
    random = np.random.default_rng(0)
    found = []
    for number in range(KILLS):
        folder = tmp_path / str(number // 5)
        folder.mkdir(exist_ok=True)
        before = digests(folder)
        found.append(kill_once(folder, random))
        left = digests(folder)
        assert {name: left.get(name) for name in before} == before, "an older file was touched"
    assert sum(one.finished for one in found) > KILLS // 2, "hardly an episode was finished: nothing was tested"
    assert sum(one.recovered for one in found) > KILLS
    assert sum(one.unreadable for one in found) == 0
    assert sum(one.invented for one in found) == 0
    assert sum(one.wrong for one in found) == 0
    assert max(one.lost_seconds for one in found) < 1.0
