"""Videos and pictures: readable, of the right length and size, and something happens in them."""

import base64
import importlib.util
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from robot_rl import cli, errors, pictures, video
from robot_rl.errors import UserError
from robot_rl.play import PlayConfig, open_stage
from robot_rl.play_controls import Controls
from robot_rl.video import Filming, VideoFile
from sim import gl
from sim.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def display():
    """Skip, and say why, where no image can be rendered."""
    try:
        context = gl.open_context(16, 16)
    except RuntimeError as error:
        pytest.skip(str(error))
    context.free()


def read(path):
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        about = {
            "codec": stream.codec_context.name, "format": stream.codec_context.pix_fmt,
            "rate": float(stream.average_rate), "size": (stream.width, stream.height),
        }  # fmt: skip
    return frames, about


def test_a_file_keeps_what_is_written(tmp_path):
    pytest.importorskip("av")
    levels = [30, 90, 150, 210]
    with VideoFile(tmp_path / "deep" / "grey.mp4", width=64, height=48) as file:
        for level in levels:
            file.write(np.full((48, 64, 3), level, np.uint8))
        with pytest.raises(ValueError, match="shape"):
            file.write(np.zeros((48, 63, 3), np.uint8))
    frames, about = read(tmp_path / "deep" / "grey.mp4")
    assert about == {"codec": "h264", "format": "yuv420p", "rate": 30.0, "size": (64, 48)}
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    np.testing.assert_allclose([frame.mean() for frame in frames], levels, atol=4.0)


def test_what_cannot_be_encoded_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("av")
    with pytest.raises(UserError, match="even"):
        VideoFile(tmp_path / "odd.mp4", width=63, height=48)
    with pytest.raises(UserError, match="end in .mp4"):
        VideoFile(tmp_path / "film.avi")
    found = importlib.util.find_spec
    monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: None if name == "av" else found(name))
    with pytest.raises(UserError, match=r"pip install 'robot_rl\[play\]'"):
        VideoFile(tmp_path / "film.mp4")


def test_a_video_of_an_arm(tmp_path, display, capsys):
    path = tmp_path / "reach.mp4"
    assert cli.main(["play", "arm-reach", "--video", str(path), "--speed", "4", "--randomization", "none"]) == 0
    said = capsys.readouterr().out
    played = float(said.split("success after ")[1].split(" s")[0])
    frames, about = read(path)
    assert about == {"codec": "h264", "format": "yuv420p", "rate": 30.0, "size": (640, 480)}
    assert abs(len(frames) - (played * 30.0 / 4.0 + 1.0)) < 1.1
    assert f"{len(frames)} frames" in said
    changes = [np.abs(b.astype(float) - a.astype(float)).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert np.median(changes) > 0.2  # something moves from frame to frame, also between control periods
    assert frames[0].std() > 20.0


def test_a_video_of_a_quadrotor_from_its_bundle(tmp_path, display):
    stage = open_stage(PlayConfig(task="quadrotor-hover", seed=2))
    stage.begin()
    film = Filming(stage, tmp_path / "hover.mp4")
    for _ in range(4):
        for k in range(21):
            stage.advance(lambda _: None)
            if k % 3 == 0:
                stage.look.update()  # the camera follows from frame to frame
        film.show()
    film.close()
    frames, _ = read(tmp_path / "hover.mp4")
    assert len(frames) == 4
    red, green, blue = np.moveaxis(np.stack(frames).astype(float), -1, 0)
    orange = ((red > blue + 50.0) & (red > 1.4 * green)).mean(axis=(1, 2))
    assert min(orange) > 0.0005  # the front rotors stay in the picture


def test_cameras_of_the_scene(tmp_path, display):
    stage = open_stage(PlayConfig(task="arm-pick-lift"))
    stage.begin()
    with video.open_cameras(stage) as cameras:
        images = [video.render(cameras, stage, name) for name in ("", "front", "wrist")]
        with pytest.raises(UserError, match="there is no camera 'top'"):
            video.render(cameras, stage, "top")
    assert {image.shape for image in images} == {(480, 640, 3)}
    assert all(np.abs(a.astype(float) - b).mean() > 5.0 for a, b in zip(images, images[1:], strict=False))


def test_no_gl_is_said_in_a_sentence(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError(f"neither was found; {gl.ADVICE}")

    monkeypatch.setattr("sim.cameras.open_context", broken)
    stage = open_stage(PlayConfig(task="arm-reach"))
    stage.begin()
    with pytest.raises(UserError, match="apt-get install libegl1"):
        Filming(stage, tmp_path / "film.mp4")


# Pictures


def test_every_task_has_a_picture():
    image_module = pytest.importorskip("PIL.Image")
    for task in TASKS:
        file = ROOT / "docs" / "pictures" / f"{task}.jpg"
        assert file.is_file(), f"{file} is missing: python -m robot_rl.pictures docs/pictures {task}"
        assert file.stat().st_size < 60_000
        with image_module.open(file) as image:
            assert image.size == (640, 480)


def test_moments_are_of_pictures():
    assert set(pictures.MOMENTS) <= {file.stem for file in (ROOT / "docs" / "pictures").glob("*.jpg")}
    assert all(0.0 < moment.share <= 1.0 for moment in pictures.MOMENTS.values())


def test_a_picture_is_taken(tmp_path, display):
    pytest.importorskip("PIL")
    (file,) = pictures.write_pictures(tmp_path, ["arm-reach"])
    assert file.name == "arm-reach.jpg" and 5_000 < file.stat().st_size < 60_000
    with pytest.raises(UserError, match="unknown task"):
        pictures.write_pictures(tmp_path, ["arm-raech"])


# The page in a real browser


def screenshot(url, home, seconds):
    """Image (H, W, 3) uint8 of a page in Chromium without a window, and the addresses that it asked for."""
    connect = pytest.importorskip("websockets.sync.client").connect
    image_module = pytest.importorskip("PIL.Image")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed: the page is not looked at")
    process = subprocess.Popen(
        [program, "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--ignore-gpu-blocklist", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
         "--remote-debugging-port=0", f"--user-data-dir={home}", "--window-size=1280,887", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file = home / "DevToolsActivePort"
        end = time.monotonic() + 90.0
        while not (port_file.is_file() and "\n" in port_file.read_text()):
            assert time.monotonic() < end and process.poll() is None, "Chromium does not start"
            time.sleep(0.2)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            target = next(page for page in json.loads(answer.read()) if page["type"] == "page")
        asked = []
        with connect(target["webSocketDebuggerUrl"], max_size=None, open_timeout=60, ping_interval=None) as socket:

            def call(number, method, **parameters):
                socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
                while True:
                    message = json.loads(socket.recv(timeout=120))
                    if message.get("method") == "Network.requestWillBeSent":
                        asked.append(message["params"]["request"]["url"])
                    if message.get("id") == number:
                        return message["result"]

            call(1, "Network.enable")
            call(2, "Page.navigate", url=url)
            time.sleep(seconds)
            data = call(3, "Page.captureScreenshot", format="png")["data"]
        path = home / "page.png"
        path.write_bytes(base64.b64decode(data))
        with image_module.open(path) as image:
            return np.asarray(image.convert("RGB")), asked
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_page_in_chromium(tmp_path):
    pytest.importorskip("viser")
    from robot_rl.play_browser import Browser

    stage = open_stage(PlayConfig(task="arm-pick-lift", randomization="none"))
    stage.begin()
    for _ in range(24):
        stage.advance(lambda _: None)
    stage.look.update()
    browser = Browser(stage, Controls(), host="127.0.0.1", port=8210)
    try:
        image, asked = screenshot(browser.url, tmp_path, 45.0)
    finally:
        browser.close()
    scene = image[:, : image.shape[1] // 2].astype(float)
    wood = (scene[..., 0] > scene[..., 2] + 35.0) & (scene[..., 0] > 120.0)
    assert wood.mean() > 0.05  # the table
    assert scene.std() > 25.0
    local = ("data:", "blob:", browser.url)
    assert asked and [address for address in asked if not address.startswith(local)] == []
