// A round pad for a finger or a mouse. A finger on it is the dead-man; lifted, everything is at rest.

export class StickInput {
  constructor(element, onChange) {
    this.element = element;
    // The first axis is positive upwards, the second to the left; a minus turns it around.
    this.axes = element.dataset.axes.split(" ").map((axis) => ({ name: axis.replace("-", ""), sign: axis.startsWith("-") ? -1 : 1 }));
    this.pointer = null;
    this.at = { up: 0, left: 0 };
    this.onChange = onChange;
    element.innerHTML = `<div class="pad"><div class="knob"></div></div><p>${element.dataset.label}</p>`;
    this.pad = element.querySelector(".pad");
    this.knob = element.querySelector(".knob");
    this.pad.addEventListener("pointerdown", (event) => this.grab(event));
    this.pad.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.pad.addEventListener(name, (event) => event.pointerId === this.pointer && this.release());
    }
    this.pad.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  grab(event) {
    if (this.pointer !== null) return;
    event.preventDefault();
    this.pointer = event.pointerId;
    this.pad.setPointerCapture(event.pointerId);
    this.element.classList.add("on");
    this.move(event);
  }

  move(event) {
    if (event.pointerId !== this.pointer) return;
    const box = this.pad.getBoundingClientRect();
    const reach = 0.36 * box.width;
    const right = (event.clientX - box.x - box.width / 2) / reach;
    const down = (event.clientY - box.y - box.height / 2) / reach;
    const size = Math.max(1, Math.hypot(right, down));
    this.at = { up: -down / size, left: -right / size };
    this.knob.style.transform = `translate(${(right / size) * reach}px, ${(down / size) * reach}px)`;
    this.onChange();
  }

  release() {
    this.pointer = null;
    this.at = { up: 0, left: 0 };
    this.knob.style.transform = "";
    this.element.classList.remove("on");
    this.onChange();
  }

  read() {
    const [vertical, horizontal] = this.axes;
    const motion = { [vertical.name]: vertical.sign * shaped(this.at.up), [horizontal.name]: horizontal.sign * shaped(this.at.left) };
    return { motion, deadMan: this.pointer !== null, held: [] };
  }
}

// Fine near the middle, none in it.
export function shaped(value, dead = 0.12, exponent = 1.5) {
  const beyond = (Math.abs(value) - dead) / (1 - dead);
  return beyond > 0 ? Math.sign(value) * Math.min(1, beyond) ** exponent : 0;
}
