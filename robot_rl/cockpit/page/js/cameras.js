// Camera views: of each camera the newest picture, drawn with the screen's next frame.

const CODE_BITS = 16;
const CODE_PIXELS = 8;

export class CameraViews {
  constructor(link, box, tabs) {
    this.link = link;
    this.box = box;
    this.tabs = tabs;
    this.views = [];
    this.stamped = false;
    this.latency = NaN; // s, smoothed
    link.onPicture = (picture) => this.take(picture);
  }

  setup(names, stamped) {
    this.stamped = stamped;
    this.box.replaceChildren();
    this.views = names.map((name) => {
      const tile = document.createElement("div");
      tile.className = "camera tile";
      tile.innerHTML = "<canvas></canvas><span></span><small></small>";
      tile.querySelector("span").textContent = name;
      this.box.append(tile);
      const canvas = tile.querySelector("canvas");
      return { canvas, context: canvas.getContext("2d"), note: tile.querySelector("small"), times: [], waiting: null, busy: false };
    });
    this.addTabs(names);
  }

  addTabs(names) {
    const views = { scene: "3-D scene", ...Object.fromEntries(names.map((name, index) => [`camera${index}`, name])) };
    this.tabs.replaceChildren(...Object.entries(views).map(([view, label]) => {
      const button = document.createElement("button");
      button.textContent = label;
      button.onclick = () => this.choose(view);
      button.dataset.view = view;
      return button;
    }));
    this.choose("scene");
  }

  choose(view) {
    document.body.dataset.view = view;
    for (const button of this.tabs.children) button.classList.toggle("on", button.dataset.view === view);
    dispatchEvent(new Event("resize"));
  }

  take(picture) {
    const view = this.views[picture.camera];
    if (!view) return;
    if (view.waiting) this.tell(view.waiting); // overtaken: it will not be shown
    view.waiting = picture;
    if (!view.busy) this.decode(view);
  }

  async decode(view) {
    view.busy = true;
    while (view.waiting) {
      const picture = view.waiting;
      view.waiting = null;
      try {
        const bitmap = await createImageBitmap(new Blob([picture.data], { type: "image/jpeg" }));
        await nextFrame();
        this.draw(view, picture, bitmap);
      } catch (error) {
        console.warn(`a picture of camera ${picture.camera} can't be shown: ${error}`);
        this.tell(picture);
      }
    }
    view.busy = false;
  }

  draw(view, picture, bitmap) {
    const { canvas, context } = view;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const code = this.stamped ? { code: readCode(context) } : {};
    const age = this.link.ageOf(picture.at);
    this.latency = Number.isFinite(this.latency) ? 0.9 * this.latency + 0.1 * age : age;
    const now = performance.now();
    view.times = [...view.times.filter((time) => now - time < 1000), now];
    view.note.textContent = `${view.times.length} fps · ${Math.max(1, Math.round(1000 * this.latency))} ms`;
    if (this.stamped) requestAnimationFrame(() => this.tell(picture, code)); // it is on the screen by then
    else this.tell(picture, code);
  }

  tell(picture, code = {}) {
    this.link.send({ type: "shown", camera: picture.camera, sequence: picture.sequence, ...code });
  }
}

// A hidden page has no frames: without the time-out a picture would wait for ever.
function nextFrame() {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 250);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function readCode(context) {
  const row = context.getImageData(0, CODE_PIXELS / 2, CODE_BITS * CODE_PIXELS, 1).data;
  let code = 0;
  for (let bit = 0; bit < CODE_BITS; bit++) code = 2 * code + (row[4 * (bit * CODE_PIXELS + CODE_PIXELS / 2)] > 127 ? 1 : 0);
  return code;
}
