"""Scenes in MuJoCo Warp: the physics of `sim.engines.mujoco` in float32, all environments at once on a CUDA device.

Model, variables and measurements are those of `MujocoEngine`; its batch, which steps nothing here, holds the state on
the host. In every time step torques travel to the device, positions and poses travel back, because the controllers are
numpy functions on the host that run at the physics rate: at few environments these transfers cost more than the
physics. Without a CUDA device everything runs on one CPU core, slower than the engine `mujoco`; that is for tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mujoco.batch import Batch

from sim.arm_randomization import scene_variables
from sim.engines.base import Placement
from sim.engines.mujoco import MujocoEngine
from sim.engines.mujoco_variables import MujocoVariables
from sim.scene import Scene

try:
    import mujoco_warp
    import warp
except ImportError as error:
    raise ImportError(
        "the engine 'warp' needs MuJoCo Warp: pip install 'robot_rl[warp]'; without it use the engine 'mujoco'"
    ) from error

_STATE = ("time", "qpos", "qvel", "history", "qacc_warmstart", "ctrl", "xfrc_applied", "mocap_pos", "mocap_quat")
"""What a time step begins with."""
_DERIVED = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "actuator_acc0",
    "geom_rbound",
    "geom_aabb",
)
"""Constants that follow from fields that vary."""
_HOST_ONLY = ("body_sameframe", "geom_sameframe")
"""Fields that vary on the host and have no counterpart on the device, which takes no short cuts where frames agree."""
_TOO_LARGE = 1e10
"""Positions, velocities and controls beyond it are a breakdown, as in MuJoCo."""
_ALL = slice(None)
_CONTACTS = 64
"""Contacts per environment that there is room for, plus 8 for every body."""
_LOST = (
    mujoco_warp.OverflowType.NEFC
    | mujoco_warp.OverflowType.NJMAX_NNZ
    | mujoco_warp.OverflowType.BROADPHASE
    | mujoco_warp.OverflowType.NARROWPHASE
    | mujoco_warp.OverflowType.CCD
)
"""Overflows in which contacts are lost."""


class WarpEngine(MujocoEngine):
    """N copies of a scene on a device."""

    def __init__(self, scene: Scene, num_envs: int, *, device: str | None = None, threads: int = 1) -> None:
        """Build the model on host and device. The first step compiles kernels, which Warp keeps in its cache.

        Args:
            scene: What to build.
            num_envs: N.
            device: Where to compute, e.g. `cuda:0` or `cpu`; None takes the first CUDA device, else the CPU.
            threads: Of what is left on the host, placing and deriving constants; 0 takes every core.

        Raises:
            ValueError: Something in the scene that MuJoCo Warp does not simulate, or there is no such device.
        """
        super().__init__(scene, num_envs, threads=threads)
        self._log = _FieldLog(self.batch)
        self._variables = MujocoVariables(self.model, self._log, scene)
        # Lines about compiled modules would mix with what programs print.
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
        warp.init()
        try:
            self._device = warp.get_device(device) if device else warp.get_preferred_device()
        except Exception as error:  # Warp raises what its driver layer raises
            names = ", ".join(found.alias for found in warp.get_devices())
            raise ValueError(f"engine 'warp': device {device!r} can't be used ({error}); there are: {names}") from error
        if not self._device.is_cuda:
            warnings.warn(
                "engine 'warp': no CUDA device is used, MuJoCo Warp runs on one CPU core and compiles for about a "
                "minute at first; the engine 'mujoco' is more than 10 times faster here",
                stacklevel=2,
            )
        self._room = _CONTACTS + 8 * len(scene.bodies)
        rows = 4 * self._room + 3 * self.model.neq + 2 * self.model.nv
        with warp.ScopedDevice(self._device):
            self._data = mujoco_warp.make_data(self.model, nworld=num_envs, nconmax=self._room, njmax=rows)
        # Arrays of our own in place of the batch's, which only the batch can write.
        self._xpos, self._xquat = np.array(self._xpos), np.array(self._xquat)
        self._xanchor, self._xaxis = np.array(self._xanchor), np.array(self._xaxis)
        self._sensors = np.array(self._sensors)
        self._build()
        self._upload()

    def _build(self) -> None:
        """The model on the device, with room for the fields that vary, and what runs on it."""
        varied = {name for name in self._log.fields if not name.startswith("opt.")} - {*_HOST_ONLY}
        if varied:
            varied |= {*_DERIVED}
        with warp.ScopedDevice(self._device):
            try:
                model = mujoco_warp.put_model(self.model, batch_sizes=dict.fromkeys(varied, self.num_envs))
            except NotImplementedError as error:
                raise ValueError(f"engine 'warp' can't simulate this scene, use 'mujoco': {error}") from error
            model.opt.warn_overflow = 0  # kernels would print; `refresh` says it
            model.opt.deterministic = int(mujoco_warp.DeterminismType.ALL)
            self._fields = {name: getattr(model, name) for name in varied}
            if "opt.gravity" in self._log.fields:
                model.opt.gravity = warp.zeros(self.num_envs, dtype=warp.vec3)
                self._fields["opt.gravity"] = model.opt.gravity
        self._write_fields(derived=True)
        update = mujoco_warp.forward if self.model.nsensor else mujoco_warp.kinematics
        self._step = self._recorded(lambda: mujoco_warp.step(model, self._data))
        self._update = self._recorded(lambda: update(model, self._data))

    def _recorded(self, function: Callable[[], None]) -> Callable[[], None]:
        """The function's launches as one CUDA graph; on a CPU, the function."""
        if not self._device.is_cuda:

            def run() -> None:
                with warp.ScopedDevice(self._device):
                    function()

            return run
        with warp.ScopedDevice(self._device), warp.ScopedCapture() as capture:
            function()
        return lambda: warp.capture_launch(capture.graph)

    # Between host and device

    def _upload(self) -> None:
        """Bring the whole state to the device."""
        for name in _STATE:
            _assign(getattr(self._data, name), self.batch.bind(name))

    def _download(self) -> None:
        """Bring the whole state to the host."""
        for name in _STATE:
            host = self.batch.bind(name)
            host[:] = getattr(self._data, name).numpy().reshape(host.shape)

    def _read(self, ids: np.ndarray | slice = _ALL) -> None:
        """Bring what is measured in environments `ids` to the host; what broke down is marked and begins anew."""
        data = self._data
        for host, device in (
            (self._qpos, data.qpos),
            (self._qvel, data.qvel),
            (self._xpos, data.xpos),
            (self._xquat, data.xquat),
            (self._xanchor, data.xanchor),
            (self._xaxis, data.xaxis),
        ):
            host[ids] = device.numpy()[ids]
        if self.model.nsensor:
            self._sensors[ids] = data.sensordata.numpy()[ids]
        if not np.abs(self._qpos).sum() + np.abs(self._qvel).sum() < _TOO_LARGE:
            good = (np.abs(self._qpos) < _TOO_LARGE).all(axis=1) & (np.abs(self._qvel) < _TOO_LARGE).all(axis=1)
            self._fail(np.flatnonzero(~good))

    def _fail(self, ids: np.ndarray) -> None:
        """Mark environments, which go on from the model's beginning until they are placed."""
        self.failed[ids] = True
        self._download()
        self.batch.state[ids] = self._initial[ids]
        self._put(ids)

    def _put(self, ids: np.ndarray) -> None:
        """Bring a new state of environments `ids` to the device and read what follows from it; others stay."""
        self._upload()
        self._update()
        self._read(ids)

    def _write_fields(self, derived: bool) -> None:
        for name, array in self._fields.items():
            if derived or name not in _DERIVED:
                _assign(array, self.batch.expand(name))

    # Episodes

    def place(self, ids: np.ndarray, placement: Placement) -> None:
        """Begin anew in the environments `ids` (K,) int, at rest."""
        self._download()
        super().place(ids, placement)
        self._put(ids)

    def substep(self, torques: Mapping[str, np.ndarray], widths: Mapping[str, np.ndarray]) -> None:
        """Advance by one time step; environments whose physics breaks down are marked in `failed`."""
        for name, arm in self._arms.items():
            self._ctrl[:, arm.motors] = torques[name]
            if arm.fingers is not None:
                self._ctrl[:, arm.drive] = 0.5 * widths[name]
        if not np.abs(self._ctrl).sum() < _TOO_LARGE:
            self.failed |= ~(np.abs(self._ctrl) < _TOO_LARGE).all(axis=1)
        if self.failed.any():
            self._ctrl[self.failed] = 0.0
        _assign(self._data.ctrl, self._ctrl)
        self._step()
        self._read()

    def refresh(self) -> None:
        """Bring poses and kinematics up to date with the newest positions."""
        self._update()
        self._read()
        lost = (self._data.overflow.numpy() & int(_LOST)) != 0
        if lost.any():
            warnings.warn(
                f"engine 'warp': environments {np.flatnonzero(lost)[:5]} have more contacts than there is room for "
                f"({self._room}); they count as failed; use the engine 'mujoco' for this scene",
                stacklevel=2,
            )
            self.failed |= lost
            self._data.overflow.zero_()

    def vary(self, names: Sequence[str]) -> dict[str, str]:
        """Prepare for `set_variables` of these; all are nominal. Returns what cannot vary, with a reason."""
        variables = scene_variables(self.scene)
        refused = {
            name: "MuJoCo Warp: does nothing, kinds of shapes are the same everywhere"
            for name in names
            if variables[name].kind == "cousin"
        }
        super().vary([name for name in names if name not in refused])
        self._build()
        return refused

    def set_variables(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write variables (K, size) by name into the model of environments `ids` (K,)."""
        self._log.derived = False
        super().set_variables(ids, values)
        self._write_fields(self._log.derived)

    def push(self, body: str, force: np.ndarray) -> None:
        """Put world forces (N, 3) N on a body's centre of mass, or an arm's tool, until the next push or placing."""
        super().push(body, force)
        _assign(self._data.xfrc_applied, self._forces)

    # Storage

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to go on later, bit by bit."""
        self._download()
        return super().state()

    def load_state(self, stored: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.batch.state[:] = stored["state"]
        self.failed = np.array(stored["failed"], dtype=bool)
        self._upload()
        self.refresh()


class _FieldLog:
    """Gives variables of a batch what they need, and notes what they touch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.nsim = batch.nsim
        self.fields: set[str] = set()
        self.derived = False

    def expand(self, name: str) -> np.ndarray:
        self.fields.add(name)
        values: np.ndarray = self._batch.expand(name)
        return values

    def set_const(self, ids: np.ndarray | None = None) -> None:
        self.derived = True
        self._batch.set_const(ids)


def _assign(array: Any, values: np.ndarray) -> None:
    """Write the host's float64 into an array on the device, of vectors or numbers."""
    if array.size:
        shape = (*array.shape, *getattr(array.dtype, "_shape_", ()))
        array.assign(np.asarray(values, dtype=np.float32).reshape(shape))
