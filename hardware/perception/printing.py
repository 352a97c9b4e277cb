"""Boards on paper in their true size: PNG that states its resolution, and PDF."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

Paper = Literal["a4", "a3", "a2", "a1", "a0", "letter"]
PAPERS: dict[str, tuple[float, float]] = {
    "a4": (0.210, 0.297),
    "a3": (0.297, 0.420),
    "a2": (0.420, 0.594),
    "a1": (0.594, 0.841),
    "a0": (0.841, 1.189),
    "letter": (0.2159, 0.2794),
}
"""m, width and height upright."""
_POINT = 0.0254 / 72.0
"""m, the unit of PDF."""
_LEAST_MARGIN = 0.005
"""m that no printer reaches."""


def write_png(path: Path, image: np.ndarray, width: float) -> None:
    """Write a picture (H, W) uint8 that is `width` m wide when it is printed."""
    rows, columns = image.shape
    per_metre = round(columns / width)
    raw = b"".join(b"\0" + row.tobytes() for row in image)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)),
        (b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    )
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


def write_pdf(path: Path, image: np.ndarray, width: float, paper: Paper, caption: str) -> None:
    """Write a page with a picture (H, W) uint8 in its middle that is `width` m wide, and a line of text below.

    Raises:
        ValueError: The picture does not fit on the paper.
    """
    height = width * image.shape[0] / image.shape[1]
    page = PAPERS[paper]
    if width > height:
        page = page[::-1]
    room = 2.0 * _LEAST_MARGIN
    if width > page[0] - room or height > page[1] - room:
        raise ValueError(
            f"a board of {1e3 * width:.0f} x {1e3 * height:.0f} mm does not fit on {paper} with margins of "
            f"{1e3 * _LEAST_MARGIN:.0f} mm; take smaller squares or larger paper ({', '.join(PAPERS)})"
        )
    w, h, page_w, page_h = (value / _POINT for value in (width, height, *page))
    left, bottom = 0.5 * (page_w - w), 0.5 * (page_h - h)
    text = caption.encode("latin-1", "replace").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    content = f"q {w:.4f} 0 0 {h:.4f} {left:.4f} {bottom:.4f} cm /Board Do Q\n".encode()
    content += b"BT /F 7 Tf %.2f %.2f Td (%s) Tj ET" % (left, max(6.0, bottom - 11.0), text)
    pixels = zlib.compress(image.tobytes(), 9)
    picture = (
        f"<</Type/XObject/Subtype/Image/Width {image.shape[1]}/Height {image.shape[0]}/ColorSpace/DeviceGray"
        f"/BitsPerComponent 8/Interpolate false/Filter/FlateDecode/Length {len(pixels)}>>stream\n"
    ).encode() + pixels
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/ViewerPreferences<</PrintScaling/None>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {page_w:.4f} {page_h:.4f}]/Contents 5 0 R"
            "/Resources<</XObject<</Board 4 0 R>>/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
        ).encode(),
        picture + b"\nendstream",
        f"<</Length {len(content)}>>stream\n".encode() + content + b"\nendstream",
    ]
    written, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(written))
        written += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(written)
    written += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    written += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    written += f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n".encode()
    path.write_bytes(bytes(written))
