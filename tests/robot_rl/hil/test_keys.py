"""Keys are made once, stay private, and only known ones are let in."""

import os
import stat
import threading

import pytest
import zmq

from robot_rl.errors import UserError
from robot_rl.hil.keys import actor_keys, authorise, learner_keys, load_pair, local_keys


def test_a_pair_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    old = os.umask(0)
    try:
        pair = load_pair(tmp_path / "keys", "actor")
    finally:
        os.umask(old)
    assert zmq.curve_public(pair.secret) == pair.public
    assert load_pair(tmp_path / "keys", "actor") == pair
    assert load_pair(tmp_path / "keys", "other") != pair
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert pair.secret.decode() not in repr(pair)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_secret_that_others_can_reach_is_refused_with_the_cure(tmp_path, mode):
    load_pair(tmp_path, "actor")
    path = tmp_path / "actor.secret"
    path.chmod(mode)
    with pytest.raises(UserError, match=f"chmod 600 {path}"):
        load_pair(tmp_path, "actor")
    path.chmod(0o600)
    load_pair(tmp_path, "actor")


@pytest.mark.parametrize("content", ["", "short", "x" * 41, '"' * 40, "\x00" * 40])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    load_pair(tmp_path, "actor")
    (tmp_path / "actor.secret").write_text(content)
    with pytest.raises(UserError, match="actor.secret holds no key"):
        load_pair(tmp_path, "actor")


def test_processes_that_make_a_pair_at_once_agree(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_pair(tmp_path, "actor"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_an_actor_needs_the_learners_public_key(tmp_path):
    with pytest.raises(UserError, match=r"learner\.public is missing: copy it"):
        actor_keys(tmp_path)
    learner = learner_keys(tmp_path)
    assert actor_keys(tmp_path).learner == learner.own.public


def test_only_authorised_actors_are_known(tmp_path):
    assert learner_keys(tmp_path).actors == frozenset()
    actor, learner = local_keys(tmp_path)
    assert learner.actors == {actor.own.public}
    stranger = load_pair(tmp_path / "elsewhere", "actor")
    assert stranger.public not in learner_keys(tmp_path).actors
    authorise(tmp_path, "second", stranger.public)
    assert learner_keys(tmp_path).actors == {actor.own.public, stranger.public}
