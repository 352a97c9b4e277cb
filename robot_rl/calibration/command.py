"""`robot-rl calibrate board|intrinsics|hand-eye`: from a printed board to a file that nodes and simulation read.

Every command ends with numbers and pictures in its folder. Exit status 1: the data are not good enough, with the reason
in one sentence; then no calibration file is written, but the pictures show what is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from hardware.perception import boards, files, hand_eye, intrinsics, printing
from hardware.perception.capture import Capture, CaptureConfig, list_pictures, read_picture
from policies.camera import read_camera_model, write_camera_model
from robot_rl.calibration import figures
from robot_rl.calibration.collect import collect
from robot_rl.errors import UserError

NOT_GOOD_ENOUGH = 1
"""Exit status when a calibration was found, and must not be used."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardConfig:
    """Print a board, or a sheet with one marker, in its true size."""

    out: Path = Path("board")
    """Files to write: this name with .pdf and .png."""
    board: boards.Board = boards.Board()
    """What is printed, without `marker_id`."""
    marker_id: int | None = None
    """Print this one marker of `family` instead."""
    family: boards.Family = "apriltag_36h11"
    """Of the one marker."""
    side: float = 0.05
    """m, of the one marker's black square."""
    paper: printing.Paper = "a4"
    """Size of the page."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntrinsicsConfig:
    """Find focal length, optical axis and distortion from pictures of a board."""

    source: str
    """Folder of pictures, video file, or number or path of a V4L2 device."""
    out: Path
    """Folder for the result."""
    board: boards.Board = boards.Board()
    """The printed board; measure its squares."""
    name: str = "camera"
    """Of the camera, in the file."""
    radial: int = 2
    """Coefficients of radial distortion, 1 to 3."""
    pictures: int = 25
    """How many different views to take from a device or a video."""
    timeout: float = 180.0
    """s for that, from a device."""
    width: int = 0
    """Pixels to ask a device for; 0: what it gives."""
    height: int = 0
    """Likewise."""
    limits: intrinsics.IntrinsicLimits = intrinsics.IntrinsicLimits()
    """What is good enough."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandEyeConfig:
    """Find where a camera is, on an arm's tool or beside the arm, from pictures of a board and the tool's poses."""

    pictures: Path
    """Folder of pictures."""
    poses: Path
    """CSV file of the tool's poses: picture,x,y,z,qw,qx,qy,qz in the base, m."""
    camera: Path
    """Calibration of the camera: camera.yaml of `robot-rl calibrate intrinsics`."""
    out: Path
    """Folder for the result."""
    mounting: hand_eye.Mounting = "eye-in-hand"
    """The camera on the tool and the board still, or the camera still and the board on the tool."""
    board: boards.Board = boards.Board()
    """The printed board; measure its squares."""
    arm: str = "panda"
    """Name of the arm in scenes."""
    threshold: float = 3.5
    """A sample is rejected if it is off by so many times the spread of the others."""
    seed: int = 0
    """Of the subsets that are tried first."""
    limits: hand_eye.HandEyeLimits = hand_eye.HandEyeLimits()
    """What is good enough."""


CalibrateConfig = (
    Annotated[BoardConfig, tyro.conf.subcommand("board", prefix_name=False)]
    | Annotated[IntrinsicsConfig, tyro.conf.subcommand("intrinsics", prefix_name=False)]
    | Annotated[HandEyeConfig, tyro.conf.subcommand("hand-eye", prefix_name=False)]
)
"""What `robot-rl calibrate` takes."""


def run(config: BoardConfig | IntrinsicsConfig | HandEyeConfig) -> int:
    """Do as the command line asks for."""
    if isinstance(config, BoardConfig):
        return print_board(config)
    return calibrate_intrinsics(config) if isinstance(config, IntrinsicsConfig) else calibrate_hand_eye(config)


def print_board(config: BoardConfig) -> int:
    """Write the PDF and the PNG."""
    if config.marker_id is None:
        board = config.board
        image, width = boards.draw_board(board), board.size[0]
        what = f"{board.kind} {board.columns} x {board.rows}, squares {1e3 * board.square:g} mm"
        what += f", markers {1e3 * board.marker:g} mm, {board.family}" if board.kind == "charuco" else ""
    else:
        image, width = boards.draw_marker(config.family, config.marker_id, 800), config.side
        what = f"{config.family} {config.marker_id}, black square {1e3 * config.side:g} mm"
    config.out.parent.mkdir(parents=True, exist_ok=True)
    pdf, png = (config.out.with_name(f"{config.out.name}.{ending}") for ending in ("pdf", "png"))
    printing.write_pdf(pdf, image, width, config.paper, f"{what}; print at 100 %, then measure")
    printing.write_png(png, image, width)
    _say(f"{what}: {1e3 * width:.0f} x {1e3 * width * image.shape[0] / image.shape[1]:.0f} mm in {pdf} and {png}")
    _say("print at 100 % without fitting to the page, glue it flat, and measure a row of squares")
    return 0


def calibrate_intrinsics(config: IntrinsicsConfig) -> int:
    """Find the board in the pictures, calibrate, judge, and write everything."""
    folder = Path(config.source)
    config.out.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        folder = config.out / "pictures"
        settings = CaptureConfig(source=config.source, width=config.width, height=config.height, loop=False)
        with Capture(settings) as capture:
            collect(capture, config.board, folder, config.pictures, config.timeout, _say)
    seen: list[tuple[str, boards.Sighting]] = []
    size: tuple[int, int] | None = None
    paths = list_pictures(folder)
    for path in paths:
        image = read_picture(path)
        shape = (image.shape[0], image.shape[1])
        if size is not None and shape != size:
            raise UserError(f"{path} has {shape[1]} x {shape[0]} pixels, the pictures before it {size[1]} x {size[0]}")
        size = shape
        if (sighting := boards.find_board(config.board, image)) is not None:
            seen.append((path.name, sighting))
    _say(f"the board was found in {len(seen)} of {len(paths)} pictures")
    if len(seen) < 3 or size is None:
        return _refuse(
            f"the board was found in {len(seen)} pictures, fewer than {config.limits.views}: is it a "
            f"{config.board.kind} of {config.board.columns} x {config.board.rows} squares ({config.board.family})?"
        )
    try:
        found = intrinsics.calibrate(config.board, seen, size, name=config.name, radial=config.radial)
    except ValueError as error:
        return _refuse(str(error))
    reasons = intrinsics.shortcomings(found, config.limits)
    camera = found.camera
    report: dict[str, Any] = {
        "accepted": not reasons,
        "reasons": reasons,
        "rms_pixels": found.rms,
        "coverage": found.coverage,
        "tilt_spread_degrees": found.tilt_spread,
        "values": {
            **{name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy")},
            **dict(zip(("k1", "k2", "p1", "p2", "k3"), camera.distortion, strict=True)),
        },
        "standard_deviations": found.deviations,
        "views": [
            {"picture": v.name, "rms_pixels": v.rms, "tilt_degrees": v.tilt, "corners": len(v.pixels)}
            for v in found.views
        ],
        "dropped": list(found.dropped),
    }
    (config.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    worst = max(found.views, key=lambda view: view.rms)
    figures.write_coverage(config.out / "coverage.png", found)
    figures.write_view_residuals(config.out / "residuals.png", found)
    figures.write_overlay(config.out / "overlay.png", read_picture(folder / worst.name), worst.pixels, worst.residuals)
    for name, value in report["values"].items():
        _say(f"{name:>3} {value:12.5f} ± {found.deviations[name]:.5f}")
    _say(
        f"rms {found.rms:.3f} pixels over {len(found.views)} pictures, worst {worst.rms:.3f} ({worst.name}); "
        f"coverage {100.0 * found.coverage:.0f} %"
        + (f"; left out: {', '.join(found.dropped)}" if found.dropped else "")
    )
    if reasons:
        return _refuse(reasons[0])
    write_camera_model(config.out / "camera.yaml", camera)
    _say(f"calibration: {config.out / 'camera.yaml'}; pictures beside it")
    return 0


def calibrate_hand_eye(config: HandEyeConfig) -> int:
    """Find the board in the pictures, calibrate, judge, and write everything."""
    camera = read_camera_model(config.camera)
    tools = files.read_tool_poses(config.poses)
    paths = {path.name: path for path in list_pictures(config.pictures)}
    if strangers := sorted(set(tools) - set(paths)):
        raise UserError(f"{config.poses} names {strangers[0]}, which is not in {config.pictures}")
    config.out.mkdir(parents=True, exist_ok=True)
    samples, sightings = [], {}
    for name, tool in tools.items():
        image = read_picture(paths[name])
        if image.shape[:2] != (camera.height, camera.width):
            raise UserError(
                f"{paths[name]} has {image.shape[1]} x {image.shape[0]} pixels, but {config.camera} is of a camera "
                f"with {camera.width} x {camera.height}"
            )
        sighting = boards.find_board(config.board, image)
        located = None if sighting is None else intrinsics.locate_board(config.board, sighting, camera)
        if sighting is not None and located is not None:
            samples.append(hand_eye.Sample(name=name, tool=tool, board=located[0]))
            sightings[name] = sighting
    _say(f"the board was found in {len(samples)} of {len(tools)} pictures")
    if len(samples) < 4:
        return _refuse(f"the board was found in {len(samples)} pictures, fewer than {config.limits.samples}: take more")
    try:
        found = hand_eye.calibrate(samples, config.mounting, np.random.default_rng(config.seed), config.threshold)
    except ValueError as error:
        return _refuse(str(error))
    reasons = hand_eye.shortcomings(found, config.limits)
    report = _hand_eye_report(found, reasons)
    (config.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    figures.write_hand_eye(config.out / "residuals.png", found)
    worst = int(np.argmax(np.where(found.kept, found.residuals[:, 0], -1.0)))
    chosen = samples[worst]
    shown = figures.project_board(config.board, camera, chosen, found, sightings[chosen.name].indices)
    pixels = sightings[chosen.name].pixels
    figures.write_overlay(config.out / "overlay.png", read_picture(paths[chosen.name]), pixels, pixels - shown)
    for name, (mm, degrees) in report["methods"].items():
        _say(f"{name:>11}: {mm:7.3f} mm {degrees:7.4f}°")
    x, y, z = found.camera[:3, 3]
    _say(
        f"camera in the {'tool' if config.mounting == 'eye-in-hand' else 'base'}: {1e3 * x:.2f} {1e3 * y:.2f} "
        f"{1e3 * z:.2f} mm; samples are {report['residual_mm']:.3f} mm and {report['residual_degrees']:.4f}° off "
        f"(held out {report['held_out_mm']:.3f} mm, {report['held_out_degrees']:.4f}°); "
        f"uncertain by {report['deviation_mm']:.3f} mm and {report['deviation_degrees']:.4f}°"
        + (f"; rejected: {', '.join(report['rejected'])}" if report["rejected"] else "")
    )
    if reasons:
        return _refuse(reasons[0])
    files.write_mounted_camera(config.out / "mounted_camera.yaml", camera, found, config.arm)
    _say(f"calibration: {config.out / 'mounted_camera.yaml'}; pictures beside it")
    return 0


def _hand_eye_report(found: hand_eye.HandEye, reasons: list[str]) -> dict[str, Any]:
    held = np.sqrt((found.held_out[found.kept] ** 2).mean(axis=0))
    return {
        "accepted": not reasons,
        "reasons": reasons,
        "mounting": found.mounting,
        "camera": found.camera.tolist(),
        "board": found.board.tolist(),
        "residual_mm": 1e3 * found.residual[0],
        "residual_degrees": math.degrees(found.residual[1]),
        "held_out_mm": 1e3 * float(held[0]),
        "held_out_degrees": math.degrees(float(held[1])),
        "deviation_mm": 1e3 * found.deviation[0],
        "deviation_degrees": math.degrees(found.deviation[1]),
        "turns_degrees": np.degrees(found.turns).tolist(),
        "methods": {name: [1e3 * m, math.degrees(rad)] for name, (_, m, rad) in found.methods.items()},
        "samples": [
            {"picture": name, "kept": bool(kept), "mm": 1e3 * float(m), "degrees": math.degrees(float(rad))}
            for name, kept, (m, rad) in zip(found.names, found.kept, found.residuals, strict=True)
        ],
        "rejected": [name for name, kept in zip(found.names, found.kept, strict=True) if not kept],
    }


def _refuse(reason: str) -> int:
    sys.stderr.write(f"robot-rl: not good enough: {reason}\n")
    return NOT_GOOD_ENOUGH


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
