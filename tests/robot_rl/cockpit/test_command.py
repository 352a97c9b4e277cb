"""`robot-rl cockpit` as a process: it ends cleanly however it is told to."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("mujoco")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_a_word_when_it_is_told_to(tmp_path, number):
    command = [sys.executable, "-m", "robot_rl.cli", "cockpit", "arm-reach", "--port", "0", "--out", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  `nohup pytest` ignores it
    ) as process:
        try:
            lines = iter(process.stdout.readline, "")
            assert any("http://127.0.0.1:" in line for line in lines)
            process.send_signal(number)
            rest = process.communicate(timeout=20.0)[0]
        finally:
            process.kill()
    assert process.returncode == 0, rest
    assert "stopped" in rest and "Traceback" not in rest
