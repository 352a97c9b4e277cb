"""The keyboard through a real pseudo-terminal: what it says, when it stops, and that the terminal comes back."""

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.teleop.device import DeviceError
from hardware.teleop.keyboard import Keyboard, KeyboardConfig
from hardware.teleop.keys import ESCAPE_TIME, KeyDecoder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def terminal():
    """(where a person's keys go in, path of the terminal, its descriptor)."""
    master, slave = pty.openpty()
    yield master, os.ttyname(slave), slave
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError as error:
            assert error.errno == 9  # the test has closed it


@pytest.fixture
def open_keyboard(terminal):
    opened = []

    def build(**settings):
        # Longer than the defaults: a busy machine must not miss what it looks for.
        settings = {"first_hold": 0.4, "repeat_hold": 0.4, "stale_after": 1.0, **settings}
        opened.append(Keyboard(KeyboardConfig(**settings), terminal[1]))
        return opened[-1]

    yield build
    for keyboard in opened:
        keyboard.close()


def wait_for(keyboard, wanted, seconds=5.0):
    """The first sample that is as wanted; whatever was pressed until then is in it."""
    pressed, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        sample = keyboard.read()
        pressed |= sample.pressed
        if wanted(sample):
            return sample, pressed
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s; last was {sample}, pressed so far {pressed}")


def moving(sample):
    return bool(np.any(sample.twist))


def resting(sample):
    return not moving(sample)


@pytest.mark.parametrize(
    ("key", "twist"),
    [
        (b"w", [0.2, 0, 0, 0, 0, 0]),
        (b"\x1b[D", [0, 0.2, 0, 0, 0, 0]),
        (b"\x1bOB", [-0.2, 0, 0, 0, 0, 0]),
        (b"\x1b[6~", [0, 0, -0.2, 0, 0, 0]),
        (b"q", [0, 0, 0, 0, 0, 0.5]),
    ],
)
def test_a_key_moves_in_its_direction_and_motion_ends_by_itself(terminal, open_keyboard, key, twist):
    keyboard = open_keyboard(linear=0.2, angular=0.5)
    assert resting(keyboard.read()) and not keyboard.read().engaged
    os.write(terminal[0], key)
    sample, _ = wait_for(keyboard, moving)
    np.testing.assert_allclose(sample.twist, twist)
    assert sample.engaged and sample.dead_man and sample.connected
    began = time.monotonic()
    sample, _ = wait_for(keyboard, resting)
    assert time.monotonic() - began < 1.0
    assert sample.engaged  # the clutch outlasts the wait for the first repeat, so that no policy jumps in


def test_a_held_key_moves_for_as_long_as_it_repeats(terminal, open_keyboard):
    keyboard = open_keyboard()
    end = time.monotonic() + 1.0
    os.write(terminal[0], b"w")
    wait_for(keyboard, moving)
    while time.monotonic() < end:
        os.write(terminal[0], b"w")
        assert moving(keyboard.read())
        time.sleep(0.03)
    wait_for(keyboard, resting)


def test_first_hold_bridges_the_wait_for_the_first_repeat(terminal, open_keyboard):
    keyboard = open_keyboard(first_hold=1.2)
    os.write(terminal[0], b"w")
    wait_for(keyboard, moving)
    began = time.monotonic()
    wait_for(keyboard, resting)
    assert time.monotonic() - began > 0.6


def test_a_burst_of_late_repeats_is_not_played_back(terminal, open_keyboard):
    keyboard = open_keyboard()
    os.write(terminal[0], b"w" * 300)  # ten seconds of a held key, after a link that hung
    wait_for(keyboard, moving)
    began = time.monotonic()
    wait_for(keyboard, resting)
    assert time.monotonic() - began < 1.0


def test_a_held_button_key_counts_once(terminal, open_keyboard):
    keyboard = open_keyboard(press_gap=1.2)
    seen = []
    for wait in (0.0, 0.5, 0.03, 0.03, 0.03):  # as a terminal repeats
        time.sleep(wait)
        os.write(terminal[0], b" ")
        time.sleep(0.02)
        seen += keyboard.read().pressed
    time.sleep(1.3)
    os.write(terminal[0], b" ")
    _, again = wait_for(keyboard, lambda sample: "gripper" in sample.pressed)
    assert seen == ["gripper"] and again == {"gripper"}


def test_a_press_between_two_reads_is_seen_once(terminal, open_keyboard):
    keyboard = open_keyboard()
    os.write(terminal[0], b"Y")
    time.sleep(0.4)
    assert keyboard.read().pressed == {"success"}
    assert keyboard.read().pressed == frozenset()


def test_unknown_sequences_and_pasted_text_press_nothing(terminal, open_keyboard):
    keyboard = open_keyboard()
    os.write(terminal[0], b"\x1b[1;5A\x1b[200~\x1b[<0;3;4M\xc3\xa4\x00")
    os.write(terminal[0], b"You would Never eXpect what pasting does Right now")
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        sample = keyboard.read()
        assert not sample.pressed and resting(sample) and not sample.engaged
        time.sleep(0.01)


def test_escape_alone_pauses(terminal, open_keyboard):
    keyboard = open_keyboard()
    os.write(terminal[0], b"\x1b")
    _, pressed = wait_for(keyboard, lambda sample: "pause" in sample.pressed)
    assert pressed == {"pause"}


def test_slow_scales_the_speed(terminal, open_keyboard):
    keyboard = open_keyboard(linear=0.2, slow=0.5)
    os.write(terminal[0], b"c")
    wait_for(keyboard, lambda sample: "slow" in sample.pressed)
    os.write(terminal[0], b"w")
    sample, _ = wait_for(keyboard, moving)
    np.testing.assert_allclose(sample.twist[0], 0.1)


def test_a_closed_terminal_is_a_lost_device_that_rests(terminal, open_keyboard):
    keyboard = open_keyboard(first_hold=5.0)
    os.write(terminal[0], b"w")
    wait_for(keyboard, moving)
    os.close(terminal[0])
    sample, _ = wait_for(keyboard, lambda sample: not sample.connected)
    assert resting(sample) and not sample.engaged and sample.age == float("inf")


def test_input_that_went_stale_moves_nothing(terminal, open_keyboard):
    keyboard = open_keyboard(first_hold=30.0, clutch_hold=30.0, stale_after=0.15)
    os.write(terminal[0], b"w")
    wait_for(keyboard, moving)

    def stall(data, now):
        time.sleep(2.0)

    keyboard._reader._feed = stall  # as a thread that gets no processor
    os.write(terminal[0], b"w")
    sample, _ = wait_for(keyboard, resting)
    assert sample.connected and sample.engaged and sample.age > 0.15


def test_the_age_of_a_silent_keyboard_stays_small(open_keyboard):
    keyboard = open_keyboard()
    time.sleep(0.3)
    assert keyboard.read().age < 0.3


def test_read_does_not_wait(open_keyboard):
    keyboard = open_keyboard()
    keyboard.read()
    began = time.monotonic()
    for _ in range(200):
        keyboard.read()
    assert (time.monotonic() - began) / 200 < 0.005


def test_closing_gives_the_terminal_back(terminal):
    before = termios.tcgetattr(terminal[2])
    keyboard = Keyboard(path=terminal[1])
    assert not termios.tcgetattr(terminal[2])[3] & (termios.ICANON | termios.ECHO)
    assert termios.tcgetattr(terminal[2])[3] & termios.ISIG  # Ctrl-C must still stop the program
    keyboard.close()
    keyboard.close()
    assert termios.tcgetattr(terminal[2]) == before


ENDINGS = {
    "end": "pass",
    "exception": "raise RuntimeError('as it happens')",
    "exit": "sys.exit(3)",
    "sigterm": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
    "own handler": "told = []; signal.signal(signal.SIGTERM, lambda *_: told.append(1)); "
    "os.kill(os.getpid(), signal.SIGTERM); assert told",
}


@pytest.mark.parametrize(
    ("ending", "status"), [("end", 0), ("exception", 1), ("exit", 3), ("sigterm", -signal.SIGTERM), ("own handler", 0)]
)
def test_however_the_program_ends_the_terminal_is_restored(terminal, ending, status):
    before = termios.tcgetattr(terminal[2])
    program = (
        "import os, signal, sys, termios, time\n"
        "from hardware.teleop.keyboard import Keyboard\n"
        f"keyboard = Keyboard(path={terminal[1]!r})\n"
        f"assert not termios.tcgetattr(os.open({terminal[1]!r}, os.O_RDWR | os.O_NOCTTY))[3] & termios.ECHO\n"
        f"{ENDINGS[ending]}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert termios.tcgetattr(terminal[2]) == before


def test_a_handler_that_was_there_before_is_still_called(terminal):
    program = (
        "import os, signal, sys, time\n"
        "from hardware.teleop.keyboard import Keyboard\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True))\n"
        f"keyboard = Keyboard(path={terminal[1]!r})\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(0.1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


def test_a_forked_child_leaves_the_terminal_to_its_parent(terminal):
    program = (
        "import os, signal, sys, termios, time\n"
        "from hardware.teleop.keyboard import Keyboard\n"
        f"keyboard = Keyboard(path={terminal[1]!r})\n"
        "if (child := os.fork()) == 0:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)\n"
        "assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM\n"
        f"assert not termios.tcgetattr(os.open({terminal[1]!r}, os.O_RDWR | os.O_NOCTTY))[3] & termios.ECHO\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_controlling_terminal_works_and_the_background_is_refused(terminal):
    program = (
        "import fcntl, os, sys, termios, time\n"
        "from hardware.teleop.keyboard import Keyboard\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "if (child := os.fork()) == 0:\n"
        "    os.setpgid(0, 0)\n"
        "    try: Keyboard()\n"
        "    except OSError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "keyboard = Keyboard()\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 20\n"
        "while 'pause' not in keyboard.read().pressed and time.monotonic() < end: time.sleep(0.01)\n"
        "print('paused' if time.monotonic() < end else 'nothing', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=terminal[2], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert "background" in process.stdout.readline()
    assert process.stdout.readline() == "ready\n"
    os.write(terminal[0], b"p")
    assert process.stdout.readline() == "paused\n"
    assert process.wait(timeout=20) == 0


def test_what_is_no_terminal_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="ssh -t"):
        Keyboard(path=str(tmp_path / "file"))


def test_wrong_configs_are_named():
    with pytest.raises(ValueError, match="'gripper'"):
        KeyboardConfig(buttons={"g": "griper"})
    with pytest.raises(ValueError, match="both a motion and a button"):
        KeyboardConfig(buttons={"w": "gripper"})
    with pytest.raises(ValueError, match="'forward'"):
        KeyboardConfig(motions={"w": "forward"})
    with pytest.raises(ValueError, match="linear"):
        KeyboardConfig(linear=float("nan"))


def test_help_names_every_key(open_keyboard):
    text = open_keyboard().help()
    assert "shift+y" in text and "w or up" in text and "end the episode: success" in text


@given(data=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_the_decoder_does_not_mind_how_bytes_are_cut(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder, keys = KeyDecoder(), []
    for i, j in zip(edges, edges[1:], strict=False):
        keys += decoder.feed(data[i:j], now=0.0)
    whole = KeyDecoder()
    assert keys == whole.feed(data, now=0.0)
    assert decoder.flush(1.0) == whole.flush(1.0)


def test_an_unfinished_sequence_is_no_key():
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b[1", now=0.0) == []
    assert decoder.feed(b"w", now=2 * ESCAPE_TIME) == ["w"]
