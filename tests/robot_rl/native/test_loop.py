"""The native loop: the commands of the bundle, refusals, and time that does not hang on the interpreter."""

import ctypes
import sys
import time

import numpy as np
import pytest

import policies
from hardware.realtime.seqlock import SlotError, SlotReader, SlotWriter
from policies.bundle import read_manifest
from robot_rl.bench.native import record_type
from robot_rl.errors import UserError
from robot_rl.export_c.compiled import CompiledPolicy, compile_library, find_compiler
from robot_rl.export_c.layout import unflatten
from robot_rl.export_c.samples import random_rows
from robot_rl.export_c.writer import write_c
from robot_rl.native.loop import Input, NativeConfig, NativeLoop, Output

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler: the native loop is not tested"),
    pytest.mark.skipif(sys.platform != "linux", reason="the native loop needs Linux"),
]
BUNDLE = "quadrotor-track"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    library = compile_library(write_c(BUNDLE, tmp_path_factory.mktemp("native") / "c", vectors=4))
    return CompiledPolicy(library, read_manifest(BUNDLE)[1])


class Bench:
    """Slots around a loop."""

    def __init__(self, policy, folder, **config):
        layout = policy.layout
        self.types = [record_type(fields) for fields in (layout.state, layout.setpoint, layout.command)]
        self.writers = [
            SlotWriter(folder, name, kind) for name, kind in zip(("state", "setpoint"), self.types, strict=False)
        ]
        self.reader = SlotReader(folder, "command", self.types[2])
        self.states, self.setpoints = random_rows(layout, 4, seed=0)
        inputs = [
            Input(name=name, dtype=kind, target=name, fields={n: n for n in kind.names if n != "stamp"},
                  max_age=0.1, stamp_field="stamp")
            for name, kind in zip(("state", "setpoint"), self.types, strict=False)
        ]  # fmt: skip
        output = Output(name="command", blank=np.zeros((), self.types[2]), fields={"motor_speeds": "motor_speeds"},
                        stamp_field="stamp")  # fmt: skip
        self.loop = NativeLoop(policy, folder, inputs, output, NativeConfig(**{"rate_hz": 100.0, **config}))

    def write(self, k=0, age=0.0, bad=False):
        stamp = time.monotonic() - age
        for writer, row in zip(self.writers, (self.states[k], self.setpoints[k]), strict=True):
            values = np.concatenate([[stamp], row.astype(np.float64)])
            values[1] = np.nan if bad else values[1]
            writer.write(values.view(writer.dtype)[0])
        return stamp

    def until(self, condition, seconds=5.0):
        end = time.monotonic() + seconds
        while not condition(self.loop.statistics()):
            assert time.monotonic() < end, self.loop.statistics()
            time.sleep(0.005)
        return self.loop.statistics()

    def close(self):
        self.loop.close()
        for slot in (*self.writers, self.reader):
            slot.close()


@pytest.fixture
def bench(policy, tmp_path):
    made = []

    def make(**config):
        made.append(Bench(policy, tmp_path, **config))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_thread_gives_the_commands_of_the_bundle_with_memory(bench, policy):
    slots = bench()
    stamp = slots.write(age=-1e6)  # never stale: the n-th command is the n-th step on this state
    slots.loop.start()
    found = {}
    while len(found) < 10:
        reading = slots.reader.read_new()
        if reading is not None:
            found[reading.sequence] = (reading.record["motor_speeds"].copy(), float(reading.record["stamp"]))
        time.sleep(0.001)
    runtime = policies.load(BUNDLE)
    given = (unflatten(row, policy.layout, name) for row, name in
             ((slots.states[0], "state"), (slots.setpoints[0], "setpoint")))  # fmt: skip
    state, setpoint = given
    expected = [runtime.step(state, setpoint).values for _ in range(max(found))]
    for sequence, (speeds, state_stamp) in found.items():
        np.testing.assert_allclose(speeds, expected[sequence - 1], atol=1e-5 * 2272.6)
        assert state_stamp == stamp


def test_no_old_missing_or_broken_state_gives_a_command(bench):
    slots = bench(rate_hz=500.0)
    slots.loop.start()
    assert slots.until(lambda s: s.refusals["empty"] > 3).commands == 0
    slots.write(age=0.2)
    assert slots.until(lambda s: s.refusals["stale"] > 3).commands == 0
    slots.write(bad=True)
    assert slots.until(lambda s: s.refusals["refused"] > 3).commands == 0
    slots.write()
    good = slots.until(lambda s: s.commands > 3)
    assert good.resets >= 1
    silent = slots.until(lambda s: s.refusals["stale"] > good.refusals["stale"] + 5)
    slots.write()
    assert slots.until(lambda s: s.commands > silent.commands).resets > good.resets


def test_damaged_memory_gives_no_command(bench, tmp_path):
    slots = bench(rate_hz=500.0)
    slots.write(age=-1e6)
    slots.loop.start()
    slots.until(lambda s: s.commands > 3)
    with open(tmp_path / "state", "r+b") as file:
        file.seek(128)
        file.write(b"\xa5" * 2000)
    before = slots.until(lambda s: s.refusals["damaged"] > 3).commands
    time.sleep(0.05)
    assert slots.loop.statistics().commands == before


def test_it_may_be_told_to_be_silent(bench):
    slots = bench(rate_hz=500.0)
    slots.write(age=-1e6)
    slots.loop.start()
    slots.until(lambda s: s.commands > 3)
    slots.loop.activate(False)
    silent = slots.until(lambda s: s.refusals["inactive"] > 3)
    time.sleep(0.05)
    assert slots.loop.statistics().commands == silent.commands
    slots.loop.activate(True)
    assert slots.until(lambda s: s.commands > silent.commands).resets == silent.resets + 1


def test_time_goes_on_while_the_interpreter_is_held(bench):
    slots = bench(rate_hz=500.0)
    slots.write(age=-1e6)
    slots.loop.start()
    slots.until(lambda s: s.commands > 10)
    hold = ctypes.PyDLL(None).usleep  # keeps the interpreter's lock
    before = slots.loop.statistics().ticks
    hold(400_000)
    # 200 ticks are due; a loaded machine may lose many of them, a thread that needs the lock has none.
    assert slots.loop.statistics().ticks - before > 60


def test_every_tick_is_counted_once(bench):
    slots = bench(rate_hz=200.0, every=4)
    slots.write(age=-1e6)
    begin = time.monotonic()
    slots.loop.start()
    now = slots.until(lambda s: s.ticks >= 100, seconds=10.0)
    passed = time.monotonic() - begin
    assert now.commands == pytest.approx(now.ticks / 4, abs=1.5)
    assert now.ticks + now.lost_periods == pytest.approx(passed * 200.0, abs=8)
    assert now.wake_error.count == pytest.approx(now.ticks, abs=1) and now.wake_error.max >= 0.0


def test_one_thread_one_writer(bench, policy, tmp_path):
    slots = bench()
    slots.loop.start()
    with pytest.raises(SlotError, match="is written by"):
        Bench(policy, tmp_path)
    with pytest.raises(SlotError, match="does not start"):
        slots.loop.start()


def test_a_policy_without_its_inputs_is_refused(policy, tmp_path):
    kind = record_type((("position", 3), ("orientation", 4)))
    given = Input(name="state", dtype=kind, target="state", fields={"position": "position"}, max_age=1.0)
    output = Output(name="command", blank=np.zeros((), record_type(policy.layout.command)), fields={})
    with pytest.raises(UserError, match="no slot gives the policy orientation"):
        NativeLoop(policy, tmp_path, [given], output, NativeConfig())
