// The WebSocket to the robot: opens again when lost, and hands messages to whoever wants them.

const PICTURE = 1;
const POSES = 2;
const HEADER_BYTES = 16;
export const POSES_SLOT = 255;
const MOST_UNSENT = 4096; // bytes: what is newer is better than what waits

export class Link {
  constructor() {
    this.handlers = {};
    this.onPicture = () => {};
    this.onPoses = (message) => this.send({ type: "shown", camera: POSES_SLOT, sequence: message.sequence });
    this.poses = null; // the newest ones: seven numbers for each body
    this.onOpen = () => {};
    this.onClose = () => {};
    this.open = false;
    this.bestDelay = Infinity; // s: our clock minus the robot's, at the quickest way so far
    this.wait = 300;
  }

  on(kind, handler) {
    this.handlers[kind] = handler;
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.open = true;
      this.wait = 300;
      this.bestDelay = Infinity;
      this.onOpen();
    };
    this.socket.onclose = () => {
      if (this.open) this.onClose();
      this.open = false;
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(3000, 1.6 * this.wait);
    };
    this.socket.onmessage = (event) => (typeof event.data === "string" ? this.hear(event.data) : this.see(event.data));
  }

  send(message) {
    if (!this.open || this.socket.bufferedAmount > MOST_UNSENT) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  hear(text) {
    const message = JSON.parse(text);
    if (message.type === "ping") {
      const now = clock();
      this.bestDelay = Math.min(this.bestDelay, now - message.asked);
      this.send({ type: "pong", asked: message.asked, at: now });
      return;
    }
    this.handlers[message.type]?.(message);
  }

  see(data) {
    const view = new DataView(data);
    const kind = view.getUint8(0);
    const sequence = view.getUint32(4, true);
    const at = view.getFloat64(8, true);
    if (kind === PICTURE) this.onPicture({ camera: view.getUint8(1), sequence, at, data: new Uint8Array(data, HEADER_BYTES) });
    if (kind === POSES) {
      this.poses = new Float32Array(data, HEADER_BYTES);
      this.onPoses({ sequence, at, poses: this.poses });
    }
  }

  // s since the robot's time `at`; the quickest way there counts as none.
  ageOf(at) {
    return clock() - at - this.bestDelay;
  }
}

export function clock() {
  return performance.now() / 1000;
}
