"""`robot-rl hil` as a user runs it: two processes, a run that ends with a bundle, and one that survives kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import policies
from robot_rl import play
from robot_rl.episodes import load_episodes
from robot_rl.errors import UserError
from robot_rl.hil import session
from robot_rl.hil.algorithms.resfit import ResfitConfig
from robot_rl.hil.config import ActorConfig, HilConfig, load, save, to_json
from robot_rl.hil.frames import LogReader
from robot_rl.hil.session import export, prepare, summary
from robot_rl.nodes.process import is_running
from robot_rl.play import PlayConfig

SMALL = (
    "--actor.demonstrations", "3", "--rlpd.hidden", "32", "32", "--rlpd.warm-start.steps", "150",
    "--learner.update-ratio", "0.5", "--rlpd.start-after", "30", "--rlpd.critic-warm-up", "20",
    "--learner.publish-every", "10", "--learner.checkpoint-seconds", "0.5",
)  # fmt: skip


def command(folder: Path, steps: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "robot_rl.cli", "hil", "arm-reach", "--out", str(folder), "--actor.steps", str(steps),
        *SMALL, *more,
    ]  # fmt: skip


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            arguments, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def payloads(path: Path) -> list[bytes]:
    with LogReader(path) as reader:
        return [reader.payload(k) for k in range(reader.refresh())]


def one_log(folder: Path) -> Path:
    (found,) = (folder / "learner" / "records").glob("*.log")
    return found


def test_a_run_ends_with_a_bundle_that_was_evaluated_without_help(tmp_path: Path):
    folder = tmp_path / "run"
    done = subprocess.run(
        command(folder, 180, "--actor.speed", "10", "--evaluation-episodes", "4"),
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    policy = policies.load(folder / "bundle")
    assert policy.manifest.training["algorithm"] == "hil-rlpd"
    metrics = json.loads((folder / "evaluation.json").read_text())
    assert metrics["episodes"] == 4 and 0.0 <= metrics["success_rate"] <= 1.0
    figures = json.loads((folder / "summary.json").read_text())
    assert figures["demonstrations"] == 3 and figures["robot_steps"] >= 180 and figures["updates"] > 0
    assert payloads(folder / "actor" / "steps.log") == payloads(one_log(folder))
    episodes = load_episodes(folder / "actor" / "steps.log")
    assert sum(len(episode) for episode in episodes) == figures["robot_steps"]
    assert all(set(episode.drivers) == {"person"} for episode in episodes[:3])
    assert "without help" in done.stderr and list((folder / "learner" / "tensorboard").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_run_from_pictures_ends_with_a_bundle_that_sees(tmp_path: Path):
    folder = tmp_path / "run"
    arguments = [
        sys.executable, "-m", "robot_rl.cli", "hil", "arm-pick-lift", "--out", str(folder), "--actor.steps", "100",
        *SMALL, "--actor.speed", "10", "--evaluation-episodes", "2", "--actor.cameras", "front", "wrist",
        "--actor.resolution", "32", "--rlpd.batch", "16", "--rlpd.warm-start.batch", "16",
        "--actor.demonstrations", "2", "--rlpd.warm-start.steps", "40",
    ]  # fmt: skip
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    policy = policies.load(folder / "bundle")
    assert dict(policy.manifest.images) == {"front": (32, 32), "wrist": (32, 32)}
    assert "objects" not in policy.manifest.robot.signals
    metrics = json.loads((folder / "evaluation.json").read_text())
    assert metrics["episodes"] == 2 and metrics["looks"] == "cell"
    assert payloads(folder / "actor" / "steps.log") == payloads(one_log(folder))
    episodes = load_episodes(folder / "actor" / "steps.log")
    assert episodes[0].images["wrist"].shape == (len(episodes[0]) + 1, 32, 32, 3)
    assert episodes[0].images["front"].std() > 5.0, "a picture of nothing"
    assert play.run(PlayConfig(task="arm-pick-lift", bundle=str(folder / "bundle"), viewer="none", episodes=2)) == 0


def test_a_run_goes_on_under_a_version_with_further_settings(tmp_path: Path):
    config = HilConfig(task="arm-reach", out=tmp_path)
    old = json.loads(to_json(config))
    del old["actor"]["looks"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    prepare(config, tmp_path)
    with pytest.raises(UserError, match="other settings"):
        prepare(HilConfig(task="arm-reach", out=tmp_path, seed=1), tmp_path)


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path):
    config = HilConfig(task="arm-reach", out=tmp_path, actor=ActorConfig(steps=100))
    prepare(config, tmp_path)
    prepare(config, tmp_path)
    with pytest.raises(UserError, match="other settings"):
        prepare(HilConfig(task="arm-reach", out=tmp_path, actor=ActorConfig(steps=200)), tmp_path)


def test_a_base_policy_that_is_none_is_refused_before_anything_is_started(tmp_path: Path):
    base = ResfitConfig(base=tmp_path / "nowhere")
    config = HilConfig(task="arm-pick-lift", algorithm="resfit", resfit=base, out=tmp_path / "run")
    with pytest.raises(UserError, match="nowhere cannot be a base policy"):
        session.run(config)
    assert not (tmp_path / "run").exists()


def test_a_config_comes_back_from_its_file_as_it_was(tmp_path: Path):
    config = HilConfig(
        task="arm-peg-insert", out=tmp_path, settings={"clearance": 0.0002}, actor=ActorConfig(cameras=("front",))
    )
    save(config, tmp_path / "config.json")
    again = load(tmp_path / "config.json")
    assert to_json(again) == to_json(config)
    assert again.rlpd == config.rlpd and again.actor == config.actor


def test_nothing_has_happened_yet_in_an_empty_run(tmp_path: Path):
    figures = summary(tmp_path)
    assert figures["episodes"] == 0 and figures["recent_success_rate"] is None


def test_a_run_without_enough_demonstrations_says_what_is_missing(tmp_path: Path):
    with pytest.raises(UserError, match="0 demonstrations, of which 20 have to succeed"):
        export(HilConfig(task="arm-reach"), tmp_path, summary(tmp_path))


@pytest.mark.slow
def test_kills_of_both_sides_lose_nothing_and_learning_goes_on(tmp_path: Path):
    folder = tmp_path / "run"
    run = start(command(folder, 900, "--actor.speed", "4", "--evaluation-episodes", "0"), tmp_path / "out.txt")
    rng = random.Random(0)
    killed = {"learner": 0, "actor": 0}
    try:
        end = time.monotonic() + 400.0
        while run.poll() is None and time.monotonic() < end:
            time.sleep(rng.uniform(3.0, 6.0))
            name = "actor" if killed["actor"] < killed["learner"] else "learner"
            if killed[name] < 5 and (pid := child(run.pid, name)) is not None:
                os.kill(pid, signal.SIGKILL)
                killed[name] += 1
        assert run.poll() == 0, (tmp_path / "out.txt").read_text()[-3000:]
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait(timeout=30)
    assert killed == {"learner": 5, "actor": 5}
    assert payloads(folder / "actor" / "steps.log") == payloads(one_log(folder))
    figures = json.loads((folder / "summary.json").read_text())
    assert figures["updates"] > 50
    assert policies.load(folder / "bundle").manifest.task == "arm-reach"


@pytest.mark.timeout(300)
def test_nothing_outlives_a_run_that_is_ended(tmp_path: Path):
    folder = tmp_path / "run"
    endless = ("--actor.speed", "10", "--rlpd.warm-start.steps", "100000000")
    run = start(command(folder, 400, *endless), tmp_path / "out.txt")
    log = folder / "learner" / "process.txt"
    try:
        assert eventually(lambda: log.is_file() and "begins with 3 demonstrations" in log.read_text(), 180.0)
        first, actor = child(run.pid, "learner"), child(run.pid, "actor")
        assert first is not None and actor is not None
        # A learner that only it was told to end does so in the middle of its warm start, and is started again.
        os.kill(first, signal.SIGTERM)
        assert eventually(lambda: child(run.pid, "learner") not in (None, first), 60.0)
        assert "stopped in the warm start" in log.read_text()
        second = child(run.pid, "learner")
        assert second is not None and child(run.pid, "actor") == actor
        run.kill()
        assert eventually(lambda: not is_running(second) and not is_running(actor), 30.0)
    finally:
        run.kill()
        run.wait(timeout=30)
    assert not (folder / "learner" / "checkpoint.safetensors").exists()


def eventually(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def child(parent: int, name: str) -> int | None:
    """Process id of the run's learner or actor."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in children:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"robot_rl.hil.{name}".encode() in words:
            return int(pid)
    return None
