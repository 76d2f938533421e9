"""rfc2217://, against pyserial's own server engine over real sockets."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import Any

import pytest
from serial.rfc2217 import (
    PURGE_DATA,
    SERVER_PURGE_DATA,
    SERVER_SET_CONTROL,
    SET_CONTROL_BREAK_OFF,
    SET_CONTROL_BREAK_ON,
    SET_CONTROL_DTR_OFF,
)

from hilbridge.hal import pump, rfc2217_line
from hilbridge.hal.pump import open_pumped_line
from hilbridge.hal.rfc2217_line import Rfc2217Line
from hilbridge.model.errors import DeviceTimeout, DeviceUnsupported
from hilbridge.model.hardware import (
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    Line,
)
from tests.hal.halkit import PATIENCE, SETTINGS, FakePin, descriptors, hear, is_readable, say
from tests.hal.rfc2217_server import PickyPort, Rfc2217Server, open_it, stuff

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop


def is_done(remote: Rfc2217Line) -> None:
    """Return when all that the remote was asked to do has been done: a setting takes its turn like everything else."""
    remote.configure(replace(remote.settings, stopbits=2 if remote.settings.stopbits == 1 else 1))


def test_it_is_a_line(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    seam: Line = remote
    assert seam.name == server.url
    assert seam.has_modem_lines is True
    assert seam.asserted() is False
    assert seam.fileno() >= 0
    assert os.get_inheritable(seam.fileno()) is False


def test_bytes_go_both_ways(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    everything = bytes(range(256)) + b"\xff\xff\xff"
    say(remote, everything)
    assert hear(remote, 259) == everything
    server.port.write(b"from the board")
    assert hear(remote, 14) == b"from the board"
    assert remote.read(10) == b""
    assert remote.read(0) == b""


def test_a_megabyte_passes_through_small_buffers(
    remote: Rfc2217Line, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "RX_LIMIT", 10_000)
    monkeypatch.setattr(pump, "TX_LIMIT", 5_000)
    block = random.Random(seed).randbytes(200_000)
    sent, got = 0, bytearray()
    remote.enable_interrupts(CAUSE_RX | CAUSE_TX)
    while len(got) < len(block):
        assert is_readable(remote.fileno())
        causes = remote.causes()
        assert causes
        if causes & CAUSE_TX:
            sent += remote.write(block[sent : sent + 7_000])
            if sent == len(block):
                remote.enable_interrupts(CAUSE_RX)
        if causes & CAUSE_RX:
            got += remote.read(random.Random(seed + sent).randint(1, 9_000))
    assert got == block
    assert remote.output_waiting() == 0


def test_the_banner_before_the_end_of_the_negotiation_is_kept(server: Rfc2217Server) -> None:
    server.greeting = b"ser2net port 4000 device /dev/ttyS1\r\n"
    line = open_it(server)
    assert hear(line, len(server.greeting)) == server.greeting
    line.close()


def test_the_far_end_is_not_asked_to_purge_what_it_has_received(
    server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged = []
    monkeypatch.setattr(server.port, "reset_input_buffer", lambda: purged.append("input"))
    open_it(server).close()
    assert purged == []
    open_it(server, flush_on_open=True).close()
    assert purged == ["input"]


def test_flush_on_open_asks_the_far_end_to_purge(server: Rfc2217Server) -> None:
    server.greeting = b"old"
    line = open_it(server, flush_on_open=True)
    server.port.write(b"new")
    assert hear(line, 3) == b"new"
    line.close()


# -- interrupts --------------------------------------------------------------------------------------------------------


def test_the_descriptor_says_what_the_causes_say(remote: Rfc2217Line, server: Rfc2217Server, pin: FakePin) -> None:
    remote.connect(pin)
    remote.enable_interrupts(0)
    remote.enable_interrupts(CAUSE_RX)
    assert pin.enabled == [CAUSE_RX], "once: the selector always watches the eventfd, for CAUSE_GONE"
    assert not is_readable(remote.fileno(), 0)
    assert remote.causes() == 0
    server.port.write(b"x")
    assert is_readable(remote.fileno())
    assert remote.causes() == CAUSE_RX
    assert remote.causes() == CAUSE_RX, "level, not edge: the byte is still there"
    remote.enable_interrupts(0)
    assert not is_readable(remote.fileno(), 0)
    assert remote.causes() == 0
    remote.enable_interrupts(CAUSE_RX)
    assert is_readable(remote.fileno(), 0)
    assert remote.read(1) == b"x"
    assert not is_readable(remote.fileno(), 0)


def test_room_interrupts_only_who_asks(
    remote: Rfc2217Line, server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "TX_LIMIT", 5_000)
    assert not is_readable(remote.fileno(), 0)
    remote.enable_interrupts(CAUSE_TX)
    assert remote.causes() == CAUSE_TX
    remote.enable_interrupts(0)
    server.may_read.clear()
    sent = stuff(remote)
    remote.enable_interrupts(CAUSE_TX)
    assert not is_readable(remote.fileno(), 0)
    assert remote.causes() == 0
    assert remote.write(b"x") == 0
    assert remote.output_waiting() == 5_000
    server.may_read.set()
    assert is_readable(remote.fileno())
    assert remote.causes() == CAUSE_TX
    remote.enable_interrupts(CAUSE_RX)
    assert hear(remote, sent) == bytes(sent)


def test_a_far_end_that_sleeps_longer_than_pyserials_time_out_loses_nothing(remote: Rfc2217Line) -> None:
    connection = remote._rfc2217._socket
    assert connection is not None
    assert connection.gettimeout() is None, "pyserial's own 5 s would end a slow write after an unknown number of bytes"


def test_who_does_not_read_stops_the_far_end(
    remote: Rfc2217Line, server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "RX_LIMIT", 1000)
    remote.enable_interrupts(0)
    assert server.end is not None
    server.end.settimeout(0.3)
    sent = bytearray()
    block = random.Random(0).randbytes(65536).replace(b"\xff", b"")
    with pytest.raises(TimeoutError):
        while len(sent) < 1 << 30:
            sent += block[: server.end.send(block)]
    server.end.settimeout(None)
    assert len(remote._rx) <= 1000 + rfc2217_line.RECEIVE_SIZE
    remote.enable_interrupts(CAUSE_RX)
    assert hear(remote, len(sent)) == sent


# -- settings and modem lines ------------------------------------------------------------------------------------------


def test_settings_reach_the_far_port(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    assert server.port.baudrate == 115200
    settings = replace(SETTINGS, baudrate=31250, bytesize=7, parity="E", stopbits=2, rtscts=True)
    remote.configure(settings)
    far = server.port
    assert (far.baudrate, far.bytesize, far.parity, far.stopbits, far.rtscts) == (31250, 7, "E", 2, True)
    assert remote.settings == settings
    started = time.monotonic()
    remote.configure(settings)
    assert time.monotonic() - started < 0.05, "nothing changes: nobody is asked"


def test_settings_take_their_turn_behind_what_was_written(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    seen: list[tuple[int, bytes]] = []
    write = server.port.write

    def noted(data: bytes) -> int:
        seen.append((server.port.baudrate, data))
        return int(write(data))

    server.port.write = noted
    say(remote, b"slowly")
    remote.configure(replace(SETTINGS, baudrate=9600))
    say(remote, b"fast")
    assert hear(remote, 10) == b"slowlyfast"
    spoken = {rate: b"".join(data for at, data in seen if at == rate) for rate in (115200, 9600)}
    assert spoken == {115200: b"slowly", 9600: b"fast"}


def test_a_setting_that_the_far_end_refuses_is_named_and_changes_nothing(
    remote: Rfc2217Line, server: Rfc2217Server
) -> None:
    with pytest.raises(DeviceUnsupported, match="the far end refuses this baudrate; try another value") as caught:
        remote.configure(replace(SETTINGS, baudrate=PickyPort.MISSING, parity="E"))
    assert caught.value.exit_code == 2
    assert remote.settings == SETTINGS
    assert (server.port.baudrate, server.port.parity) == (115200, "N")
    say(remote, b"still works")
    assert hear(remote, 11) == b"still works"


def test_an_impossible_setting_is_not_even_sent(remote: Rfc2217Line) -> None:
    for change, named in (
        ({"baudrate": 0}, "baudrate 0"),
        ({"bytesize": 9}, "bytesize 9"),
        ({"dsrdtr": True}, "dsrdtr"),
    ):
        settings: Any = replace(SETTINGS, **change)
        with pytest.raises(DeviceUnsupported, match=named):
            remote.configure(settings)


def test_a_refused_setting_at_the_open(server: Rfc2217Server) -> None:
    before = descriptors()
    with pytest.raises(DeviceUnsupported, match=r"cannot open .*: the far end refuses this baudrate"):
        open_pumped_line(server.url, replace(SETTINGS, baudrate=PickyPort.MISSING))
    assert server.idle.wait(PATIENCE)
    assert descriptors() == before


def test_modem_lines(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    # loop:// wires DTR to DSR and RTS to CTS, and has carrier.
    assert remote.modem_status() == MSR_CTS | MSR_DSR | MSR_DCD
    remote.set_modem_control(dtr=False)
    remote.set_modem_control(rts=True)
    is_done(remote)
    assert (server.port.dtr, server.port.rts) == (False, True)
    server.manager.check_modem_lines()
    server.port.write(b"after the notification")
    hear(remote, 22)
    assert remote.modem_status() == MSR_CTS | MSR_DCD
    remote.set_modem_control(dtr=True, rts=False)
    is_done(remote)
    assert (server.port.dtr, server.port.rts) == (True, False)


def test_a_break_takes_its_turn_among_the_bytes(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    say(remote, b"before")
    remote.set_break(True)
    is_done(remote)
    assert server.port.break_condition == True  # noqa: E712 - with `is`, mypy believes that it stays so
    remote.set_break(False)
    is_done(remote)
    assert server.port.break_condition is False
    assert hear(remote, 6) == b"before"


def test_a_modem_line_that_fails_is_told_by_the_next_call(
    remote: Rfc2217Line, server: Rfc2217Server, caplog: pytest.LogCaptureFixture
) -> None:
    # The far end answers every request for DTR with "off".
    answer = server.manager.rfc2217_send_subnegotiation

    def contrary(option: bytes, value: bytes = b"") -> None:
        answer(option, SET_CONTROL_DTR_OFF if option == SERVER_SET_CONTROL else value)

    server.manager.rfc2217_send_subnegotiation = contrary
    remote.set_modem_control(dtr=True)
    is_done_quietly(remote)
    with pytest.raises(DeviceUnsupported, match=r"cannot set DTR or RTS of .*: the far end refuses this control"):
        remote.set_break(True)
    assert "cannot set DTR or RTS of" in caplog.text
    server.manager.rfc2217_send_subnegotiation = answer
    remote.set_break(False)
    is_done(remote)


def is_done_quietly(remote: Rfc2217Line) -> None:
    # Not by configure(), which would be "the next call": by bytes, which also take their turn.
    say(remote, b"turn")
    hear(remote, 4)


def test_discard_empties_both_ends(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.port.write(b"old")
    assert is_readable(remote.fileno())
    remote.discard(rx=True)
    assert remote.read(10) == b""
    assert not is_readable(remote.fileno(), 0)
    say(remote, b"new")
    assert hear(remote, 3) == b"new"
    remote.discard(rx=True, tx=True)
    is_done(remote)


def test_discard_takes_what_arrives_until_the_far_end_has_purged(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.may_read.clear()
    remote.discard(rx=True)
    server.write(b"on its way when the far end was asked")
    assert is_readable(remote.fileno())
    server.may_read.set()
    is_done(remote)
    assert remote.read(100) == b""


def test_discard_drops_what_was_not_sent(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.may_read.clear()
    stuff(remote)
    waiting = remote.output_waiting()
    assert waiting > pump.TX_LIMIT // 2
    remote.discard(tx=True)
    assert remote.output_waiting() <= pump.CHUNK, "but what the transmit thread has in hand"
    assert remote.write(b"x") == 1
    server.may_read.set()


def test_a_silent_far_end_ends_the_wait_for_a_setting(
    remote: Rfc2217Line, server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "CONFIGURE_SECONDS", 0.2)
    server.may_read.clear()
    with pytest.raises(DeviceTimeout, match=r"did not take its settings within 0.2 s") as caught:
        remote.configure(replace(SETTINGS, baudrate=9600))
    assert caught.value.exit_code == 8
    server.may_read.set()


def test_pyserials_names_for_the_protocol_are_those_of_the_rfc() -> None:
    assert (PURGE_DATA, SERVER_PURGE_DATA) == (b"\x0c", b"\x70")
    assert (SET_CONTROL_BREAK_ON, SET_CONTROL_BREAK_OFF) == (b"\x05", b"\x06")
