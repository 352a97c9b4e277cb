"""The page in a real Chromium: it drives, takes over, records; and a robot whose page is killed stands."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("mujoco")
pytest.importorskip("mcap")
pytest.importorskip("rosbags")
h5py = pytest.importorskip("h5py")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("selenium", reason="the page's tests drive Chromium with selenium")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

from robot_rl import cli  # noqa: E402
from robot_rl.cockpit.access import Access  # noqa: E402
from robot_rl.cockpit.arm_session import ArmSession  # noqa: E402
from robot_rl.cockpit.config import CockpitConfig, device_config  # noqa: E402
from robot_rl.cockpit.device import PageDevice  # noqa: E402
from robot_rl.cockpit.server import CockpitServer  # noqa: E402
from robot_rl.demos.plants import build_plant, find_task  # noqa: E402
from robot_rl.episodes import load_episodes  # noqa: E402
from robot_rl.recording import load_recording  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver is installed"),
]
PATIENCE = 30.0

PERSON = """
// Reaches for the cube as a person does who watches the scene; an input beside keyboard and sticks.
const { driver, status, link } = window.cockpit;
const names = arguments[0];
driver.speed = 1;
let open = true;
const yaw = ([w, x, y, z]) => Math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z));
const clip = (value) => Math.max(-1, Math.min(1, value));
driver.inputs.push({
  release() {},
  read() {
    const tool = status.state?.arms?.arm?.tool;
    const poses = link.poses;
    if (!tool || !poses || status.state.outcome) {
      open = true; // the next episode begins with an open gripper, and with an open dead-man
      return { motion: {}, deadMan: false, held: [] };
    }
    const cube = poses.subarray(7 * names.indexOf("cube"), 7 * names.indexOf("cube") + 7);
    const away = [0, 1, 2].map((axis) => cube[axis] - tool[axis]);
    const aside = Math.hypot(away[0], away[1]);
    let turn = yaw(cube.subarray(3)) - yaw(tool.slice(3));
    turn -= (Math.PI / 2) * Math.round(turn / (Math.PI / 2));
    const around = aside < 0.012 && Math.abs(away[2]) < 0.014 && Math.abs(turn) < 0.2;
    if (around === open) { driver.press("gripper"); open = !around; }
    if (around && status.state.arms.arm.width < 0.052) return { motion: { z: 0.7 }, deadMan: true, held: [] };
    const height = aside > 0.01 || Math.abs(turn) > 0.15 ? 0.06 : 0;
    const [x, y, z] = [away[0], away[1], away[2] + height].map((way) => clip(10 * way));
    return { motion: { x, y, z, rz: clip(2 * turn) }, deadMan: true, held: [] };
  },
});
"""


def open_browser(width=1000, height=760, *, webgl=False):
    """Without WebGL where nothing is said of the 3-D scene: drawn in software it takes most of a CI machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.add_argument("--disable-gpu-compositing")
    options.add_argument("--disable-accelerated-2d-canvas")
    drawing = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader") if webgl else ("--disable-3d-apis",)
    for flag in drawing:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser():
    opened = open_browser()
    yield opened
    opened.quit()


@pytest.fixture
def start(tmp_path):
    """Starts a session: (config) → session, link."""
    started = []

    def begin(**changes):
        fields = {"task": "arm-pick-lift", "out": tmp_path / "set", "picture": (240, 180), **changes}
        config = CockpitConfig(**fields)
        server = CockpitServer(Access(port=0), PageDevice(device_config(config, "arm")))
        session = ArmSession(config, server)
        thread = threading.Thread(target=session.run, daemon=True)
        thread.start()
        started.append((session, server, thread))
        return session, server.link

    yield begin
    for session, server, thread in started:
        session.controls.close()
        thread.join(10.0)
        session.close()
        server.close()


def wait_for(condition, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def text(browser, element):
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", element)


def data(browser, name):
    return browser.execute_script("return document.body.dataset[arguments[0]]", name)


def open_page(browser, link, seat=True):
    browser.get(link)
    wait_for(lambda: browser.execute_script("return Boolean(window.cockpit?.status.state)"))
    if seat:
        browser.find_element(By.ID, "seat").click()
        wait_for(lambda: data(browser, "driver") == "yes")


def press(browser, name):
    browser.find_element(By.CSS_SELECTOR, f"[data-press={name}]").click()


def go_on(browser, session):
    """Until the policy drives: on a busy machine the page may fall silent for a moment, and the robot rests again."""
    if session.operator.state.mode == "paused":
        press(browser, "pause")
        time.sleep(0.3)
    return session.operator.state.mode == "autonomous"


def tool(session):
    return np.asarray(session.plant.env.engine.kinematics("arm").tool_position[0]).copy()


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(start):
    session, link = start()
    browser = open_browser(webgl=True)
    try:
        open_page(browser, link, seat=False)
        wait_for(lambda: browser.execute_script("return window.cockpit.scene?.bodies.length > 5"))
        assert "token" not in browser.current_url
        assert text(browser, "task") == "arm-pick-lift" and "Take the seat" in text(browser, "notice")
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
        origin = link.partition("/?")[0]
        assert len(loaded) > 10 and all(name.startswith(origin) for name in loaded)
        assert browser.execute_script("return document.querySelectorAll('.joint').length") == 7
        wait_for(lambda: browser.execute_script("return document.querySelector('.camera canvas').width") == 240)
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        browser.quit()


def test_a_browser_without_webgl_says_so_and_still_drives(start, browser):
    session, link = start()
    open_page(browser, link)
    assert browser.find_element(By.ID, "no-scene").is_displayed()
    wait_for(lambda: session._server.device.counts.taken > 3)


def test_a_wrong_token_is_refused(start, browser):
    _, link = start()
    browser.delete_all_cookies()
    browser.get(link[:-4] + "xxxx")
    assert "holds a token" in browser.page_source and "<canvas" not in browser.page_source


def test_keys_drive_the_arm_while_the_space_bar_is_held(start, browser):
    session, link = start()
    open_page(browser, link)
    before = tool(session)
    ActionChains(browser).key_down("a").perform()
    time.sleep(0.5)
    assert np.linalg.norm(tool(session) - before) < 1e-6, "without the dead-man nothing moves"
    ActionChains(browser).key_down(" ").perform()
    wait_for(lambda: data(browser, "held") == "yes")
    assert text(browser, "deadman") == "Dead-man held"
    wait_for(lambda: (tool(session) - before)[1] > 0.02)
    ActionChains(browser).key_up(" ").key_up("a").perform()
    wait_for(lambda: data(browser, "held") == "no")
    time.sleep(0.8)
    stands = tool(session)
    time.sleep(0.3)
    assert np.linalg.norm(tool(session) - stands) < 1e-4


def test_a_finger_on_the_stick_drives_and_lifting_it_stops(start, browser):
    session, link = start()
    open_page(browser, link)
    before = tool(session)
    pad = browser.find_element(By.CSS_SELECTOR, ".stick[data-axes='z rz'] .pad")
    ActionChains(browser).click_and_hold(pad).move_by_offset(0, -45).perform()
    wait_for(lambda: (tool(session) - before)[2] > 0.02)
    ActionChains(browser).release().perform()
    wait_for(lambda: not session._server.device.read().dead_man)


def test_a_gamepad_drives_by_its_shoulder_button(start, browser):
    session, link = start()
    open_page(browser, link)
    browser.execute_script(
        """const pad = { connected: true, mapping: "standard", id: "a pad", axes: [0, -1, 0, 0],
             buttons: Array.from({ length: 17 }, () => ({ pressed: false })) };
           window.pad = pad;
           navigator.getGamepads = () => [null, pad];"""
    )
    time.sleep(0.3)
    assert not session._server.device.read().twist.any()
    browser.execute_script("pad.buttons[5].pressed = true")
    wait_for(lambda: session._server.device.read().twist[0] > 0.0)
    assert not session._server.device.read().twist[1:].any()
    browser.execute_script("pad.buttons[5].pressed = false; navigator.getGamepads = () => [];")


def test_another_page_only_watches_and_may_stop_the_robot(start, browser):
    session, link = start(policy="expert")
    open_page(browser, link)
    first = browser.current_window_handle
    wait_for(lambda: go_on(browser, session))
    browser.switch_to.new_window("window")
    try:
        open_page(browser, link, seat=False)
        seat = browser.find_element(By.ID, "seat")
        assert seat.text == "page 1 drives" and not seat.is_enabled()
        browser.execute_script("window.cockpit.link.send({type: 'take'})")  # though the button is off
        wait_for(lambda: "page 1 drives" in text(browser, "says"))
        assert data(browser, "driver") == "no"
        browser.find_element(By.ID, "stop").click()
        wait_for(lambda: session.operator.state.mode == "paused")
    finally:
        browser.close()
        browser.switch_to.window(first)


def test_taking_over_during_a_run_and_handing_back(start, browser):
    session, link = start(policy="expert")
    open_page(browser, link)
    wait_for(lambda: go_on(browser, session))
    wait_for(lambda: data(browser, "mode") == "autonomous" and session.rollout.running)
    press(browser, "take_over")
    wait_for(lambda: session.operator.state.mode == "correcting")
    wait_for(lambda: text(browser, "mode") == "You drive")
    wait_for(lambda: session.rollout.statistics.intervened >= 3)
    press(browser, "hand_back")
    wait_for(lambda: session.operator.state.mode != "correcting")


def test_an_episode_that_is_recorded_through_the_page_can_be_converted_and_replayed(start, browser, tmp_path):
    session, link = start(linear=0.3, angular=1.5, seed=11)
    open_page(browser, link)
    browser.find_element(By.ID, "record").click()
    wait_for(lambda: session.recorder.running)
    bodies = [session.screen._shapes._model.body(i).name for i in range(session.screen._shapes._model.nbody)]
    browser.execute_script(PERSON, bodies)
    # On a crowded machine hands and eyes are slow: not every attempt is in time.
    won = wait_for(lambda: [row for row in session.rows if row.outcome == "success"], 90.0)[0]
    wait_for(lambda: "saved" in text(browser, "count"))
    path = session.recorder.folder / won.file
    info = load_recording(path).info
    (episode,) = load_episodes(path)
    ways = {"recorded": episode.actions, **converted(path, tmp_path)}
    plant = build_plant(find_task(info["task"], info["settings"]), info["randomization"])
    for name, actions in ways.items():
        assert len(actions) == len(episode), name
        plant.next_seed = info["seed"]
        plant.reset()
        outcomes = [plant.step(action) for action in actions]
        assert outcomes[-1].success, name
    plant.close()


def converted(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """The actions of a recording as other projects' formats have them."""
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy(path, alone)
    for kind, out in (("lerobot", folder / "lerobot"), ("robomimic", folder / "demos.hdf5")):
        assert cli.main(["demos", "convert", str(alone), "--to", kind, "--out", str(out)]) == 0
    rows = parquet.read_table(folder / "lerobot" / "data" / "chunk-000" / "file-000.parquet")
    with h5py.File(folder / "demos.hdf5") as file:
        robomimic = file["data/demo_0/actions"][:]
    return {"lerobot": np.array(rows["action"].to_pylist(), np.float32), "robomimic": robomimic}


def test_the_robot_of_a_killed_browser_stands(start):
    session, link = start()
    doomed = open_browser()
    try:
        open_page(doomed, link)
        press(doomed, "take_over")  # time goes on, whatever the dead-man
        before = tool(session)
        ActionChains(doomed).key_down("a").key_down(" ").perform()
        wait_for(lambda: (tool(session) - before)[1] > 0.01)
        for children in Path(f"/proc/{doomed.service.process.pid}/task").glob("*/children"):
            for process in children.read_text().split():
                os.kill(int(process), signal.SIGKILL)  # the browser itself; its windows die with it
        killed = time.monotonic()
    finally:
        doomed.service.process.kill()
    wait_for(lambda: not session._server.device.read().connected, 5.0)
    assert time.monotonic() - killed < 1.0
    time.sleep(session.task.period + 0.15)
    stands = tool(session)
    time.sleep(0.4)
    assert np.linalg.norm(tool(session) - stands) < 1e-3
    assert session.operator.state.mode == "paused"
