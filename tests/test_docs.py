"""Every command that the documentation shows can be typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
_FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands(program):
    """(page, command) for every line or inline code of the pages that starts with `program`."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in _FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        lines += [" ".join(code.split()) for code in _INLINE.findall(_FENCE.sub("", text))]
        found += [(page.name, line.strip()) for line in lines if line.strip().startswith(f"{program} ")]
    return sorted(set(found))


def test_the_documentation_shows_commands():
    assert len(commands("robot-rl")) > 10
    assert {command for page, command in commands("make") if page == "README.md"} >= {
        "make demo",
        "make test",
    }


@pytest.mark.parametrize(("page", "command"), commands("robot-rl"))
def test_robot_rl_commands_parse(page, command):
    from robot_rl import bringup, cli, listing

    name, *arguments = shlex.split(command, comments=True)[1:]
    if name.startswith("--"):
        assert name in {"--help", "--version"}
        return
    if name not in cli.COMMANDS:
        assert name == "COMMAND", f"{page}: {command}: no command {name!r}"
        return
    if not arguments or (len(arguments) == 1 and name in {"reward", "calibrate"}):
        return  # only named
    if name == "up":
        names = [word for word in arguments if ":=" not in word and word != "--list"]
        assert len(names) == 1, f"{page}: {command}"
        loaded = bringup.load_bringup(names[0])
        values = bringup.parse(loaded, [word for word in arguments if ":=" in word])
        assert set(values) == set(loaded.arguments)
        return
    for module in cli.COMMANDS[name].needs:
        pytest.importorskip(module)
    if name == "train":
        listing.check_task(arguments[0])
    if "--help" in arguments:
        with pytest.raises(SystemExit) as end:
            cli.parse(name, arguments)
        assert end.value.code == 0
        return
    assert cli.parse(name, arguments) is not None


@pytest.mark.parametrize(("page", "command"), commands("make"))
def test_make_targets_exist(page, command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split()[1] in targets, f"{page}: {command}"


def test_the_readme_opens_with_the_two_commands():
    first = _FENCE.search((ROOT / "README.md").read_text())
    assert first and first[1] == "make demo\nmake test\n"
    assert len((ROOT / "README.md").read_text()[: first.start()].split()) < 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_overview_needs_nothing_from_elsewhere():
    text = (ROOT / "docs" / "overview.svg").read_text()
    assert "<image" not in text and "<script" not in text and "href=" not in text
