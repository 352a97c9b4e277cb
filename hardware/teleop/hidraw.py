"""HID devices as the kernel hands them through unparsed, `/dev/hidraw*`: which there are, and opening one.

Every read is one report, its number first. What they are is told by `/sys`, which everybody may read, so that a
device that may not be opened can be called by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MULTI_AXIS = bytes((0x05, 0x01, 0x09, 0x08))
"""Usage page generic desktop, usage multi-axis controller, in a report descriptor."""


@dataclass(frozen=True, kw_only=True)
class HidDevice:
    """An interface of a HID device."""

    path: str
    """Device file."""
    name: str
    """What it calls itself."""
    vendor: int
    """Number of its maker."""
    product: int
    """Number of its model."""
    multi_axis: bool = True
    """It has an interface for something with six axes. Receivers have others too, for keys and pointers."""

    @property
    def number(self) -> str:
        """Maker and model, as `lsusb` writes them."""
        return f"{self.vendor:04x}:{self.product:04x}"


def find_hid(sys: Path = Path("/sys/class/hidraw"), dev: Path = Path("/dev")) -> list[HidDevice]:
    """Every HID device of this machine, in the order of their numbers."""
    found = []
    for folder in sorted(sys.glob("hidraw*"), key=lambda path: (len(path.name), path.name)):
        try:
            lines = (folder / "device" / "uevent").read_text(errors="replace").splitlines()
        except OSError:  # pulled out in between
            continue
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        _, vendor, product = (values.get("HID_ID", "").split(":") + ["", "", ""])[:3]
        try:
            descriptor = (folder / "device" / "report_descriptor").read_bytes()
        except OSError:
            descriptor = MULTI_AXIS  # cannot be told: do not exclude it
        found.append(
            HidDevice(
                path=str(dev / folder.name),
                name=values.get("HID_NAME", folder.name),
                vendor=int(vendor or "0", 16),
                product=int(product or "0", 16),
                multi_axis=MULTI_AXIS in descriptor,
            )
        )
    return found
