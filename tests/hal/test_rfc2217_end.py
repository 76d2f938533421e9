"""How an rfc2217:// line ends, and how it does not begin."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from hilbridge.hal import pump
from hilbridge.hal.pump import open_pumped_line
from hilbridge.hal.rfc2217_line import Rfc2217Line
from hilbridge.model.errors import DeviceGone, DeviceNotFound, DeviceTimeout, DeviceUnsupported
from hilbridge.model.hardware import (
    CAUSE_GONE,
    CAUSE_RX,
    CAUSE_TX,
)
from tests.hal.halkit import PATIENCE, SETTINGS, FakePin, descriptors, hear, is_readable, say
from tests.hal.rfc2217_server import Rfc2217Server, open_it, stuff

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop

# -- the end -----------------------------------------------------------------------------------------------------------


def test_the_last_words_come_first_and_the_news_is_not_lost(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    remote.enable_interrupts(0)
    server.write(b"panic: out of cheese")
    server.hang_up()
    assert is_readable(remote.fileno()), "although all interrupts are disabled"
    assert remote.causes() == CAUSE_GONE
    assert remote.causes() == 0, "told once"
    assert not is_readable(remote.fileno(), 0), "and the descriptor is quiet again"
    assert remote.read(5) == b"panic"
    with pytest.raises(DeviceGone, match="the far end has closed the connection"):
        remote.write(b"x")
    assert remote.read(100) == b": out of cheese"
    for call in (
        lambda: remote.read(1),
        lambda: remote.write(b"x"),
        lambda: remote.configure(replace(SETTINGS, baudrate=9600)),
        lambda: remote.set_break(True),
        lambda: remote.discard(rx=True),
    ):
        with pytest.raises(DeviceGone) as caught:
            call()
        assert caught.value.exit_code == 7


def test_gone_before_anybody_listened(remote: Rfc2217Line, server: Rfc2217Server, pin: FakePin) -> None:
    server.hang_up()
    assert is_readable(remote.fileno())
    remote.connect(pin)
    remote.enable_interrupts(CAUSE_RX | CAUSE_TX)
    assert remote.causes() == CAUSE_GONE
    with pytest.raises(DeviceGone):
        remote.read(1)


def test_a_reset_connection(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    assert server.end is not None
    server.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    server.write(b"bye")
    assert hear(remote, 3) == b"bye"
    server.end.shutdown(socket.SHUT_RD)  # the server sees an end, and closes: with these options that is a reset
    assert is_readable(remote.fileno())
    assert remote.causes() == CAUSE_GONE
    with pytest.raises(DeviceGone, match="Connection reset by peer"):
        remote.read(1)


def test_a_write_that_fails_ends_the_line_after_what_was_received(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.may_hang_up.clear()
    remote.enable_interrupts(0)
    server.write(b"still to be read")
    connection = remote._rfc2217._socket
    assert connection is not None
    connection.shutdown(socket.SHUT_WR)  # the next write of the transmit thread gets EPIPE
    assert remote.write(b"x") == 1
    assert is_readable(remote.fileno())
    assert remote.causes() == CAUSE_GONE
    with pytest.raises(DeviceGone, match="cannot write to"):
        remote.write(b"y")
    assert remote.read(100) == b"still to be read"
    with pytest.raises(DeviceGone, match="cannot write to"):
        remote.read(1)


def test_an_exception_in_the_reader_reaches_the_caller(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    # A SET_CONTROL answer of a length that pyserial's engine does not expect is harmless; this is a bug of "ours".
    def broken(data: bytes) -> bool:
        raise RuntimeError("a bug in the pump")

    remote._rfc2217._receive = broken
    server.port.write(b"x")
    assert is_readable(remote.fileno())
    assert remote.causes() == CAUSE_GONE
    with pytest.raises(DeviceGone, match=r"is lost: .*a bug in the pump") as caught:
        remote.read(1)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_setting_that_waits_when_the_far_end_goes(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.may_read.clear()
    stuff(remote)
    outcome: list[BaseException] = []
    queued = threading.Event()
    command = remote._command

    def noted(work: Any, doing: str) -> Any:
        try:
            return command(work, doing)
        finally:
            queued.set()

    remote._command = noted  # type: ignore[method-assign]

    def configure() -> None:
        try:
            remote.configure(replace(SETTINGS, baudrate=9600))
        except DeviceGone as exc:
            outcome.append(exc)

    waiter = threading.Thread(target=configure)
    waiter.start()
    assert queued.wait(PATIENCE)
    server.hang_up()
    waiter.join(PATIENCE)
    assert len(outcome) == 1
    server.may_read.set()


def test_what_was_accepted_is_sent_before_the_close(server: Rfc2217Server) -> None:
    line = open_it(server)
    heard: list[bytes] = []
    server.port.write = heard.append
    block = bytes(range(256)) * 200
    server.write(b"never read")
    say(line, block)
    line.set_modem_control(dtr=False)
    line.close()
    assert server.idle.wait(PATIENCE)
    assert b"".join(heard) == block
    assert server.port.dtr is False


def test_the_close_is_bounded_when_the_far_end_does_not_read(
    server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "LINGER_SECONDS", 0.2)
    remote = open_it(server)
    server.may_read.clear()
    stuff(remote)
    started = time.monotonic()
    remote.close()
    assert time.monotonic() - started < 2
    assert "bytes unsent, which nobody took" in caplog.text
    server.may_read.set()


def test_close_ends_all_and_twice_is_once(server: Rfc2217Server) -> None:
    before = set(threading.enumerate())
    line = open_it(server)
    assert len(set(threading.enumerate()) - before) == 2
    started = time.monotonic()
    line.close()
    assert time.monotonic() - started < 0.25, "pyserial's own close() sleeps 0.3 s"
    assert set(threading.enumerate()) - before == set()
    assert line.fileno() == -1
    line.close()
    for call in (lambda: line.read(1), lambda: line.write(b"x"), lambda: line.set_break(True)):
        with pytest.raises(DeviceGone, match="was closed; open it again"):
            call()


def test_a_thread_that_does_not_end_is_reported(
    server: Rfc2217Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "JOIN_SECONDS", 0.05)
    remote = open_it(server)
    hold, held = threading.Event(), threading.Event()

    def stuck() -> None:
        held.set()
        hold.wait(PATIENCE)

    remote._command(stuck, "wait")
    assert held.wait(PATIENCE)
    monkeypatch.setattr(pump, "LINGER_SECONDS", 0.05)
    with caplog.at_level(logging.ERROR, "hilbridge.hal"):
        remote.close()
    assert "does not end; it is left behind" in caplog.text
    hold.set()
    remote._transmitter.join(PATIENCE)


# -- opening that fails ------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
    before = descriptors()
    with pytest.raises(DeviceNotFound, match=rf"cannot open {url}: Connection refused; does the far end run") as caught:
        open_pumped_line(url, SETTINGS)
    assert caught.value.exit_code == 4
    assert descriptors() == before


def test_an_unknown_host() -> None:
    with pytest.raises((DeviceNotFound, DeviceTimeout)):
        open_pumped_line("rfc2217://board.invalid:4000", SETTINGS)


def test_not_an_rfc2217_server_and_what_it_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}?timeout=0.3"

        def greet() -> None:
            end = listener.accept()[0]
            end.sendall(b"SSH-2.0-OpenSSH\r\n")
            while end.recv(100):
                pass
            end.close()

        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(
            DeviceUnsupported, match="not as an RFC2217 server; for a plain TCP port use socket://"
        ) as caught:
            open_pumped_line(url, SETTINGS)
        assert caught.value.partial == b"SSH-2.0-OpenSSH\r\n"
        greeter.join(PATIENCE)


def test_a_server_that_hangs_up_at_once_and_what_it_said(server: Rfc2217Server) -> None:
    server.greeting, server.refuse = b"Port already in use\r\n", True
    started = time.monotonic()
    with pytest.raises(
        DeviceGone, match=r"its far end closes the connection .*; does it serve somebody else?"
    ) as caught:
        open_pumped_line(server.url, SETTINGS)
    assert caught.value.partial == b"Port already in use\r\n"
    assert time.monotonic() - started < 1.5, "pyserial would wait for answers for 3 s"


def test_a_request_after_the_end_does_not_wait_for_an_answer(remote: Rfc2217Line, server: Rfc2217Server) -> None:
    server.hang_up()
    assert is_readable(remote.fileno())
    assert remote._rfc2217._reader is not None
    remote._rfc2217._reader.join(PATIENCE)
    with pytest.raises(BrokenPipeError):
        remote._rfc2217.rfc2217_send_purge(b"\x01")


def test_an_option_that_does_not_exist(server: Rfc2217Server) -> None:
    with pytest.raises(DeviceUnsupported, match=r"cannot open .*unknown option: 'speed'"):
        open_pumped_line(f"{server.url}?speed=fast", SETTINGS)


def test_ign_set_control(server: Rfc2217Server) -> None:
    line = open_it(server, "?ign_set_control")
    say(line, b"hello")
    assert hear(line, 5) == b"hello"
    line.close()


def test_a_second_client_after_the_first(server: Rfc2217Server) -> None:
    for _ in range(2):
        line = open_it(server)
        say(line, b"hello")
        assert hear(line, 5) == b"hello"
        line.close()
        assert server.idle.wait(PATIENCE)


def test_a_forked_child_cannot_harm_the_parents_connection(remote: Rfc2217Line) -> None:
    pid = os.fork()
    if pid == 0:
        remote.close()
        remote._rfc2217.close()
        os._exit(0 if remote.fileno() == -1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    say(remote, b"still here")
    assert hear(remote, 10) == b"still here"
