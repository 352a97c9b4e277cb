// The robot's state beside its limits: joints, tool, gripper, force; of a quadrotor position and speed.

const DEGREES = 180 / Math.PI;

export class RobotPanel {
  constructor(element) {
    this.element = element;
    this.parts = [];
  }

  setup(setup) {
    this.element.replaceChildren(heading("Robot"));
    this.parts = (setup.arms ?? []).map((arm) => this.addArm(arm, setup.arms.length > 1));
    this.vehicle = setup.kind === "quadrotor" ? this.addVehicle() : null;
  }

  addArm(arm, several) {
    const joints = arm.joints.map((name, index) => {
      const row = add(this.element, "div", "joint");
      row.title = name;
      add(row, "small").textContent = several ? `${arm.name[0].toUpperCase()}${index + 1}` : `J${index + 1}`;
      const track = add(row, "div", "track");
      return { track, dot: add(track, "i"), value: add(row, "b"), limits: arm.position_limits[index] };
    });
    const figures = add(this.element, "div", "figures");
    const part = { arm, joints, x: figure(figures, "x, m"), y: figure(figures, "y, m"), z: figure(figures, "z, m"), turn: figure(figures, "turn") };
    if (arm.gripper) part.gripper = gauge(figures, "gripper");
    if (arm.force) part.force = gauge(figures, "force");
    part.speed = gauge(figures, "tool speed");
    return part;
  }

  addVehicle() {
    return { box: add(this.element, "div", "figures"), values: {} };
  }

  show(state) {
    for (const part of this.parts) {
      const told = state.arms?.[part.arm.name];
      if (told) this.showArm(part, told);
    }
    if (this.vehicle && state.vehicle) {
      const { box, values } = this.vehicle;
      for (const [name, value] of Object.entries(state.vehicle)) {
        values[name] ??= figure(box, name);
        values[name].textContent = value;
      }
    }
  }

  showArm(part, told) {
    part.joints.forEach((joint, index) => {
      const [low, high] = joint.limits;
      const value = told.positions[index];
      const share = Math.max(0, Math.min(1, (value - low) / (high - low)));
      joint.dot.style.left = `${100 * share}%`;
      const margin = Math.min(share, 1 - share);
      joint.track.className = `track${margin < 0.02 ? " limit" : margin < 0.08 ? " near" : ""}`;
      joint.value.textContent = `${(value * DEGREES).toFixed(1)}°`;
    });
    const [x, y, z, w, i, j, k] = told.tool;
    part.x.textContent = metres(x);
    part.y.textContent = metres(y);
    part.z.textContent = metres(z);
    part.turn.textContent = `${(Math.atan2(2 * (w * k + i * j), 1 - 2 * (j * j + k * k)) * DEGREES).toFixed(0)}°`;
    if (part.gripper && told.width !== null) part.gripper(told.width / part.arm.gripper, `${(1000 * told.width).toFixed(0)} mm`);
    if (part.force && told.force !== null) part.force(told.force / part.arm.force, `${told.force.toFixed(1)} N`);
    const speed = Math.hypot(...told.twist.slice(0, 3));
    part.speed(speed / 0.5, `${speed.toFixed(2)} m/s`);
  }
}

function metres(value) {
  return value.toFixed(3);
}

function heading(text) {
  const element = document.createElement("h2");
  element.textContent = text;
  return element;
}

function add(parent, tag, name = "") {
  const element = document.createElement(tag);
  element.className = name;
  parent.append(element);
  return element;
}

function figure(parent, label) {
  const box = add(parent, "div", "figure");
  add(box, "small").textContent = label;
  return add(box, "b");
}

function gauge(parent, label) {
  const box = add(parent, "div", "figure wide");
  add(box, "small").textContent = label;
  const value = add(box, "b");
  const fill = add(add(box, "div", "bar"), "i");
  return (share, text) => {
    fill.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
    fill.style.background = share > 0.9 && label === "force" ? "var(--bad)" : "";
    value.textContent = text;
  };
}
