// Hands and sticks become commands, fifty a second while this page has the seat.
// This must stay on the page's main thread: a page that hangs must fall silent, so that the robot stops.

import { clock } from "./link.js";

const AXES = ["x", "y", "z", "rx", "ry", "rz"];
const PERIOD = 20; // ms

export class Driver {
  constructor(link) {
    this.link = link;
    this.inputs = [];
    this.pressed = new Set();
    this.sequence = 0;
    this.clutch = true;
    this.speed = 0.6;
    this.seated = false;
    this.holding = false; // the button on the page
    this.held = false;
    this.motion = AXES.map(() => 0);
    this.onChange = () => {};
    setInterval(() => this.tick(), PERIOD);
    document.addEventListener("visibilitychange", () => document.hidden && this.release());
    addEventListener("pagehide", () => this.release());
  }

  press(name) {
    if (this.seated) this.pressed.add(name);
  }

  toggleClutch() {
    this.clutch = !this.clutch;
    this.tick();
  }

  release() {
    this.holding = false;
    for (const input of this.inputs) input.release();
    this.pressed.clear();
    this.tick();
  }

  seat(seated) {
    if (seated === this.seated) return;
    this.seated = seated;
    this.pressed.clear();
    this.tick();
  }

  tick() {
    const told = this.inputs.map((input) => input.read());
    const deadMan = !document.hidden && (this.holding || told.some((one) => one.deadMan));
    const motion = AXES.map((axis) => {
      const sum = told.reduce((total, one) => total + (one.motion[axis] ?? 0), 0);
      return this.speed * Math.max(-1, Math.min(1, sum));
    });
    this.motion = deadMan && this.clutch && this.seated ? motion : AXES.map(() => 0);
    const held = deadMan && this.seated;
    if (held !== this.held) {
      this.held = held;
      this.onChange();
    }
    if (!this.seated) return;
    const sent = this.link.send({
      type: "command",
      sequence: ++this.sequence,
      at: clock(),
      motion,
      dead_man: deadMan,
      clutch: this.clutch,
      held: [...new Set(told.flatMap((one) => one.held))],
      pressed: [...this.pressed],
    });
    if (sent) this.pressed.clear();
  }
}
