"""The page of a report: one HTML file that needs nothing but itself, light or dark as the reader's system."""

from __future__ import annotations

import html
from collections.abc import Sequence

_CSS = """
:root { color-scheme: light dark;
  --page: #f5f6f8; --card: #ffffff; --ink: #17202a; --muted: #5c6875; --grid: #d9dee4; --line: #e3e7ec;
  --series-0: #1769aa; --series-1: #b4541a; --series-2: #2e7d4f; --series-3: #c2274b; --series-4: #6a4fb3;
  --series-5: #8a6d00; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0e1217; --card: #171d25; --ink: #e6ebf0; --muted: #97a4b1; --grid: #323c47; --line: #262f39;
  --series-0: #58b4f0; --series-1: #f0995c; --series-2: #6fce97; --series-3: #ff7a93; --series-4: #b39df5;
  --series-5: #e3c44f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 12px; }
.muted { color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0; }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 13px; }
section { padding: 18px 20px; margin: 0 0 16px; overflow-x: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 16px; }
.pair > section { margin: 0; } .pair { margin: 0 0 16px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif !important; }
img { display: block; width: 100%; height: auto; border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
thead th { color: var(--muted); font-weight: 500; font-size: 13px; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 400; }
"""


def page(title: str, subtitle: str, tiles: Sequence[tuple[str, str]], sections: Sequence[str]) -> str:
    """The complete HTML document.

    Args:
        title: Heading and window title.
        subtitle: One line under it.
        tiles: (value, meaning) of the few numbers shown large.
        sections: Finished HTML from `section` and `pair`.
    """
    boxes = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(meaning)}</span></div>'
        for value, meaning in tiles
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="muted">{html.escape(subtitle)}</p>'
        f'<div class="tiles">{boxes}</div>{"".join(sections)}</main></body></html>\n'
    )


def section(title: str, note: str, body: str) -> str:
    """A titled box; `body` is finished HTML."""
    text = f'<p class="muted">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{text}{body}</section>"


def pair(*sections: str) -> str:
    """Sections side by side where the window is wide enough."""
    return f'<div class="pair">{"".join(sections)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column names the rows."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"
