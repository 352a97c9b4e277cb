"""The 3-D scene for the page: primitive shapes by body, sent when they change, and the poses of the bodies."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from sim.engines.mujoco_look import HIDDEN
from sim.look import Look, copy_state

_KINDS = {
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_PLANE: "plane",
    mujoco.mjtGeom.mjGEOM_MESH: "mesh",
}
_DIGITS = 5


class SceneShapes:
    """What a look looks like."""

    def __init__(self, look: Look) -> None:
        """Prepare for the scene of a look."""
        self._look = look
        self._model = look.engine.batch.get_model(0)
        self._data = mujoco.MjData(self._model)
        self._last: list[dict[str, Any]] = []

    def poses(self) -> bytes:
        """Poses (B, 7) float32 of all bodies after the look was updated: position m, quaternion wxyz."""
        copy_state(self._look, self._model, self._data)
        return np.concatenate([self._data.xpos, self._data.xquat], axis=1).astype("<f4").tobytes()

    def changed(self) -> dict[str, Any] | None:
        """The shapes after `poses`, where they are not those of the last call: sizes change with episodes."""
        shapes = [self._shape(geom) for geom in range(self._model.ngeom) if self._visible(geom)]
        if shapes == self._last:
            return None
        self._last = shapes
        names = [self._model.body(body).name for body in range(self._model.nbody)]
        return {"bodies": names, "marks": [names.index(mark) for mark in self._look.marks], "shapes": shapes}

    def _visible(self, geom: int) -> bool:
        return bool(self._model.geom_group[geom] < HIDDEN and self._model.geom_rgba[geom, 3] > 0.0)

    def _shape(self, geom: int) -> dict[str, Any]:
        model = self._model
        kind = mujoco.mjtGeom(int(model.geom_type[geom]))
        if kind not in _KINDS:
            raise ValueError(f"shape {geom} of the scene is a {kind.name}: the page can't show it")
        shape = {
            "kind": _KINDS[kind],
            "body": int(model.geom_bodyid[geom]),
            "size": model.geom_size[geom].round(_DIGITS).tolist(),
            "position": model.geom_pos[geom].round(_DIGITS).tolist(),
            "orientation": model.geom_quat[geom].round(_DIGITS).tolist(),
            "color": model.geom_rgba[geom].round(3).tolist(),
        }
        if kind == mujoco.mjtGeom.mjGEOM_MESH:
            mesh = int(model.geom_dataid[geom])
            first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
            shape["vertices"] = model.mesh_vert[first : first + count].round(_DIGITS).ravel().tolist()
            shape["faces"] = model.mesh_face[face : face + faces].ravel().tolist()
        return shape
