// The header and the notices: who drives, whether the dead-man is held, how late everything is.

const byId = (id) => document.getElementById(id);

export class StatusBar {
  constructor(driver, cameras) {
    this.driver = driver;
    this.cameras = cameras;
    this.me = "";
    this.seat = { driver: "", pages: 1 };
    this.state = null;
    this.setup = {};
    setInterval(() => this.showLatency(), 500);
  }

  describe(setup) {
    this.setup = setup;
    byId("task").textContent = setup.task;
    byId("pilot").textContent = setup.robot ? "a robot in ROS 2" : setup.policy ? `policy: ${setup.policy}` : "you drive, no policy";
    byId("stop").textContent = setup.robot ? "E-STOP" : "STOP";
    document.title = `${setup.task} · cockpit`;
    this.show();
  }

  show() {
    const seated = Boolean(this.me) && this.seat.driver === this.me;
    const mode = this.state?.mode ?? "none";
    const idle = mode === "autonomous" && !this.setup.policy;
    const { body } = document;
    body.dataset.driver = seated ? "yes" : "no";
    body.dataset.held = this.driver.held ? "yes" : "no";
    body.dataset.mode = idle ? "idle" : mode;
    text("deadman", this.driver.held ? "Dead-man held" : "Dead-man open");
    text("mode", { autonomous: idle ? "Waiting for you" : "Policy drives", paused: "Paused", correcting: "You drive" }[mode] ?? "–");
    if (mode === "correcting" && !seated) text("mode", `${this.seat.driver || "somebody"} drives`);
    const button = byId("seat");
    button.textContent = seated ? "Leave seat" : this.seat.driver ? `${this.seat.driver} drives` : "Take the seat";
    button.disabled = !seated && Boolean(this.seat.driver);
    button.className = seated || this.seat.driver ? "" : "primary";
    byId("pause").textContent = mode === "paused" ? "Go on" : "Pause";
    byId("pause").classList.toggle("good", mode === "paused");
    byId("clutch").textContent = this.driver.clutch ? "Clutch closed" : "Clutch open";
    byId("clutch").classList.toggle("open", !this.driver.clutch);
    this.notice(seated, mode, idle);
  }

  notice(seated, mode, idle) {
    const problem = this.state?.problem;
    let says = "";
    if (problem) says = problem;
    else if (!seated && !this.seat.driver) says = "You are watching. Take the seat to drive.";
    else if (!seated) says = `You are watching; ${this.seat.driver} has the seat.`;
    else if (mode === "paused" && this.setup.kind === "quadrotor") says = "The set-point stands. Hold the dead-man to fly, or hand back: the mission goes on.";
    else if (mode === "paused") says = "The robot rests. Press “Go on”, or take over.";
    else if (this.state?.barred && this.driver.held) says = "Let go of the dead-man once, then hold it again.";
    else if (idle) says = "Hold the space bar, a stick or a gamepad's shoulder button, and move.";
    else if (mode === "correcting" && this.state.latched && !this.driver.held) says = "You have taken over. Hold the dead-man to move, hand back when done.";
    byId("notice").hidden = !says;
    byId("notice").textContent = says;
  }

  showState(state) {
    const before = this.state;
    this.state = state;
    byId("episode").textContent = state.episode ? `Episode ${state.episode}` : (state.status ?? "");
    byId("clock").textContent = !state.episode ? "" : this.setup.limit ? `${state.time.toFixed(1)} / ${this.setup.limit.toFixed(0)} s` : `${state.time.toFixed(1)} s`;
    byId("progress").style.width = this.setup.limit ? `${Math.min(100, (100 * state.time) / this.setup.limit)}%` : "0";
    const outcome = byId("outcome");
    outcome.hidden = !state.outcome;
    outcome.textContent = state.outcome;
    outcome.className = `chip ${state.outcome}`;
    if (!before || before.mode !== state.mode || before.latched !== state.latched || before.barred !== state.barred || before.problem !== state.problem) this.show();
  }

  showLatency() {
    const picture = this.cameras.latency;
    const parts = [];
    if (Number.isFinite(picture)) parts.push(`picture ${Math.max(1, Math.round(1000 * picture))} ms`);
    if (this.state?.command_ms != null && this.seat.driver) parts.push(`command ${Math.max(1, Math.round(this.state.command_ms))} ms`);
    byId("latency").textContent = parts.join(" · ") || "– ms";
  }

  showLines(lines) {
    byId("says").replaceChildren(...lines.slice().reverse().map(({ text: line }) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
  }
}

function text(id, value) {
  byId(id).querySelector("span").textContent = value;
}
