"""`robot-rl calibrate` on rendered pictures: files, numbers, and refusals with their exit status."""

import json
import math

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
pytest.importorskip("matplotlib")

from hardware.perception import poses  # noqa: E402
from hardware.perception.boards import Board  # noqa: E402
from hardware.perception.files import COLUMNS, read_mounted_camera  # noqa: E402
from hardware.perception.rendering import board_plate, render  # noqa: E402
from policies.camera import CameraModel, read_camera_model, write_camera_model  # noqa: E402
from robot_rl import cli  # noqa: E402

BOARD = Board()
CAMERA = CameraModel(
    name="wrist", width=480, height=360, fx=455.0, fy=456.0, cx=243.3, cy=177.1,
    distortion=(-0.2, 0.06, 0.001, -0.0008, 0.0),
)  # fmt: skip
TOOL_T_CAMERA = poses.from_vectors([0.1, -0.2, 1.5], [0.05, -0.03, 0.08])
BASE_T_BOARD = poses.from_vectors([3.0, 0.1, 0.4], [0.5, 0.1, 0.02])


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Pictures of a board by a camera on a tool, and the tool's poses with 0.1 mm and 0.02° of error."""
    folder, rng = tmp_path_factory.mktemp("views"), np.random.default_rng(0)
    rows = [",".join(COLUMNS)]
    for index in range(14):
        pose = poses.from_vectors(rng.uniform(-0.65, 0.65, 3) * [1.0, 1.0, 0.8], np.zeros(3))
        share = np.array([index % 4 + 0.5, index // 4 % 3 + 0.5]) / [4, 3]
        middle = rng.uniform(0.3, 0.5) * CAMERA.directions((0.12 + 0.76 * share) * [480, 360])
        pose[:3, 3] = middle - pose[:3, :3] @ np.array([*(0.5 * np.array(BOARD.size)), 0.0])
        name = f"{index:02d}.png"
        cv2.imwrite(str(folder / name), render(CAMERA, [board_plate(BOARD, pose)], rng))
        tool = BASE_T_BOARD @ poses.inverse(TOOL_T_CAMERA @ pose)
        error = rng.standard_normal(6) * [1e-4, 1e-4, 1e-4, 3.5e-4, 3.5e-4, 3.5e-4]
        rows.append(",".join([name, *(f"{value:.9f}" for value in poses.to_pose(poses.changed(tool, error)))]))
    (folder / "poses.csv").write_text("\n".join(rows) + "\n")
    return folder


def is_picture(path):
    image = cv2.imread(str(path))
    return image is not None and image.shape[0] > 100 and image.std() > 5.0


def test_intrinsics_then_hand_eye(views, tmp_path, capsys):
    out = tmp_path / "intrinsics"
    assert cli.main(["calibrate", "intrinsics", "--source", str(views), "--out", str(out), "--name", "wrist"]) == 0
    said = capsys.readouterr().out
    assert "found in 14 of 14 pictures" in said and "rms 0." in said
    model = read_camera_model(out / "camera.yaml")
    assert model.fx == pytest.approx(CAMERA.fx, rel=0.005) and model.name == "wrist"
    report = json.loads((out / "report.json").read_text())
    assert report["accepted"] and report["rms_pixels"] < 0.2 and report["standard_deviations"]["fx"] < 2.0
    assert all(is_picture(out / name) for name in ("coverage.png", "residuals.png", "overlay.png"))

    again = tmp_path / "hand_eye"
    words = ["--pictures", str(views), "--poses", str(views / "poses.csv"), "--camera", str(out / "camera.yaml")]
    assert cli.main(["calibrate", "hand-eye", *words, "--out", str(again)]) == 0
    assert "camera in the tool" in capsys.readouterr().out
    mounted = read_mounted_camera(again / "mounted_camera.yaml")
    change = poses.change_between(TOOL_T_CAMERA, mounted.matrix)
    assert 1e3 * np.linalg.norm(change[:3]) < 1.5
    assert math.degrees(np.linalg.norm(change[3:])) < 0.15
    assert mounted.mounting == "eye-in-hand" and mounted.model.parent == "panda"
    assert np.all(np.linalg.eigvalsh(mounted.covariance) >= 0.0)
    report = json.loads((again / "report.json").read_text())
    assert report["accepted"] and report["residual_mm"] < 2.0 and len(report["methods"]) >= 6
    assert all(is_picture(again / name) for name in ("residuals.png", "overlay.png"))

    # The wrong mounting fits nothing: refused, and no file that a node would read.
    wrong = tmp_path / "wrong"
    assert cli.main(["calibrate", "hand-eye", *words, "--out", str(wrong), "--mounting", "eye-to-hand"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("robot-rl: not good enough: ") and said.count("\n") == 1
    assert not (wrong / "mounted_camera.yaml").exists() and is_picture(wrong / "residuals.png")


def test_too_few_pictures_are_not_good_enough(views, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    for index in range(5):
        (few / f"{index}.png").write_bytes((views / f"{index:02d}.png").read_bytes())
    out = tmp_path / "out"
    assert cli.main(["calibrate", "intrinsics", "--source", str(few), "--out", str(out)]) == 1
    assert "found in 5 pictures, fewer than 10" in capsys.readouterr().err
    assert not (out / "camera.yaml").exists() and is_picture(out / "coverage.png")
    words = ["--source", str(few), "--out", str(out), "--board.family", "4x4_50"]
    assert cli.main(["calibrate", "intrinsics", *words]) == 1
    assert "is it a charuco of 11 x 8 squares (4x4_50)?" in capsys.readouterr().err


def test_what_does_not_belong_together_is_said(views, tmp_path, capsys):
    write_camera_model(tmp_path / "camera.yaml", CameraModel(width=640, height=480, fx=500, fy=500, cx=320, cy=240))
    words = ["--pictures", str(views), "--camera", str(tmp_path / "camera.yaml"), "--out", str(tmp_path / "out")]
    assert cli.main(["calibrate", "hand-eye", *words, "--poses", str(views / "poses.csv")]) == 2
    assert "480 x 360 pixels" in capsys.readouterr().err
    bad = tmp_path / "poses.csv"
    bad.write_text("picture,x,y,z,qw,qx,qy,qz\n00.png,0,0,0,1,1,0,0\n")
    assert cli.main(["calibrate", "hand-eye", *words, "--poses", str(bad)]) == 2
    assert "line 2" in capsys.readouterr().err
    bad.write_text("picture,x,y,z\n")
    assert cli.main(["calibrate", "hand-eye", *words, "--poses", str(bad)]) == 2
    assert "lacks the column qw, qx, qy, qz" in capsys.readouterr().err


def test_boards_and_markers_are_printed(tmp_path, capsys):
    assert cli.main(["calibrate", "board", "--out", str(tmp_path / "b")]) == 0
    assert "264 x 192 mm" in capsys.readouterr().out
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF") and is_picture(tmp_path / "b.png")
    assert cli.main(["calibrate", "board", "--out", str(tmp_path / "m"), "--marker-id", "7", "--side", "0.08"]) == 0
    assert is_picture(tmp_path / "m.png")
    assert cli.main(["calibrate", "board", "--out", str(tmp_path / "c"), "--board.square", "0.03"]) == 2
    assert "does not fit on a4" in capsys.readouterr().err
