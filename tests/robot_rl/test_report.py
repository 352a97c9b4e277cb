"""A report is one file that needs nothing else, shows what was flown, and survives incomplete input."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from flights import write_flight

from robot_rl.animation import AnimationConfig, render_animation
from robot_rl.errors import UserError
from robot_rl.flight import load_flight
from robot_rl.plots import timing_figure
from robot_rl.report import ReportConfig, write_report

SMALL = AnimationConfig(width=240, height=160, max_frames=24)


def fly(folder, timing=True):
    """A flight of 20 s."""
    time = np.arange(0.0, 20.0, 0.02)
    phase = np.digitize(time, [1.0, 3.0, 18.0])
    angle = 2.0 * np.pi * time / 5.5
    setpoint = np.stack([np.cos(angle), 0.5 * np.sin(2.0 * angle), np.clip(time, 0.0, 1.0)], axis=-1)
    setpoint[:10] = np.nan
    position = np.nan_to_num(setpoint) + [0.03, 0.04, 0.0]
    tilt = 0.5 * np.sin(time) / 2.0
    data = dict(
        time=time + 50.0,
        position=position,
        orientation=np.stack([np.cos(tilt), np.sin(tilt), 0 * tilt, 0 * tilt], axis=-1),
        linear_velocity=np.gradient(position, time, axis=0),
        angular_velocity=np.zeros_like(position),
        setpoint_position=setpoint,
        setpoint_velocity=np.zeros_like(position),
        motor_commands=np.full((len(time), 4), 1800.0),
        phase=phase.astype(np.uint8),
        phase_names=np.array(["ground", "hover", "figure_eight", "landing <now>"]),
    )
    histogram = {
        "edges_us": [0, 10, 100, 1000],
        "counts": [5, 900, 90, 5],
        "p50_us": 40.0,
        "p99_us": 800.0,
        "max_us": 4e3,
    }
    return write_flight(folder, data, timing={"policy_step": histogram} if timing else {})


@pytest.fixture
def flight_folder(tmp_path):
    return fly(tmp_path)


@pytest.fixture
def training_folder(tmp_path):
    folder = tmp_path / "training"
    folder.mkdir()
    rows = [{"update": i, "wall_s": 0.1 * i, "cpu_s": 0.2 * i, "loss": 3.0 / (1 + i)} for i in range(50)]
    (folder / "progress.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"update": 50, "lo')
    return folder


class _References(HTMLParser):
    """Collects everything that a browser would fetch, and the text."""

    def __init__(self):
        super().__init__()
        self.fetched, self.text = [], []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data"} or (name == "xlink:href"):
                self.fetched.append((tag, name, value))

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    parser = _References()
    parser.feed(path.read_text())
    return parser, " ".join(parser.text)


def test_a_report_holds_everything_itself(flight_folder, training_folder):
    evaluation = flight_folder / "evaluation.json"
    evaluation.write_text(json.dumps({"task": "quadrotor-track", "crash_rate": 0.002, "tracking_rmse_m": 0.0871}))
    path = write_report(
        ReportConfig(flight=flight_folder, training=training_folder, evaluation=evaluation, animation=SMALL)
    )
    parser, text = read(path)
    outside = [entry for entry in parser.fetched if not entry[2].startswith(("data:", "#"))]
    assert outside == []
    assert "@import" not in path.read_text() and not re.search(r"url\((?!#)", path.read_text())
    assert any(value.startswith("data:image/gif;base64,") for _, _, value in parser.fetched)
    for words in (
        "5.0 cm",
        "landing <now>",
        "policy step",
        "800 µs",
        "4.00 ms",
        "0.0871",
        "50 updates in 10 CPU-seconds",
    ):
        assert words in text
    assert path.read_text().count("<svg") == 6


def test_figures_take_their_colours_from_the_page(flight_folder):
    html = write_report(ReportConfig(flight=flight_folder, animation=SMALL)).read_text()
    defined = set(re.findall(r"(--[a-z0-9-]+):", html))
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", html))
    assert used <= defined
    assert "prefers-color-scheme: dark" in html
    assert "#0a0a" not in html  # no placeholder is left
    figures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert not re.search(r"(fill|stroke): #", figures)


def test_a_flight_alone_is_enough(tmp_path):
    folder = fly(tmp_path, timing=False)
    _, text = read(write_report(ReportConfig(flight=folder / "episode-000000.mcap", animation=SMALL)))
    assert (folder / "report.html").is_file()
    assert "Timing" not in text and "Training" not in text and "Evaluation" not in text
    assert "figure-eight RMSE" in text


@pytest.mark.parametrize("field", ["training", "evaluation"])
def test_what_was_asked_for_and_is_missing_is_named(flight_folder, field, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        write_report(ReportConfig(flight=flight_folder, **{field: tmp_path / "nowhere"}))


def test_the_animation_moves_and_stays_small(flight_folder, tmp_path):
    path = render_animation(load_flight(flight_folder), tmp_path / "flight.gif", AnimationConfig(max_frames=60))
    assert path.stat().st_size < 3_000_000
    with Image.open(path) as image:
        assert image.size == (640, 400)
        assert 30 <= image.n_frames <= 60
        image.seek(0)
        first = np.asarray(image.convert("RGB"), dtype=int)
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB"), dtype=int)
    changed = np.abs(first - last).sum(axis=-1) > 30
    assert 0.002 < changed.mean() < 0.3


@pytest.mark.parametrize("edges", [[0, 10, 100], [10, 100], [0, 10, 100, 1000]])
def test_histograms_may_have_open_bins(edges):
    figure = timing_figure({"loop": {"edges_us": edges, "counts": [1, 2, 3], "p50_us": 50, "p99_us": None}})
    assert "<svg" in figure and "p50 50 µs" in figure and "p99" not in figure


def test_a_histogram_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="7 edges for 3 counts"):
        timing_figure({"loop": {"edges_us": range(7), "counts": [1, 2, 3]}})
