"""What is said where a device file cannot be opened."""

import grp
import os

import pytest

from hardware.teleop import opening
from hardware.teleop.device import DeviceError
from hardware.teleop.opening import open_path, permission_advice


@pytest.mark.parametrize(
    ("mode", "group", "words"),
    [
        (0o660, "dialout", "it belongs to the group 'dialout'; run `sudo usermod -aG dialout $USER` and log in again"),
        (0o600, "dialout", "only root may use it; install the rules in config/99-robot-rl-devices.rules"),
        (0o660, "root", "only root may use it"),
    ],
)
def test_advice_fits_the_owner_of_the_file(tmp_path, monkeypatch, mode, group, words):
    path = tmp_path / "ttyUSB0"
    path.touch()
    path.chmod(mode)
    entry = grp.struct_group((group, "x", 20, []))
    monkeypatch.setattr(opening.grp, "getgrgid", lambda number: entry)
    assert permission_advice(str(path)).startswith(words)


def test_what_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(DeviceError, match=r"cannot open .*nothing: No such file or directory"):
        open_path(str(tmp_path / "nothing"), os.O_RDONLY)
