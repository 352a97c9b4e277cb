// The browser's Gamepad API, for pads with the standard layout. A shoulder button is the dead-man.

import { shaped } from "./stick.js";

const DEAD_MAN = [4, 5];
const BUTTONS = { 0: "gripper", 1: "hand_back", 2: "take_over", 8: "discard", 9: "pause", 12: "success", 13: "failure" };
const SLOW = 3;
const CLUTCH = 10; // the left stick, pressed

export class GamepadInput {
  constructor(press, act) {
    this.press = press;
    this.act = act;
    this.down = new Set();
    this.name = "";
  }

  release() {}

  read() {
    const pad = [...(navigator.getGamepads?.() ?? [])].find((one) => one?.connected && one.mapping === "standard");
    this.name = pad?.id ?? "";
    if (!pad) {
      this.down.clear();
      return { motion: {}, deadMan: false, held: [] };
    }
    pad.buttons.forEach((button, index) => {
      if (button.pressed && !this.down.has(index)) {
        if (BUTTONS[index]) this.press(BUTTONS[index]);
        if (index === CLUTCH) this.act("clutch");
      }
      if (button.pressed) this.down.add(index);
      else this.down.delete(index);
    });
    const [left, up, turn, lift] = pad.axes.map((value) => -shaped(value));
    return {
      motion: { x: up, y: left, z: lift, rz: turn },
      deadMan: DEAD_MAN.some((index) => pad.buttons[index]?.pressed),
      held: pad.buttons[SLOW]?.pressed ? ["slow"] : [],
    };
  }
}
