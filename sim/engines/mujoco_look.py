"""How a MuJoCo scene looks: sky, lights, materials and procedural textures; no image files.

Textures are shades of grey, so that the colour of a shape tints them. `TEXTURES` are not used until somebody asks
for random appearances (`sim.appearance`): which of them a shape wears is a field of every environment's own.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from sim.scene import Color

SHELL: Color = (0.93, 0.93, 0.92, 1.0)
"""Links of an arm."""
SEAM: Color = (0.17, 0.18, 0.20, 1.0)
"""Rings around joints, and fingers."""
PALM: Color = (0.80, 0.81, 0.82, 1.0)
TABLE: Color = (0.74, 0.62, 0.48, 1.0)
FLOOR: Color = (0.42, 0.45, 0.49, 1.0)
HIDDEN = 3
"""Group of shapes that collide but are not drawn."""
_SKY_TOP, _SKY_BOTTOM = (0.55, 0.66, 0.78), (0.90, 0.92, 0.94)
_PIXELS = 64

LIGHTS = (((0.9, 0.9, 1.9), (-0.4, -0.65, -1.4), 0.5), ((0.3, -1.6, 1.5), (0.05, 1.1, -0.9), 0.28))
"""Position m, direction and brightness in the world: a lamp at front left, which casts the shadow of pictures, and a
weaker one at the right."""


def add_look(spec: mujoco.MjSpec) -> None:
    """Sky, lights and materials."""
    # What software rendering needs to be fast: no shadows, no multisampling (60 times faster).
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.headlight.ambient = [0.38, 0.38, 0.38]
    spec.visual.headlight.diffuse = [0.26, 0.26, 0.26]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=_SKY_TOP,
        rgb2=_SKY_BOTTOM,
        width=32,
        height=192,
    )
    for index, (position, direction, brightness) in enumerate(LIGHTS):
        light = spec.worldbody.add_light(name=f"light{index}", pos=position, dir=direction, castshadow=False)
        light.diffuse = [brightness] * 3
        light.specular = [0.25 * brightness] * 3
    spec.add_material(name="matt", specular=0.0, shininess=0.0)
    spec.add_material(name="plastic", specular=0.5, shininess=0.6)
    _add_texture(spec, "wood", _wood(), cube=False, repeat=2.0)
    for name, pattern in TEXTURES.items():
        _add_texture(spec, name, pattern(np.random.default_rng(0)), cube=True, repeat=1.0)


def _add_texture(spec: mujoco.MjSpec, name: str, shades: np.ndarray, *, cube: bool, repeat: float) -> None:
    """A texture and a material of the same name from shades (height, width) in [0, 1]."""
    levels = np.repeat(np.rint(255.0 * shades.clip(0.0, 1.0)).astype(np.uint8)[..., None], 3, axis=2)
    height, width = shades.shape
    if cube:  # the same picture on six faces
        levels, height = np.concatenate([levels] * 6), 6 * height
    kind = mujoco.mjtTexture.mjTEXTURE_CUBE if cube else mujoco.mjtTexture.mjTEXTURE_2D
    texture = spec.add_texture(name=name, type=kind, width=width, height=height, nchannel=3)
    texture.data = levels.tobytes()
    material = spec.add_material(name=name, specular=0.0, shininess=0.0, texrepeat=[repeat, repeat])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


# Patterns, each (_PIXELS, _PIXELS) in [0, 1] from a generator


def _smooth(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Noise of so many waves down and across, which closes at the edges."""
    rough = np.fft.rfft2(generator.standard_normal((_PIXELS, _PIXELS)))
    down = np.abs(np.fft.fftfreq(_PIXELS, 1.0 / _PIXELS))[:, None]
    across = np.fft.rfftfreq(_PIXELS, 1.0 / _PIXELS)[None]
    noise = np.fft.irfft2(rough * np.exp(-0.5 * ((down / rows) ** 2 + (across / columns) ** 2)), (_PIXELS, _PIXELS))
    return noise / noise.std()


def _checker(generator: np.random.Generator) -> np.ndarray:
    row, column = np.indices((_PIXELS, _PIXELS)) // (_PIXELS // 8)
    return np.where((row + column) % 2 == 0, 1.0, 0.35)


def _stripes(generator: np.random.Generator) -> np.ndarray:
    return np.where((np.arange(_PIXELS) // (_PIXELS // 8)) % 2 == 0, 1.0, 0.45) * np.ones((_PIXELS, 1))


def _gradient(generator: np.random.Generator) -> np.ndarray:
    return np.linspace(0.3, 1.0, _PIXELS)[:, None] * np.ones(_PIXELS)


def _clouds(generator: np.random.Generator) -> np.ndarray:
    return 0.7 + 0.18 * _smooth(generator, 4, 4)


def _speckles(generator: np.random.Generator) -> np.ndarray:
    return np.where(generator.random((_PIXELS, _PIXELS)) < 0.12, 0.4, 1.0)


def _grain(generator: np.random.Generator) -> np.ndarray:
    return 0.78 + 0.13 * _smooth(generator, 2, 14)


def _wood() -> np.ndarray:
    """Planks with grain along them: the table top."""
    generator = np.random.default_rng(1)
    planks = np.repeat(0.93 + 0.035 * generator.standard_normal(4), _PIXELS // 4)
    shades = planks + 0.02 * _smooth(generator, 2, 16)
    shades[:, :: _PIXELS // 4] -= 0.16
    return shades.T


TEXTURES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "checker": _checker,
    "stripes": _stripes,
    "gradient": _gradient,
    "clouds": _clouds,
    "speckles": _speckles,
    "grain": _grain,
}
"""Name of the material → its pattern."""
