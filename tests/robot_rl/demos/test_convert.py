"""Data sets in other projects' formats: the files by their own rules, and (slowly) those projects' own loaders."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from robot_rl import cli
from robot_rl.demos.dataset import open_set
from robot_rl.demos.lerobot_stats import episode_stats, merge_stats
from robot_rl.demos.video import VideoWriter, read_frames
from robot_rl.errors import UserError

PEERS = Path(__file__).parent / "peers"
PACKAGES = {
    "lerobot": [
        *("lerobot==0.4.4", "datasets==4.8.5", "numpy==2.2.6", "huggingface_hub==0.36.2", "torchvision==0.28.0"),
        *("pandas", "pytz", "tzdata", "python-dateutil", "six", "fsspec", "dill", "multiprocess", "xxhash", "requests"),
        *("urllib3", "charset_normalizer", "certifi", "idna", "einops", "draccus", "mergedeep", "typing_inspect"),
        *("mypy_extensions", "pyyaml-include", "toml", "deepdiff", "orderly-set", "jsonlines", "attrs", "imageio"),
        *("tqdm", "packaging", "filelock", "PyYAML", "termcolor", "accelerate", "psutil", "httpx", "httpcore", "anyio"),
        *("h11", "sniffio"),
    ],
    "robomimic": [
        *("robomimic==0.3.0", "six", "tqdm", "psutil", "tensorboardX", "termcolor", "imageio", "imageio-ffmpeg"),
        *("egl_probe", "torchvision==0.28.0"),
    ],
    "minari": ["minari==0.5.4"],
}
"""What each loader needs beside this Python's packages; without their dependencies, which bring CUDA."""


def convert(path, to, out, *options):
    assert cli.main(["demos", "convert", str(path), "--to", to, "--out", str(out), *options]) == 0
    return out


@pytest.fixture
def two_cameras(record_set):
    return record_set(3, cameras=("front", "wrist"), noise=0.2)


# LeRobot


def test_lerobot_rows_are_contiguous_and_keep_true_times(two_cameras, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    out = convert(two_cameras, "lerobot", tmp_path / "out", "--instruction", "push it away")
    data, episodes = open_set(two_cameras), pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    rows = pq.read_table(out / "data/chunk-000/file-000.parquet").to_pydict()
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 10, 3, 120)
    assert info["splits"] == {"train": "0:3"}
    assert rows["index"] == list(range(120))
    assert rows["frame_index"] == [*range(40)] * 3
    assert [row["episode_index"] for row in episodes] == [0, 1, 2]
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in episodes] == [(0, 40), (40, 80), (80, 120)]
    np.testing.assert_allclose(rows["timestamp"][:40], np.arange(40) / 10, atol=1e-6)
    for number, one in enumerate(data):
        part = slice(40 * number, 40 * number + 40)
        np.testing.assert_array_equal(
            np.array(rows["observation.state"][part], np.float32), one.episode.observations[:40]
        )
        np.testing.assert_array_equal(np.array(rows["action"][part], np.float32), one.episode.actions)
        np.testing.assert_allclose(np.diff(rows["observed_at"][part]), np.diff(one.episode.observed_at), atol=1e-9)
        assert rows["wall_time_ns"][part][10] == pytest.approx(1e9 * (one.episode.wall_time + 1.0), abs=1e4)
        assert rows["next.done"][part] == [False] * 39 + [True] == rows["next.success"][part]
    assert set(rows["intervention"]) == {True}
    tasks = pq.read_table(out / "meta/tasks.parquet").to_pylist()
    assert tasks == [{"task_index": 0, "__index_level_0__": "push it away"}]
    names = {name for name, feature in info["features"].items() if feature["dtype"] != "video"}
    assert names == set(rows)


def test_lerobot_videos_have_every_frame_at_its_time(two_cameras, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("av")
    out = convert(two_cameras, "lerobot", tmp_path / "out")
    episodes = pq.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for camera in ("front", "wrist"):
        key = f"observation.images.{camera}"
        frames = list(read_frames(out / f"videos/{key}/chunk-000/file-000.mp4"))
        assert len(frames) == 120
        np.testing.assert_allclose([time for time, _ in frames], np.arange(120) / 10, atol=1e-4)
        for one, row in zip(open_set(two_cameras), episodes, strict=True):
            first = round(10 * row[f"videos/{key}/from_timestamp"])
            assert row[f"videos/{key}/to_timestamp"] == pytest.approx((first + 40) / 10)
            shown = np.stack([picture for _, picture in frames[first : first + 40]]).astype(int)
            assert np.abs(shown - one.episode.images[camera][:40]).mean() < 3.0


@pytest.mark.parametrize(("codec", "shape"), [("h264", (16, 24)), ("h264", (17, 23)), ("av1", (64, 96))])
def test_a_video_can_be_read_back_frame_by_frame(codec, shape, tmp_path):
    pytest.importorskip("av")
    generator = np.random.default_rng(0)
    colors = generator.integers(0, 255, (25, 1, 1, 3), np.uint8)
    pictures = np.broadcast_to(colors, (25, *shape, 3))
    writer = VideoWriter(tmp_path / "v.mp4", Fraction(25, 2), shape, codec)
    writer.write(pictures)
    writer.close()
    frames = list(read_frames(tmp_path / "v.mp4"))
    np.testing.assert_allclose([time for time, _ in frames], np.arange(25) * 0.08, atol=1e-4)
    assert np.abs(np.stack([picture for _, picture in frames]).astype(int) - pictures).mean() < 6.0


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_no_encoder_takes_real_time_priority(codec, tmp_path):
    """It would take the processor from a robot that runs beside it."""
    pytest.importorskip("av")

    def urgent():
        """Threads of this process with real-time priority; a pool that an earlier test began may be one."""
        kinds = {int(thread): os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
        return {thread for thread, kind in kinds.items() if kind in (os.SCHED_FIFO, os.SCHED_RR)}

    before = urgent()
    writer = VideoWriter(tmp_path / "v.mp4", Fraction(10), (64, 96), codec)
    for _ in range(3):
        writer.write(np.zeros((8, 64, 96, 3), np.uint8))
        assert urgent() <= before
    writer.close()


@pytest.mark.parametrize("shape", [(65, 96), (32, 96)])
def test_sizes_that_av1_cannot_have_are_said(shape, tmp_path):
    pytest.importorskip("av")
    with pytest.raises(UserError, match="give --codec h264"):
        VideoWriter(tmp_path / "v.mp4", Fraction(10), shape, "av1")
    assert not list(tmp_path.iterdir())


def test_statistics_of_episodes_together_are_those_of_all_rows():
    generator = np.random.default_rng(0)
    parts = [generator.standard_normal((count, 3)) * count for count in (5, 50, 20)]
    merged = merge_stats([{"x": episode_stats(part)} for part in parts])["x"]
    rows = np.concatenate(parts)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(merged[name], getattr(rows, name)(axis=0), rtol=1e-9)
    assert merged["count"] == [75]


# robomimic and Minari


def test_robomimic_demos_have_what_followed_each_step(two_cameras, tmp_path):
    h5py = pytest.importorskip("h5py")
    out = convert(two_cameras, "robomimic", tmp_path / "demos.hdf5", "--valid", "0.34")
    with h5py.File(out) as file:
        assert file["data"].attrs["total"] == 120
        args = json.loads(file["data"].attrs["env_args"])
        assert (args["env_name"], args["type"], args["env_kwargs"]["robot"]) == ("arm-push", 2, "panda")
        masks = {name: {text.decode() for text in file[f"mask/{name}"][()]} for name in file["mask"]}
        assert masks["success"] == {"demo_0", "demo_1", "demo_2"} == masks["train"] | masks["valid"]
        assert len(masks["valid"]) == 1 and not masks["train"] & masks["valid"]
        for number, one in enumerate(open_set(two_cameras)):
            demo = file[f"data/demo_{number}"]
            assert demo.attrs["num_samples"] == 40
            np.testing.assert_array_equal(demo["actions"], one.episode.actions)
            assert np.abs(demo["actions"]).max() <= 1.0
            np.testing.assert_array_equal(demo["obs/state"][1:], demo["next_obs/state"][:-1])
            np.testing.assert_array_equal(demo["next_obs/state"][-1], one.episode.observations[40])
            np.testing.assert_array_equal(demo["next_obs/front_image"], one.episode.images["front"][1:])
            assert demo["dones"][()].tolist() == [0] * 39 + [1] and demo["rewards"][-1] == 1.0


def test_minari_episodes_have_one_observation_more_than_actions(two_cameras, record_set, tmp_path):
    h5py = pytest.importorskip("h5py")
    out = convert(two_cameras, "gymnasium", tmp_path / "push-v0")
    metadata = json.loads((out / "data/metadata.json").read_text())
    assert (metadata["total_episodes"], metadata["total_steps"], metadata["dataset_id"]) == (3, 120, "push-v0")
    assert set(json.loads(metadata["observation_space"])["subspaces"]) == {"state", "front", "wrist"}
    with h5py.File(out / "data/main_data.hdf5") as file:
        for number, one in enumerate(open_set(two_cameras)):
            episode = file[f"episode_{number}"]
            np.testing.assert_array_equal(episode["observations/state"], one.episode.observations)
            np.testing.assert_array_equal(episode["observations/wrist"], one.episode.images["wrist"])
            assert len(episode["actions"]) == 40 and episode["terminations"][-1]
    plain = convert(record_set(2, name="plain"), "gymnasium", tmp_path / "plain-v0")
    with h5py.File(plain / "data/main_data.hdf5") as file:
        assert file["episode_1/observations"].shape == (41, 10)


@pytest.mark.parametrize("to", ["lerobot", "robomimic", "gymnasium"])
def test_what_was_cut_off_is_left_out_and_said(to, record_set, tmp_path, tools, capsys):
    point_records, write_episode, _ = tools
    folder = record_set(2)
    write_episode(folder, point_records(seed=5)[:20], end=False)
    convert(folder, to, tmp_path / "out-v0")
    said = capsys.readouterr()
    assert "2 episodes, 80 steps" in said.out and "left out 1 episodes that were cut off" in said.err


def test_nothing_is_overwritten_and_nothing_is_left_half(record_set, tmp_path, monkeypatch, capsys):
    pytest.importorskip("h5py")
    folder = record_set(2)
    (tmp_path / "there.hdf5").write_text("mine")
    assert cli.main(["demos", "convert", str(folder), "--to", "robomimic", "--out", str(tmp_path / "there.hdf5")]) == 2
    assert (tmp_path / "there.hdf5").read_text() == "mine"
    monkeypatch.setattr("robot_rl.demos.minari._write_episode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["demos", "convert", str(folder), "--to", "gymnasium", "--out", str(tmp_path / "half-v0")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "there.hdf5"]


# Their own loaders


@pytest.fixture(scope="module")
def peer_python(tmp_path_factory):
    """A Python that has a project's loader: from ROBOT_RL_PEERS=<folder>, made there if it is missing."""

    def find(name):
        folder = os.environ.get("ROBOT_RL_PEERS")
        if not folder:
            pytest.skip(f"set ROBOT_RL_PEERS to a folder for environments to load with {name}'s own loader")
        python = Path(folder) / name / "bin" / "python"
        if not python.exists():
            _make_environment(Path(folder) / name, PACKAGES[name])
        return python

    return find


def _make_environment(folder, packages):
    venv.create(folder, with_pip=False)
    command = [folder / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    (site / "zz_outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *packages]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode != 0:
        (folder / "bin" / "python").unlink()
        pytest.skip(f"pip could not install {packages[0]}: {result.stderr.strip().splitlines()[-1]}")


def ask(python, script, *arguments):
    result = subprocess.run(
        [python, PEERS / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lerobot_loads_it_with_windows(two_cameras, tmp_path, peer_python):
    python = peer_python("lerobot")
    out = convert(two_cameras, "lerobot", tmp_path / "out", "--instruction", "push it")
    found = ask(python, "load_lerobot.py", out, 50)
    episode = open_set(two_cameras).episodes[1]
    assert (found["frames"], found["episodes"], found["task"]) == (120, 3, "push it")
    np.testing.assert_array_equal(np.array(found["state"], np.float32), episode.observations[9:11])
    np.testing.assert_array_equal(np.array(found["action"], np.float32), episode.actions[10:13])
    assert found["is_pad_at_the_end"] == [False, True, True]
    assert found["observed_at"] == pytest.approx(1.0, abs=1e-6) and found["intervention"]
    assert found["wall_time_ns"] == pytest.approx(1e9 * (episode.wall_time + 1.0), abs=1e4)
    assert found["batch"] == [16, 3, 4]
    assert found["picture_mean"] == {f"observation.images.{camera}": [3, 1, 1] for camera in ("front", "wrist")}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_robomimic_reads_and_trains_on_it(two_cameras, tmp_path, peer_python):
    python = peer_python("robomimic")
    out = convert(two_cameras, "robomimic", tmp_path / "demos.hdf5")
    command = [python, "-m", "robomimic.scripts.get_dataset_info", "--dataset", out, "--verbose"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "total transitions: 120" in result.stdout and '"env_name": "arm-push"' in result.stdout
    found = ask(python, "train_robomimic.py", out)
    assert found["demos"] == 2 and found["losses"][-1] < 0.8 * found["losses"][0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("cameras", [(), ("front",)])
def test_minari_loads_it(cameras, record_set, tmp_path, peer_python):
    python = peer_python("minari")
    folder = record_set(3, cameras=cameras)
    found = ask(python, "load_minari.py", convert(folder, "gymnasium", tmp_path / "push-v0"))
    assert (found["episodes"], found["steps"], found["sampled"]) == (3, 120, 2)
    assert found["lengths"] == [[40, 40]] * 3 and found["in_space"] and all(found["ended"])
    length, first = found["observations"]
    assert length == 41
    np.testing.assert_array_equal(np.array(first, np.float32), open_set(folder).episodes[0].observations[0])
    assert found["pictures"] == {camera: [41, 16, 24, 3] for camera in cameras}
