"""Recipes of a reset: how they are written, what is said of those that are wrong, and what those with names do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hilbridge
from hilbridge import Bridge, DeviceUnsupported, Handle, UsageFault
from hilbridge.bridge.recipes import RECIPES, parse_recipe
from hilbridge.hal.serial_line import open_serial_line
from hilbridge.model.hardware import LineSettings
from hilbridge.model.ntddser import RESET_BREAK, SERIAL_DTR_STATE, SERIAL_RTS_STATE, SerialResetStep
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty

DTR, RTS, BREAK = SERIAL_DTR_STATE, SERIAL_RTS_STATE, RESET_BREAK


# -- the text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("dtr=0 wait=100ms dtr=1", [(DTR, 0, 100_000), (DTR, DTR, 0)]),
        ("dtr=0 rts=1 wait=100ms dtr=1", [(DTR, 0, 0), (RTS, RTS, 100_000), (DTR, DTR, 0)]),
        ("dtr=0,rts=1", [(DTR | RTS, RTS, 0)]),
        ("dtr=1,rts=1,break=1", [(DTR | RTS | BREAK, DTR | RTS | BREAK, 0)]),
        ("wait=1s rts=0", [(0, 0, 1_000_000), (RTS, 0, 0)]),
        ("rts=0 wait=1.5ms wait=100us", [(RTS, 0, 1500), (0, 0, 100)]),
        ("  break=1\twait=0.25s\n break=0 ", [(BREAK, BREAK, 250_000), (BREAK, 0, 0)]),
    ],
)
def test_steps(text: str, steps: list[tuple[int, int, int]]) -> None:
    assert parse_recipe(text) == tuple(SerialResetStep(*step) for step in steps)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("dtr=0 cts=1", 7, "'cts=1' is no step; possible are dtr=, rts= and break= with 0 or 1, wait="),
        ("dtr=0 dtr", 7, "'dtr' is no step"),
        ("dtr=0,rst=1", 7, "'rst=1' is no step"),
        ("dtr=0,", 7, "'' is no step"),
        ("rts=1 dtr=2", 11, "'2' is no state of dtr; give 0 or 1"),
        ("dtr=on", 5, "'on' is no state of dtr"),
        ("dtr=", 5, "'' is no state of dtr"),
        ("dtr=0,dtr=1", 7, "dtr is set twice at once; a space makes it two steps"),
        ("dtr=0 wait=100", 12, "'100' is no time; give a number with its unit: us, ms or s"),
        ("dtr=0 wait=-1ms", 12, "'-1ms' is no time"),
        ("dtr=0 wait=0ms", 12, "a wait is from 1us to 60s"),
        ("dtr=0 wait=60.1s", 12, "a wait is from 1us to 60s"),
        ("dtr=0,wait=1ms", 7, "'wait=1ms' is no step"),
        ("", 1, "nothing is done to any line; give 'dtr', 'rts'"),
        ("wait=1s", 1, "nothing is done to any line"),
        ("dtr=0 " * 65, 385, "this is more than 64 steps"),
        ("esp23", 1, "did you mean 'esp32'?"),
        ("magic", 1, "recipes with a name are dtr, rts, arduino, esp32, esp32-boot, break"),
    ],
)
def test_what_is_wrong_is_said_with_its_column(text: str, column: int, words: str) -> None:
    with pytest.raises(UsageFault) as caught:
        parse_recipe(text)
    assert f", column {column}: " in str(caught.value)
    assert words in str(caught.value)


def test_something_else_than_text() -> None:
    wrong: Any = {"pulse": "dtr"}
    with pytest.raises(UsageFault, match="a name or a text, as 'dtr'"):
        parse_recipe(wrong)


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_shown_as_they_are_written(name: str) -> None:
    assert " ".join(map(str, parse_recipe(name))) == RECIPES[name]


@given(
    st.lists(
        st.builds(
            lambda mask, values, wait: SerialResetStep(mask, values & mask, wait),
            st.integers(1, 7),
            st.integers(0, 7),
            st.integers(0, 60_000_000),
        ),
        min_size=1,
        max_size=64,
    )
)
def test_what_is_shown_can_be_read_again(steps: list[SerialResetStep]) -> None:
    assert parse_recipe(" ".join(map(str, steps))) == tuple(steps)


# -- what the named ones do to the pins ------------------------------------------------------------------------------------


class Esp32(VirtualLine):
    """Two transistors, as on Espressif's boards: EN is low while RTS alone is asserted, IO0 while DTR alone is."""

    def __init__(self) -> None:
        super().__init__("virtual:esp32")
        self.dtr = self.rts = True
        self.boots: list[str] = []
        self.at_ms: list[float] = []
        self.now: Callable[[], float] = lambda: 0.0

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        held = self.rts and not self.dtr
        self.dtr = self.dtr if dtr is None else dtr
        self.rts = self.rts if rts is None else rts
        if held and not (self.rts and not self.dtr):
            # A capacitor at EN: the chip looks at IO0 a moment later, when the steps of this moment are over.
            self.boots.append("")
            self.at_ms.append(self.now())
        if self.boots:
            self.boots[-1] = self.boots[-1] or ("boot loader" if self.dtr and not self.rts else "")

    @property
    def modes(self) -> list[str]:
        return [mode or "run" for mode in self.boots]


@pytest.mark.parametrize(("recipe", "mode"), [("esp32", "run"), ("esp32-boot", "boot loader")])
def test_an_esp32(bridge: Bridge, recipe: str, mode: str) -> None:
    line = Esp32()
    port = bridge.open(bridge.plug(line))
    line.now = lambda: port.now() * 1000
    port.reset(recipe)
    assert line.modes == [mode]
    assert line.at_ms == [100]
    assert not line.dtr and not line.rts


def test_an_arduino_is_reset_by_the_one_falling_edge(bridge: Bridge) -> None:
    """A capacitor makes a pulse of each assertion; one within 100 ms of the port's opening would not be seen."""
    edges: list[tuple[float, bool]] = []

    class Arduino(VirtualLine):
        def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
            assert dtr is not None and dtr is rts
            edges.append((round(port.now() * 1000, 3), dtr))

    port = bridge.open(bridge.plug(Arduino()))
    port.reset("arduino")
    assert edges == [(0, False), (250, True), (250.1, False)]


@pytest.mark.parametrize("recipe", ["dtr", "rts", "break"])
def test_a_pulse_ends_as_it_began(bridge: Bridge, recipe: str) -> None:
    line = VirtualLine()
    port = bridge.open(bridge.plug(line))
    port.reset(recipe)
    steps = parse_recipe(recipe)
    assert len(steps) == 2
    assert steps[0].mask == steps[1].mask and steps[0].values ^ steps[1].values == steps[0].mask
    assert port.now() == (0.25 if recipe == "break" else 0.1)
    assert not line.break_on
    if recipe != "break":
        assert getattr(port, recipe) is True


# -- Handle.reset --------------------------------------------------------------------------------------------------------


class Board(VirtualLine):
    """Says its banner when DTR is released: long before the pulse is over."""

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        super().set_modem_control(dtr=dtr, rts=rts)
        if dtr is False:
            self.feed(b"ROM ok\n")


@pytest.fixture
def board(bridge: Bridge) -> Iterator[Handle]:
    with bridge.open(bridge.plug(Board(), name="dut", reset="dtr")) as handle:
        yield handle


def test_reading_begins_with_the_first_byte_of_the_reset(bridge: Bridge, board: Handle) -> None:
    line = bridge.pnp.node("dut").line
    assert isinstance(line, Board)
    line.feed(b"ROM ok, said the boot before\n")
    assert board.reset() == 29
    assert board.readline() == b"ROM ok\n"
    assert board.in_waiting == 0


def test_what_came_before_can_be_kept(bridge: Bridge, board: Handle) -> None:
    line = bridge.pnp.node("dut").line
    assert isinstance(line, Board)
    line.feed(b"old\n")
    assert board.reset(discard=False) == 4
    assert [board.readline(), board.readline()] == [b"old\n", b"ROM ok\n"]


def test_a_console_expects_what_came_after_the_reset(bridge: Bridge, board: Handle) -> None:
    board.reset()
    assert board.console().expect(r"ROM (\w+)").group(1) == "ok"


def test_the_recipe_of_the_call_goes_before_that_of_the_device(board: Handle) -> None:
    board.reset("rts=0 wait=1ms rts=1")
    assert board.in_waiting == 0


def test_without_a_recipe_it_says_how_to_give_one(bridge: Bridge) -> None:
    with bridge.open(bridge.plug(VirtualLine())) as port, pytest.raises(UsageFault) as caught:
        port.reset()
    assert "reset of COM1: nobody has said how" in str(caught.value)
    assert "reset('dtr')" in str(caught.value) and "plug(..., reset='dtr')" in str(caught.value)


def test_on_a_bridge_that_runs_by_itself() -> None:
    """Real timers, the worker's thread, and the poller's."""
    with hilbridge.open("virtual:loop", reset="dtr=0 wait=1ms dtr=1 wait=1ms rts=0", rts="assert") as port:
        assert (port.dsr, port.cts) == (False, True)
        port.write(b"before")
        port.flush()
        began = port.now()
        assert port.reset(discard=False) == 6
        assert port.now() - began >= 0.002
        assert (port.dsr, port.cts) == (True, False)
        port.write(b" and after")
        assert port.read(16) == b"before and after"


def test_each_device_has_its_own(bridge: Bridge) -> None:
    bridge.plug(Board(), name="first", reset="dtr")
    bridge.plug(Board(), name="second")
    with bridge.open("first") as first, bridge.open("second") as second:
        first.reset()
        with pytest.raises(UsageFault):
            second.reset()


def test_a_wrong_recipe_is_found_before_the_port_is_opened(bridge: Bridge) -> None:
    with pytest.raises(UsageFault, match="column 5"):
        bridge.plug("/dev/ttyNOPE", reset="dtr=7")
    assert bridge.devices() == []


def test_a_pty_cannot_and_says_at_which_step() -> None:
    pty = Pty()
    try:
        with Bridge() as bridge, bridge.open(bridge.plug(pty.path, reset="esp32-boot")) as port:
            with pytest.raises(
                DeviceUnsupported, match=r"step 1 of the reset \(dtr=0\): /dev/pts/\d+ has no DTR and RTS"
            ):
                port.reset()
            with pytest.raises(DeviceUnsupported, match=r"step 1 of the reset \(break=1 wait=250ms\).* has no break"):
                port.reset("break")
    finally:
        pty.close()


# -- the lines at the start ------------------------------------------------------------------------------------------------


class Outputs(VirtualLine):
    def __init__(self) -> None:
        super().__init__()
        self.set: list[tuple[bool | None, bool | None]] = []

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        self.set.append((dtr, rts))


@pytest.mark.parametrize(
    ("settings", "done"),
    [
        ({}, []),
        ({"dtr": "keep", "rts": "keep"}, []),
        ({"dtr": "release"}, [(False, None)]),
        ({"rts": "assert"}, [(None, True)]),
        ({"dtr": "release", "rts": "release"}, [(False, False)]),
    ],
)
def test_outputs_at_the_start(
    bridge: Bridge, settings: dict[str, Any], done: list[tuple[bool | None, bool | None]]
) -> None:
    line = Outputs()
    with bridge.open(bridge.plug(line, **settings)) as port:
        assert line.set == done
        assert (port.dtr, port.rts) == (False, settings.get("rts") == "assert")


def test_a_cancelled_reset_goes_back_to_them(bridge: Bridge) -> None:
    line = Outputs()
    with bridge.open(bridge.plug(line, dtr="release", rts="assert")) as port:
        with pytest.raises(Exception, match="did not end"):
            port.reset("dtr=1,rts=0 wait=1s dtr=0", timeout=0.5)
        assert line.set == [(False, True), (True, False), (False, True)]


def test_what_the_application_has_set_since_then_counts_after_a_stop(bridge: Bridge) -> None:
    name = bridge.plug("virtual:loop", dtr="release")
    with bridge.open(name) as port:
        assert not port.dsr
        port.dtr = True
        bridge.stop(name)
        bridge.start(name)
        assert port.dtr and port.dsr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dtr": "off"}, "dtr 'off': what becomes of the line at the start is one of 'keep', 'assert', 'release'"),
        ({"rts": True}, "rts True"),
        ({"rts": "release", "rtscts": True}, "rts 'release' does not go with rtscts: the flow control moves that line"),
    ],
)
def test_what_cannot_be(bridge: Bridge, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageFault) as caught:
        bridge.plug("virtual:loop", **settings)
    assert words in str(caught.value)


def test_a_line_without_them() -> None:
    pty = Pty()
    try:
        with Bridge() as bridge:
            with pytest.raises(
                DeviceUnsupported, match=r"dtr='release': /dev/pts/\d+ has no DTR and RTS; leave it out"
            ):
                bridge.plug(pty.path, dtr="release")
            assert bridge.devices() == []
        open_serial_line(pty.path, LineSettings()).close()  # nothing has kept it
    finally:
        pty.close()
