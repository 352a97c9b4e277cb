// Three small curves: success, how much the person drove, cycle time.

const CURVES = [
  { key: "success", label: "success", color: "#3ddc97", most: 1, text: (value) => `${Math.round(100 * value)} %` },
  { key: "intervention", label: "intervention", color: "#4cc2ff", most: 1, text: (value) => `${Math.round(100 * value)} %` },
  { key: "cycle_time", label: "cycle time", color: "#ffb454", most: 0, text: (value) => `${value.toFixed(1)} s` },
];

export class Curves {
  constructor(element) {
    this.parts = CURVES.map((curve) => {
      const box = document.createElement("div");
      box.className = "curve";
      box.innerHTML = "<small></small><b>–</b><canvas></canvas>";
      box.querySelector("small").textContent = curve.label;
      element.append(box);
      return { ...curve, value: box.querySelector("b"), canvas: box.querySelector("canvas") };
    });
    addEventListener("resize", () => this.last && this.show(this.last));
  }

  show(curves) {
    this.last = curves;
    for (const part of this.parts) {
      const values = curves[part.key] ?? [];
      const last = values.at(-1);
      part.value.textContent = last === undefined || last === null ? "–" : part.text(last);
      draw(part, values);
    }
  }
}

function draw({ canvas, color, most }, values) {
  const scale = Math.min(devicePixelRatio, 2);
  const width = (canvas.width = Math.max(1, Math.round(canvas.clientWidth * scale)));
  const height = (canvas.height = Math.max(1, Math.round(canvas.clientHeight * scale)));
  const context = canvas.getContext("2d");
  const known = values.filter((value) => value !== null);
  const top = most || Math.max(1e-6, ...known) * 1.15;
  const inset = 3 * scale;
  const place = (index, value) => [
    inset + ((width - 2 * inset) * index) / Math.max(1, values.length - 1),
    height - inset - ((height - 2 * inset) * value) / top,
  ];
  context.strokeStyle = "#243142";
  context.lineWidth = scale;
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(place(0, share * top)[1]) + 0.5;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
  }
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = 2 * scale;
  context.lineJoin = "round";
  context.beginPath();
  let end = null;
  values.forEach((value, index) => {
    if (value === null) return;
    const point = place(index, value);
    if (end) context.lineTo(...point);
    else context.moveTo(...point);
    end = point;
  });
  context.stroke();
  if (end) {
    context.beginPath();
    context.arc(end[0], end[1], 3 * scale, 0, 7);
    context.fill();
  }
}
