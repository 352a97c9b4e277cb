// Puts the page together.

import { CameraViews } from "./cameras.js";
import { Curves } from "./curves.js";
import { Driver } from "./driver.js";
import { EpisodeList } from "./episodes.js";
import { GamepadInput } from "./gamepad.js";
import { KeyboardInput } from "./keyboard.js";
import { Link } from "./link.js";
import { RobotPanel } from "./robot.js";
import { SceneView } from "./scene.js";
import { StatusBar } from "./status.js";
import { StickInput } from "./stick.js";

const byId = (id) => document.getElementById(id);
const link = new Link();
const driver = new Driver(link);
const cameras = new CameraViews(link, byId("cameras"), byId("view-tabs"));
const status = new StatusBar(driver, cameras);
const robot = new RobotPanel(byId("robot"));
const episodes = new EpisodeList(link, new Curves(byId("curves")));
const scene = openScene();

function openScene() {
  try {
    return new SceneView(link, byId("scene"));
  } catch (error) {
    byId("no-scene").hidden = false; // a browser without WebGL still drives
    return null;
  }
}

const sticks = [...document.querySelectorAll(".stick")].map((element) => new StickInput(element, () => driver.tick()));
driver.inputs = [new KeyboardInput(press, act, () => driver.tick()), new GamepadInput(press, act), ...sticks];
driver.onChange = () => status.show();

function press(name) {
  driver.press(name);
}

function act(name) {
  if (name === "stop") link.send({ type: "do", action: "stop" });
  if (name === "clutch") {
    driver.toggleClutch();
    status.show();
  }
}

for (const button of document.querySelectorAll("[data-press]")) button.onclick = () => press(button.dataset.press);
for (const button of document.querySelectorAll("[data-eye]")) button.onclick = () => scene?.look(button.dataset.eye);
for (const button of document.querySelectorAll("[data-tab-name]")) {
  button.onclick = () => {
    document.body.dataset.tab = button.dataset.tabName;
    for (const other of document.querySelectorAll("[data-tab-name]")) other.classList.toggle("on", other === button);
    dispatchEvent(new Event("resize"));
  };
}
document.querySelector("[data-tab-name='drive']").classList.add("on");
byId("stop").onclick = () => act("stop");
byId("clutch").onclick = () => act("clutch");
byId("seat").onclick = () => link.send({ type: status.seat.driver === status.me ? "leave" : "take" });
byId("speed").oninput = (event) => {
  driver.speed = event.target.valueAsNumber / 100;
  byId("speed-value").textContent = `${event.target.value} %`;
};
const hold = byId("hold");
hold.onpointerdown = (event) => {
  hold.setPointerCapture(event.pointerId);
  driver.holding = true;
  driver.tick();
};
hold.onpointerup = hold.onpointercancel = hold.onlostpointercapture = () => {
  driver.holding = false;
  driver.tick();
};

link.on("you", (message) => (status.me = message.name));
link.on("setup", (message) => {
  status.describe(message);
  robot.setup(message);
  episodes.setup(message);
  cameras.setup(message.cameras, message.stamped);
  showControls(message);
  if (scene && message.view) {
    scene.view = message.view;
    scene.look("over");
  }
});
link.on("scene", (message) => scene?.build(message));
link.on("seat", (message) => {
  status.seat = message;
  driver.seat(message.driver !== "" && message.driver === status.me);
  status.show();
});
link.on("state", (message) => {
  status.showState(message);
  robot.show(message);
  episodes.showRecording(message.recording);
  const tools = Object.values(message.arms ?? {});
  scene?.showWish(tools.length === 1 ? tools[0].tool : null, driver.motion);
});
link.on("episodes", (message) => episodes.show(message));
link.on("says", (message) => status.showLines(message.lines));
link.on("refused", (message) => status.showLines([{ text: message.why }]));
link.onOpen = () => (byId("lost").hidden = true);
link.onClose = () => {
  driver.seat(false);
  byId("lost").hidden = false;
};
window.cockpit = { link, driver, status, scene }; // for the console, and for tests
link.connect();

// Only what the task's action can do.
function showControls(setup) {
  const axes = setup.axes ?? [];
  for (const stick of sticks) {
    stick.element.hidden = !stick.axes.some((axis) => axes.includes(axis.name));
  }
  byId("gripper").hidden = !axes.includes("gripper");
  byId("next-arm").hidden = (setup.arms ?? []).length < 2;
  // A real robot has no episodes here; a mission that a person interrupted goes on when they hand back.
  const own = { take_over: !setup.robot, hand_back: !setup.robot || setup.kind === "quadrotor", pause: !setup.robot && setup.kind !== "quadrotor" };
  for (const [name, shown] of Object.entries(own)) document.querySelector(`[data-press=${name}]`).hidden = !shown;
  document.querySelector(".verdicts").hidden = Boolean(setup.robot);
  document.body.dataset.robot = setup.robot ? "yes" : "no";
}
