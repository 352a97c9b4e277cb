"""Errors that are the user's to fix: the command line prints their one sentence instead of a traceback."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user gave is wrong; the message says what, where and how to fix it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Say that `name` is no known `kind`, with the nearest match and the alternatives."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names) if names else 'none'}")


def require_packages(purpose: str, extra: str, modules: Iterable[str]) -> None:
    """Raise one sentence with the pip command where an optional package is not installed.

    Args:
        purpose: What needs them, e.g. `robot-rl train`.
        extra: The extra of this package that brings them.
        modules: Top-level module names.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"{purpose} needs {', '.join(missing)}; install with: pip install 'robot_rl[{extra}]'")
