"""The newest picture of a camera, a video file or a folder, read in a thread of its own.

A camera's queue holds old pictures: whoever reads it once a control period sees the past. The thread empties it as
fast as pictures come; only the newest is kept. Its stamp is taken when the picture was received, before it is decoded.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from policies.camera import opencv

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Endings of the files that a folder is searched for."""
_PAUSE = 1.0
"""s between two attempts to open a camera that has gone."""


class CaptureError(ValueError):
    """A source of pictures that cannot be opened, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class CaptureConfig:
    """What is read, and how."""

    source: str = "0"
    """Number or path of a V4L2 device, path of a video file or of a folder of pictures."""
    width: int = 0
    """Pixels to ask a device for; 0: what it gives."""
    height: int = 0
    """Likewise."""
    rate: float = 0.0
    """Pictures per second: asked of a device, kept with a file or a folder; 0: the device's or the file's own, 10 for
    a folder."""
    loop: bool = True
    """Whether a file or a folder begins again at its end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A picture."""

    number: int
    """Of the picture since the start, from 1; a gap is pictures that nobody took in time."""
    stamp: float
    """s, `time.monotonic()` when it was received."""
    image: np.ndarray
    """Shape (H, W, 3) uint8, red-green-blue; not to be written to."""
    name: str = ""
    """Of its file, from a folder."""


class Capture:
    """A thread that reads; also a context manager."""

    def __init__(self, config: CaptureConfig) -> None:
        """Open the source and begin to read.

        Raises:
            CaptureError: There is no such source, or it cannot be opened.
        """
        self.config = config
        self._files = list_pictures(Path(config.source)) if Path(config.source).is_dir() else None
        self.is_live = self._files is None and not Path(config.source).is_file()
        """Whether it is a camera, not a file or a folder."""
        self._device: Any = None if self._files is not None else self._open()
        self._period = self._frame_period()
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._stop = threading.Event()
        self.problem = ""
        """Why no pictures come, in words; empty while they do."""
        self.finished = False
        """Whether a file or a folder has come to its end."""
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)
        self._thread.start()

    def newest(self, after: int = 0) -> Frame | None:
        """The newest picture if its number is above `after`, at once."""
        with self._changed:
            return self._frame if self._frame is not None and self._frame.number > after else None

    def wait(self, after: int = 0, timeout: float = 1.0) -> Frame | None:
        """The newest picture as soon as its number is above `after`; None after `timeout` s or at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.finished or (self._frame is not None and self._frame.number > after), timeout
            )
            return self._frame if self._frame is not None and self._frame.number > after else None

    def close(self) -> None:
        """End the thread and give the device back."""
        self._stop.set()
        self._thread.join(5.0)

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Any:
        cv2 = opencv()
        source = self.config.source
        if self.is_live:
            device = cv2.VideoCapture(int(source) if source.isdigit() else source, cv2.CAP_V4L2)
        else:
            device = cv2.VideoCapture(source)
        if not device.isOpened():
            device.release()
            what = f"/dev/video{source}" if source.isdigit() else source
            raise CaptureError(
                f"no pictures from {what}: expected a V4L2 device that no other program uses (v4l2-ctl "
                "--list-devices), a video file or a folder of pictures"
            )
        if self.is_live:
            asked = (
                (cv2.CAP_PROP_FRAME_WIDTH, self.config.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, self.config.height),
                (cv2.CAP_PROP_FPS, self.config.rate),
                (cv2.CAP_PROP_BUFFERSIZE, 1),
            )
            for key, value in asked:
                if value:
                    device.set(key, value)
        return device

    def _frame_period(self) -> float:
        """S between pictures of a file or a folder; 0: as they come."""
        if self.is_live:
            return 0.0
        own = 10.0 if self._device is None else float(self._device.get(opencv().CAP_PROP_FPS))
        rate = self.config.rate or own
        return 1.0 / rate if 0.1 <= rate <= 1000.0 else 0.1

    def _read(self) -> None:
        number, due = 0, time.monotonic()
        try:
            while not self._stop.is_set():
                if self._period:
                    due = max(due + self._period, time.monotonic() - self._period)
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        break
                taken = self._take(number)
                if taken is None:
                    if not self._recover():
                        break
                    continue
                number += 1
                stamp, image, name = taken
                image.flags.writeable = False
                with self._changed:
                    self.problem = ""
                    self._frame = Frame(number=number, stamp=stamp, image=image, name=name)
                    self._changed.notify_all()
        except Exception as error:  # a thread that ends in silence would look like a camera that sees nothing new
            self.problem = f"reading failed: {error!r}"
        finally:
            if self._device is not None:
                self._device.release()
            with self._changed:
                self.finished = True
                self._changed.notify_all()

    def _take(self, count: int) -> tuple[float, np.ndarray, str] | None:
        cv2 = opencv()
        if self._files is not None:
            if count >= len(self._files) and not self.config.loop:
                return None
            file = self._files[count % len(self._files)]
            stamp = time.monotonic()
            return stamp, read_picture(file), file.name
        if not self._device.grab():
            return None
        stamp = time.monotonic()
        good, image = self._device.retrieve()
        if not good:
            return None
        return stamp, np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), ""

    def _recover(self) -> bool:
        """After a picture that did not come: whether to go on."""
        if self._files is not None:
            return False
        if not self.is_live:
            return self.config.loop and bool(self._device.set(opencv().CAP_PROP_POS_FRAMES, 0))
        self.problem = f"{self.config.source} gives no pictures: is it plugged in?"
        self._device.release()
        while not self._stop.wait(_PAUSE):
            try:
                self._device = self._open()
                return True
            except CaptureError:
                continue
        return False


def list_pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, by name.

    Raises:
        CaptureError: There are none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise CaptureError(f"{folder} has no pictures ({', '.join(PICTURES)})")
    return found


def read_picture(path: Path) -> np.ndarray:
    """Picture (H, W, 3) uint8, red-green-blue, of a file.

    Raises:
        CaptureError: It cannot be read.
    """
    cv2 = opencv()
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise CaptureError(f"{path} cannot be read as a picture")
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
