// Keys: which directions are held, whether the dead-man (space bar) is, and buttons that went down.

const MOTIONS = {
  KeyW: ["x", 1], KeyS: ["x", -1], KeyA: ["y", 1], KeyD: ["y", -1], KeyR: ["z", 1], KeyF: ["z", -1],
  KeyQ: ["rz", 1], KeyE: ["rz", -1], KeyI: ["ry", 1], KeyK: ["ry", -1], KeyJ: ["rx", -1], KeyL: ["rx", 1],
  ArrowUp: ["x", 1], ArrowDown: ["x", -1], ArrowLeft: ["y", 1], ArrowRight: ["y", -1],
  PageUp: ["z", 1], PageDown: ["z", -1],
};
const BUTTONS = { KeyG: "gripper", Enter: "take_over", Backspace: "hand_back", KeyP: "pause", KeyT: "next_arm" };
const SHIFTED = { KeyY: "success", KeyN: "failure", KeyX: "discard" };
const DEAD_MAN = "Space";

export class KeyboardInput {
  constructor(press, act, onChange) {
    this.held = new Set();
    addEventListener("keydown", (event) => this.down(event, press, act, onChange));
    addEventListener("keyup", (event) => this.held.delete(event.code) && onChange());
    addEventListener("blur", () => this.release());
  }

  down(event, press, act, onChange) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
    const button = event.shiftKey ? SHIFTED[event.code] : BUTTONS[event.code];
    const action = { Escape: "stop", KeyC: "clutch" }[event.code];
    if (!(event.code in MOTIONS) && event.code !== DEAD_MAN && !button && !action) return;
    event.preventDefault(); // the space bar must not press the button that has the focus
    if (document.activeElement instanceof HTMLButtonElement) document.activeElement.blur();
    if (event.repeat) return;
    this.held.add(event.code);
    if (button) press(button);
    if (action) act(action);
    onChange();
  }

  release() {
    this.held.clear();
  }

  read() {
    const motion = {};
    for (const code of this.held) {
      const found = MOTIONS[code];
      if (found) motion[found[0]] = (motion[found[0]] ?? 0) + found[1];
    }
    return { motion, deadMan: this.held.has(DEAD_MAN), held: [] };
  }
}
