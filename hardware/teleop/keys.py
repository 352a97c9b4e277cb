"""From the bytes of a terminal to the names of keys.

A letter is its own name, with its case; other keys are `space`, `enter`, `tab`, `backspace`, `escape`, `up`, `down`,
`left`, `right`, `home`, `end`, `page_up`, `page_down`, `insert`, `delete`. What is not known is swallowed whole: the
`1` in the sequence of Ctrl+Up must not be taken for the key 1.
"""

from __future__ import annotations

import re

ESCAPE_TIME = 0.05
"""s after which an escape byte that nothing follows was the key itself."""

_SINGLE = {0x20: "space", 0x0D: "enter", 0x0A: "enter", 0x09: "tab", 0x7F: "backspace", 0x08: "backspace"}
_FINAL = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_TILDE = {"1": "home", "2": "insert", "3": "delete", "4": "end", "5": "page_up", "6": "page_down"}
_SEQUENCE = re.compile(rb"\x1b(?:\[([0-9:;<=>?]*)[ -/]*([@-~])|O([ -~]))")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-9:;<=>?]*[ -/]*|O)?\Z")


class KeyDecoder:
    """Takes bytes in whatever pieces they come."""

    def __init__(self) -> None:
        """Begin without anything pending."""
        self._pending = b""
        self._since = 0.0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Names of the keys that `data`, which came at `now` s, completes."""
        keys = self.flush(now)
        data, self._pending = self._pending + data, b""
        place = 0
        while place < len(data):
            byte = data[place]
            if byte != 0x1B:
                place += 1
                if byte in _SINGLE:
                    keys.append(_SINGLE[byte])
                elif 0x21 <= byte <= 0x7E:
                    keys.append(chr(byte))
                continue  # control characters and what is not ASCII mean nothing here
            if found := _SEQUENCE.match(data, place):
                keys.extend(_named(found))
                place = found.end()
            elif _UNFINISHED.match(data, place):
                self._pending, self._since = data[place:], now
                break
            else:
                keys.append("escape")
                place += 1
        return keys

    def flush(self, now: float) -> list[str]:
        """`escape`, where its byte has waited long enough for more to follow."""
        if not self._pending or now - self._since < ESCAPE_TIME:
            return []
        alone, self._pending = self._pending == b"\x1b", b""
        return ["escape"] if alone else []


def _named(found: re.Match[bytes]) -> list[str]:
    parameters, final, single = (part.decode() if part is not None else "" for part in found.groups())
    if single:
        return [_FINAL[single]] if single in _FINAL else []
    if final == "~":
        return [_TILDE[parameters]] if parameters in _TILDE else []
    return [_FINAL[final]] if final in _FINAL and not parameters else []
