"""A flight as a small animated GIF: a fixed view on the drone, its attitude, its trail and its set-point.

Drawn with Pillow alone: a projection of a few hundred points needs no 3-D engine, and matplotlib's would
take a minute. The camera stands still, so that little changes from frame to frame and the file stays small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.rotation import rotate, tilt_of
from robot_rl.errors import require_packages
from robot_rl.flight import Flight, tracking_error

if TYPE_CHECKING:
    from PIL import Image

_BACKGROUND, _FLOOR, _FLOOR_EDGE = "#10151c", "#1f2833", "#36424f"
_TEXT, _FAINT = "#e8edf2", "#8b98a6"
_SETPOINT, _FRONT, _BACK, _ARM, _SHADOW = "#ffe45e", "#ff6b6b", "#d7dee6", "#aab5c0", "#0a0d11"
_TRAILS = ("#4fc3f7", "#81c784", "#ba9cf5", "#f48fb1", "#ffd54f", "#80cbc4")
_SUPERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class AnimationConfig:
    """How the flight is drawn."""

    width: int = 640
    """px."""
    height: int = 400
    """px."""
    frames_per_second: float = 12.5
    """Hz of the playback; GIF counts in hundredths of a second."""
    max_frames: int = 320
    """A longer flight is played faster, and says so."""
    azimuth: float = -58.0
    """deg, direction from which the camera looks, about the world's z axis."""
    elevation: float = 26.0
    """deg above the horizon."""
    arm: float = 0.16
    """m, length of a drawn arm: a Crazyflie to scale would be a few pixels."""


def render_animation(flight: Flight, path: str | Path, config: AnimationConfig = AnimationConfig()) -> Path:
    """Write the flight as an animated GIF to `path` and return it."""
    require_packages("an animation", "report", ["PIL"])
    from PIL import Image

    duration = float(flight.time[-1])
    speed = max(1.0, math.ceil(2.0 * duration * config.frames_per_second / config.max_frames) / 2.0)
    count = max(2, int(duration / speed * config.frames_per_second))
    samples = np.searchsorted(flight.time, np.linspace(0.0, duration, count)).clip(0, len(flight.time) - 1)
    scene = _Scene(flight, config)
    palette = _palette()
    frames = []
    for sample in samples.tolist():
        picture = scene.draw(sample, speed)
        # One palette and no dithering for all frames: pixels that do not change are then stored once.
        frames.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    milliseconds = round(1000 / config.frames_per_second)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=False)
    return Path(path)


class _Scene:
    """The projection of one flight, and the trail that grows from frame to frame."""

    def __init__(self, flight: Flight, config: AnimationConfig) -> None:
        from PIL import Image, ImageFont

        self.flight, self.config = flight, config
        self.size = (config.width * _SUPERSAMPLING, config.height * _SUPERSAMPLING)
        self.error, self.tilt = tracking_error(flight), tilt_of(flight.orientation)
        azimuth, elevation = math.radians(config.azimuth), math.radians(config.elevation)
        right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
        level, up = math.cos(elevation), math.sin(elevation)
        toward = np.array([math.cos(azimuth) * level, math.sin(azimuth) * level, up])
        self.axes = np.stack([right, np.cross(toward, right)])
        points = np.concatenate([flight.position, flight.setpoint_position])
        points = points[np.isfinite(points).all(axis=-1)]
        self.floor_low = np.floor((points[:, :2].min(axis=0) - 0.3) * 2.0) / 2.0
        self.floor_high = np.ceil((points[:, :2].max(axis=0) + 0.3) * 2.0) / 2.0
        corners = [(x, y, 0.0) for x in (self.floor_low[0], self.floor_high[0])
                   for y in (self.floor_low[1], self.floor_high[1])]  # fmt: skip
        flat = np.concatenate([points, np.array(corners)]) @ self.axes.T
        low, high = flat.min(axis=0), flat.max(axis=0)
        room = np.array(self.size) - np.array([60.0, 110.0]) * _SUPERSAMPLING
        self.scale = float(np.min(room / np.maximum(high - low, 0.2)))
        self.center = (low + high) / 2.0
        self.fonts = [ImageFont.load_default(size=size * _SUPERSAMPLING) for size in (17, 12)]
        self.ground = Image.new("RGB", self.size, _BACKGROUND)
        self._draw_floor()
        self.drawn = 0

    def project(self, points: np.ndarray) -> list[tuple[float, float]]:
        """World points (N, 3) to pixels."""
        flat = (np.atleast_2d(points) @ self.axes.T - self.center) * self.scale
        x = self.size[0] / 2 + flat[:, 0]
        y = self.size[1] / 2 + 14 * _SUPERSAMPLING - flat[:, 1]
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def draw(self, sample: int, speed: float) -> Image.Image:
        """The frame at one sample; samples must not go back, because the trail only grows."""
        from PIL import Image, ImageDraw

        self._extend_trail(sample)
        picture = self.ground.copy()
        pen = ImageDraw.Draw(picture)
        position = self.flight.position[sample]
        _dot(pen, self.project(position * [1, 1, 0])[0], 6, _SHADOW, squash=0.5)
        self._draw_drone(pen, position, self.flight.orientation[sample])
        self._draw_setpoint(pen, self.flight.setpoint_position[sample])
        self._draw_text(pen, sample, speed)
        return picture.resize((self.config.width, self.config.height), Image.Resampling.LANCZOS)

    def _draw_floor(self) -> None:
        from PIL import ImageDraw

        pen = ImageDraw.Draw(self.ground)
        (x0, y0), (x1, y1) = self.floor_low, self.floor_high
        pen.polygon(self.project(np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]])), fill="#161d26")
        for x in np.arange(x0, x1 + 1e-9, 0.5):
            edge = _FLOOR_EDGE if abs(x - round(x)) < 1e-6 else _FLOOR
            pen.line(self.project(np.array([[x, y0, 0], [x, y1, 0]])), fill=edge, width=_SUPERSAMPLING)
        for y in np.arange(y0, y1 + 1e-9, 0.5):
            edge = _FLOOR_EDGE if abs(y - round(y)) < 1e-6 else _FLOOR
            pen.line(self.project(np.array([[x0, y, 0], [x1, y, 0]])), fill=edge, width=_SUPERSAMPLING)

    def _extend_trail(self, sample: int) -> None:
        from PIL import ImageDraw

        pen = ImageDraw.Draw(self.ground)
        step = max(1, len(self.flight.time) // 1500)
        for index in range(self.drawn, sample, step):
            end = min(index + step, sample)
            color = _TRAILS[self.flight.phase[index] % len(_TRAILS)]
            pen.line(
                self.project(self.flight.position[[index, end]]),
                fill=color,
                width=round(1.5 * _SUPERSAMPLING),
            )
        self.drawn = max(self.drawn, sample)

    def _draw_setpoint(self, pen: Any, setpoint: np.ndarray) -> None:
        if not np.isfinite(setpoint).all():
            return
        x, y = self.project(setpoint)[0]
        long, short = 9 * _SUPERSAMPLING, 4 * _SUPERSAMPLING
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = [(x + dx * short, y + dy * short), (x + dx * long, y + dy * long)]
            pen.line(ends, fill=_SETPOINT, width=2 * _SUPERSAMPLING)

    def _draw_drone(self, pen: Any, position: np.ndarray, orientation: np.ndarray) -> None:
        reach = self.config.arm / math.sqrt(2.0)
        rotors = np.array([[1, -1, 0], [-1, -1, 0], [-1, 1, 0], [1, 1, 0]]) * reach
        up = rotate(orientation, np.array([0.0, 0.0, 0.9 * self.config.arm])) + position
        circle = np.linspace(0.0, 2.0 * math.pi, 17)
        disc = 0.55 * reach * np.stack([np.cos(circle), np.sin(circle), 0 * circle], axis=-1)
        center = self.project(position)[0]
        for index, rotor in enumerate(rotors):
            hub = rotate(orientation, rotor) + position
            pen.line([center, self.project(hub)[0]], fill=_ARM, width=3 * _SUPERSAMPLING)
            rim = rotate(np.broadcast_to(orientation, (len(disc), 4)), rotor + disc) + position
            color = _FRONT if index in (0, 3) else _BACK
            pen.line(self.project(rim), fill=color, width=2 * _SUPERSAMPLING, joint="curve")
        pen.line([center, self.project(up)[0]], fill=_TEXT, width=2 * _SUPERSAMPLING)
        _dot(pen, center, 3, _TEXT)

    def _draw_text(self, pen: Any, sample: int, speed: float) -> None:
        large, small = self.fonts
        unit = _SUPERSAMPLING
        phase = self.flight.phase_names[self.flight.phase[sample]].replace("_", " ")
        color = _TRAILS[self.flight.phase[sample] % len(_TRAILS)]
        pen.text((18 * unit, 14 * unit), phase, fill=color, font=large)
        pace = "real time" if speed == 1.0 else f"{speed:g}x speed"
        pen.text((18 * unit, 36 * unit), f"{self.flight.time[sample]:5.1f} s   {pace}", fill=_FAINT, font=small)
        error = self.error[sample]
        right = (self.config.width - 18) * unit
        reading = f"{100.0 * error:.1f} cm off" if math.isfinite(error) else "no set-point"
        pen.text((right, 14 * unit), reading, fill=_TEXT, font=large, anchor="ra")
        pen.text(
            (right, 36 * unit),
            f"tilt {math.degrees(self.tilt[sample]):.0f}°",
            fill=_FAINT,
            font=small,
            anchor="ra",
        )
        bottom = (self.config.height - 24) * unit
        pen.text(
            (18 * unit, bottom),
            "yellow cross: set-point    red: front rotors    grid: 0.5 m",
            fill=_FAINT,
            font=small,
        )


def _dot(pen: Any, center: tuple[float, float], radius: float, color: str, squash: float = 1.0) -> None:
    x, y = center
    rx, ry = radius * _SUPERSAMPLING, radius * _SUPERSAMPLING * squash
    pen.ellipse([x - rx, y - ry, x + rx, y + ry], fill=color)


def _palette() -> Image.Image:
    """The drawing colours and their blends with the background, which anti-aliasing produces."""
    from PIL import Image, ImageColor

    colors = (
        _TEXT, _FAINT, _SETPOINT, _FRONT, _BACK, _ARM, _SHADOW, _FLOOR, _FLOOR_EDGE, "#161d26", *_TRAILS,
    )  # fmt: skip
    background = np.array(ImageColor.getrgb(_BACKGROUND), dtype=float)
    entries = [background]
    for color in colors:
        target = np.array(ImageColor.getrgb(color), dtype=float)
        entries += [background + (target - background) * part for part in (0.25, 0.5, 0.75, 1.0)]
    image = Image.new("P", (1, 1))
    image.putpalette(np.array(entries).round().astype(np.uint8).tobytes())
    return image
