"""What a real camera does to an image, as data: ranges to draw from, a draw per episode, a function per frame.

The order is that of a camera: lens and motion blur the light, the rows are exposed one after the other, the sensor
adds noise, the camera's processor applies gains and gamma and compresses, the connection drops frames. Every range is
zero by default, and a zero does nothing: with all ranges at zero an image comes out bit by bit as it went in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

Range: TypeAlias = tuple[float, float]

_NOTHING: Range = (0.0, 0.0)
_LIMITS: Mapping[str, Range] = {
    "exposure": (-4.0, 4.0),
    "red": (-0.9, 4.0),
    "blue": (-0.9, 4.0),
    "gamma": (-3.0, 3.0),
    "row_speed": (-math.inf, math.inf),
    "compression": (0.0, 99.0),
    "drop": (0.0, 1.0),
}
"""Where values make sense; of all others from 0 on."""


@dataclass(frozen=True, kw_only=True)
class ImageRandomization:
    """Lowest and highest value of each effect, drawn uniformly at the beginning of an episode."""

    defocus: Range = _NOTHING
    """Pixels, standard deviation of the blur."""
    motion_blur: Range = _NOTHING
    """Pixels, length of the blur, in a direction drawn with it."""
    rolling_shutter: Range = _NOTHING
    """Pixels by which the last row lags behind the first when a vibrating camera moves fastest."""
    exposure: Range = _NOTHING
    """Stops: 1 is twice as bright."""
    red: Range = _NOTHING
    """Error of the white balance: 0.1 is 10 % too much red."""
    blue: Range = _NOTHING
    """Likewise of blue."""
    shot_noise: Range = _NOTHING
    """Grey levels, standard deviation at full brightness; grows with the root of brightness."""
    read_noise: Range = _NOTHING
    """Grey levels, standard deviation, the same in dark and bright places."""
    fixed_pattern: Range = _NOTHING
    """Grey levels, standard deviation from pixel to pixel of an offset that stays for the whole episode."""
    row_noise: Range = _NOTHING
    """Grey levels, standard deviation of stripes along the rows, which roll through the image."""
    row_speed: Range = _NOTHING
    """Rows per frame by which the stripes roll: that makes them correlated in time."""
    gamma: Range = _NOTHING
    """Logarithm to base 2 of the exponent: 1 squares the brightness, which darkens; -1 takes the root."""
    compression: Range = _NOTHING
    """100 minus the quality of JPEG: 10 is hardly seen, 80 is poor."""
    drop: Range = _NOTHING
    """Probability that a frame does not arrive, so that the one before is seen again."""

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            low, high = getattr(self, entry.name)
            least, most = _LIMITS.get(entry.name, (0.0, math.inf))
            if not (least <= low <= high <= most and math.isfinite(low) and math.isfinite(high)):
                raise ValueError(
                    f"image randomization: {entry.name} is {(low, high)}; expected lowest and highest value within "
                    f"[{least:g}, {most:g}]"
                )


MODERATE = ImageRandomization(
    defocus=(0.0, 0.6),
    motion_blur=(0.0, 2.0),
    rolling_shutter=(0.0, 1.5),
    exposure=(-0.5, 0.5),
    red=(-0.1, 0.1),
    blue=(-0.1, 0.1),
    shot_noise=(0.0, 5.0),
    read_noise=(0.0, 3.0),
    fixed_pattern=(0.0, 2.0),
    row_noise=(0.0, 2.0),
    row_speed=(-12.0, 12.0),
    gamma=(-0.3, 0.3),
    compression=(0.0, 50.0),
    drop=(0.0, 0.05),
)
"""A webcam in a laboratory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageEffects:
    """What one camera does in one episode."""

    strength: Mapping[str, float]
    """Name of each effect → drawn value."""
    streak: np.ndarray | None = None
    """Shape (K, K) float32: kernel of the motion blur."""
    pattern: np.ndarray | None = None
    """Shape (H, W, 3) float32, grey levels: the fixed pattern."""
    rows: np.ndarray | None = None
    """Shape (H, 1, 1) float32, grey levels: the stripes of the first frame."""
    vibration: tuple[float, float] = (0.0, 0.0)
    """rad per frame and rad: frequency and phase of the camera's vibration."""


def sample(ranges: ImageRandomization, size: tuple[int, int], generator: np.random.Generator) -> ImageEffects:
    """Draw what happens to images of `size` (height, width) in an episode."""
    # Everything is drawn whatever the ranges are, so that one effect does not change the draws of the others.
    drawn = generator.random(len(dataclasses.fields(ranges)))
    strength = {}
    for entry, percentile in zip(dataclasses.fields(ranges), drawn.tolist(), strict=True):
        low, high = getattr(ranges, entry.name)
        strength[entry.name] = low + (high - low) * percentile
    angle, frequency, phase = (2.0 * math.pi * generator.random(3)).tolist()
    fixed, rows = (np.random.default_rng(seed) for seed in generator.integers(2**62, size=2))
    height, width = size
    pattern = stripes = None
    moves = strength["motion_blur"] > 0.0
    if strength["fixed_pattern"]:
        white = fixed.standard_normal((height, width, 3), dtype=np.float32)
        pattern = np.float32(strength["fixed_pattern"]) * white
    if strength["row_noise"]:
        # Neighbouring rows are read out one after the other and share their error in part.
        white = rows.standard_normal(height, dtype=np.float32)
        smooth = (white + np.roll(white, 1) + np.roll(white, 2)) / np.float32(math.sqrt(3.0))
        stripes = np.float32(strength["row_noise"]) * smooth[:, None, None]
    return ImageEffects(
        strength=strength,
        streak=_streak(strength["motion_blur"] * np.array([math.cos(angle), math.sin(angle)])) if moves else None,
        pattern=pattern,
        rows=stripes,
        vibration=(0.5 * frequency, phase),
    )


def apply(
    image: np.ndarray,
    effects: ImageEffects,
    generator: np.random.Generator,
    *,
    frame: int = 0,
    previous: np.ndarray | None = None,
) -> np.ndarray:
    """The image as the camera gives it.

    Args:
        image: Perfect image (H, W, 3) uint8, red-green-blue; it is not written to.
        effects: Of this episode.
        generator: Of the noise.
        frame: Number of the frame in the episode.
        previous: What the camera gave last; it comes again where a frame is dropped.
    """
    s = effects.strength
    if s["drop"] and generator.random() < s["drop"] and previous is not None:
        return previous
    image = _blur(image, effects, frame)
    image = _expose(image, effects, generator, frame)
    if s["gamma"]:
        image = cv2.LUT(image, _curve(2.0 ** s["gamma"]))
    if s["compression"]:
        quality = [cv2.IMWRITE_JPEG_QUALITY, round(100.0 - s["compression"])]
        packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        image = cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image


def _blur(image: np.ndarray, effects: ImageEffects, frame: int) -> np.ndarray:
    """What happens to the light: blur, and rows that see the scene at different times."""
    s = effects.strength
    if s["defocus"]:
        image = cv2.GaussianBlur(image, (0, 0), s["defocus"], borderType=cv2.BORDER_REPLICATE)
    if effects.streak is not None:
        image = cv2.filter2D(image, -1, effects.streak, borderType=cv2.BORDER_REPLICATE)
    if s["rolling_shutter"]:
        frequency, phase = effects.vibration
        lag = s["rolling_shutter"] * math.sin(frequency * frame + phase)
        height, width = image.shape[:2]
        # The row in the middle stays where it is.
        shear = np.array([[1.0, -lag / height, 0.5 * lag], [0.0, 1.0, 0.0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        image = cv2.warpAffine(image, shear, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return image


def _expose(image: np.ndarray, effects: ImageEffects, generator: np.random.Generator, frame: int) -> np.ndarray:
    """What happens in the sensor: gains and noise."""
    s = effects.strength
    gains = 2.0 ** s["exposure"] * np.array([1.0 + s["red"], 1.0, 1.0 + s["blue"]], np.float32)
    noisy = s["shot_noise"] or s["read_noise"]
    if np.all(gains == 1.0) and not noisy and effects.pattern is None and effects.rows is None:
        return image
    light = image.astype(np.float32) * gains.astype(np.float32)
    if noisy:
        white = generator.standard_normal(image.shape, dtype=np.float32)
        if s["shot_noise"]:
            variance = light.clip(0.0, 255.0) * np.float32(s["shot_noise"] ** 2 / 255.0)
            light += white * np.sqrt(variance + np.float32(s["read_noise"] ** 2))
        else:
            light += white * np.float32(s["read_noise"])
    if effects.pattern is not None:
        light += effects.pattern
    if effects.rows is not None:
        light += np.roll(effects.rows, round(s["row_speed"] * frame), axis=0)
    return np.rint(light).clip(0.0, 255.0).astype(np.uint8)


def _curve(exponent: float) -> np.ndarray:
    return np.rint(255.0 * (np.arange(256) / 255.0) ** exponent).astype(np.uint8)


def _streak(vector: np.ndarray) -> np.ndarray:
    """Kernel of a straight motion by `vector` (2,) pixels during the exposure."""
    reach = math.ceil(0.5 * float(np.abs(vector).max()) + 0.5)
    size = 2 * reach + 1
    kernel = np.zeros((size + 1, size + 1), np.float32)
    for along in np.linspace(-0.5, 0.5, 4 * size):
        x, y = along * vector + reach
        column, row = math.floor(x), math.floor(y)
        right, below = x - column, y - row
        kernel[row : row + 2, column : column + 2] += np.outer([1.0 - below, below], [1.0 - right, right])
    kernel = kernel[:size, :size]
    return kernel / kernel.sum()
