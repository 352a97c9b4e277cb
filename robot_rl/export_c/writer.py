"""A bundle as freestanding C99: one folder with the policy, its boot test, an example and a Makefile."""

from __future__ import annotations

import shutil
from pathlib import Path

from policies.bundle import read_manifest
from policies.execution import Execution
from robot_rl.errors import UserError
from robot_rl.export_c.boot_test import boot_test
from robot_rl.export_c.graph import read_network
from robot_rl.export_c.layout import read_layout
from robot_rl.export_c.network import write_network
from robot_rl.export_c.readme import readme
from robot_rl.export_c.source import header, source
from robot_rl.export_c.terms import action_code, observation_code

RUNTIME = Path(__file__).parent / "runtime"
"""The parts that are the same for every policy."""


def write_c(bundle: str | Path, folder: Path, vectors: int = 64) -> Path:
    """Write the policy of a bundle as C into `folder`.

    Args:
        bundle: Path of a bundle, or the name of a shipped one; it is checked first.
        folder: Where to write; files of an earlier export there are replaced, anything else is left alone.
        vectors: Stored observations that the boot test replays; fewer need less flash.

    Raises:
        UserError: The policy needs something that C does not have, by name; or `folder` holds something else.
    """
    if vectors < 1:
        raise UserError(f"--vectors is {vectors}; the boot test needs at least 1")
    origin, manifest = read_manifest(bundle)
    if manifest.execution != Execution():
        raise UserError(
            f"{bundle} keeps chunks, memory or noise between steps, which C does not; export a policy that maps one "
            "observation to one action, such as one of --algorithm bc"
        )
    layout = read_layout(manifest)
    observation, action = observation_code(manifest), action_code(manifest)
    network = write_network(read_network(origin / "policy.onnx"), manifest.action_size)
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in RUNTIME.iterdir():
        shutil.copyfile(path, folder / path.name)
    texts = {
        "policy.h": header(manifest, layout, network),
        "policy.c": source(manifest, layout, network, observation, action),
        "policy_boot_test.c": boot_test(origin, layout, vectors),
        "README.md": readme(manifest, layout, network),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def _refuse_foreign(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "policy_layers.h").is_file()):
        raise UserError(f"{folder} exists and is no earlier export to C; give another path with --out")
