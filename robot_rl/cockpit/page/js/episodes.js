// The list of episodes and the recording's button.

export class EpisodeList {
  constructor(link, curves) {
    this.link = link;
    this.curves = curves;
    this.list = document.getElementById("episodes");
    this.button = document.getElementById("record");
    this.count = document.getElementById("count");
    this.on = false;
    this.button.onclick = () => this.link.send({ type: "do", action: "record", on: !this.on });
  }

  setup(setup) {
    this.button.hidden = !setup.records;
    document.getElementById("folder").textContent = setup.folder ? `into ${setup.folder}` : "";
  }

  show(message) {
    this.curves.show(message.curves);
    this.list.replaceChildren(...message.rows.map(row));
    if (!message.rows.length) this.list.innerHTML = "<p class='muted empty'>None yet.</p>";
  }

  showRecording(recording) {
    if (!recording) return;
    this.on = recording.on;
    this.button.classList.toggle("on", recording.on);
    const label = recording.on ? (recording.running ? "Recording" : "From the next") : "Record";
    this.button.querySelector("span").textContent = label;
    this.count.textContent = recording.count ? `· ${recording.count} saved` : "";
  }
}

function row({ number, outcome, seconds, helped, file }) {
  const element = document.createElement("div");
  const cells = [[`${number}`, "muted"], [outcome, outcome], [`${seconds.toFixed(1)} s`, ""],
    [helped > 0 ? `${Math.round(100 * helped)} % you` : "", "muted"], [file.replace(/^episode-0*(\d+)\.mcap$/, "● $1"), "file"]];
  for (const [text, name] of cells) {
    const cell = document.createElement("span");
    cell.textContent = text;
    cell.className = name;
    element.append(cell);
  }
  element.title = file;
  return element;
}
