"""socket://: bytes over TCP. Against real sockets on the loop-back interface."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hilbridge.hal.socket_line import SocketLine, open_socket_line
from hilbridge.model.errors import DeviceGone, DeviceNotFound, DeviceTimeout, DeviceUnsupported
from hilbridge.model.hardware import CAUSE_RX, Line
from tests.hal.halkit import PATIENCE, SETTINGS, TOP, FakePin, collect, descriptors, hear, is_readable, say


class Far:
    """A server, a line that is connected to it, and the far end of that connection."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE)
        self.url = f"socket://127.0.0.1:{self.server.getsockname()[1]}"
        self.line = open_socket_line(self.url, SETTINGS)
        self.end = self.server.accept()[0]

    def hear(self, count: int) -> bytes:
        return collect(self.end.fileno(), self.end.recv, count)

    def reset(self) -> None:
        """Close so that the connection is reset instead of ended."""
        self.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end.close()

    def close(self) -> None:
        self.line.close()
        self.end.close()
        self.server.close()


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.close()


def test_it_is_a_line(far: Far, pin: FakePin) -> None:
    line: Line = far.line
    assert line.name == far.url
    assert line.has_modem_lines is False
    assert line.asserted() is False
    line.enable_interrupts(CAUSE_RX)
    assert line.causes() == 0
    line.connect(pin)
    line.enable_interrupts(CAUSE_RX)
    assert pin.enabled == [CAUSE_RX]
    pin.raise_line(CAUSE_RX)
    assert line.causes() == CAUSE_RX


def test_bytes_go_both_ways(far: Far) -> None:
    everything = bytes(range(256))
    assert far.line.read(10) == b""
    far.end.sendall(everything)
    assert hear(far.line, 256) == everything
    assert far.line.read(0) == b""
    say(far.line, everything)
    assert far.hear(256) == everything


def test_small_writes_are_sent_at_once_and_a_dead_host_is_noticed(far: Far) -> None:
    with socket.socket(fileno=os.dup(far.line.fileno())) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert os.get_inheritable(far.line.fileno()) is False


def test_a_far_end_that_does_not_read_stops_us_without_blocking(far: Far) -> None:
    block = os.urandom(1 << 20)
    poll = select.poll()
    poll.register(far.line.fileno(), select.POLLOUT)
    sent = bytearray()
    while (count := far.line.write(memoryview(block))) or poll.poll(200):
        sent += block[:count]
    assert far.line.output_waiting() > 0
    assert far.hear(len(sent)) == sent
    assert poll.poll(PATIENCE * 1000)


def test_discard_takes_what_has_arrived(far: Far) -> None:
    far.end.sendall(b"old")
    assert is_readable(far.line.fileno())
    far.line.discard(tx=True)
    far.line.discard(rx=True)
    assert far.line.read(10) == b""
    far.end.sendall(b"new")
    assert hear(far.line, 3) == b"new"


def test_settings_are_the_far_ends_business_but_must_be_possible(far: Far) -> None:
    settings = replace(SETTINGS, baudrate=9600, parity="E")
    far.line.configure(settings)
    assert far.line.settings == settings
    with pytest.raises(DeviceUnsupported, match="baudrate 0 is impossible"):
        far.line.configure(replace(SETTINGS, baudrate=0))
    with pytest.raises(DeviceUnsupported, match="parity"):
        open_socket_line(far.url, replace(SETTINGS, parity="X"))


def test_there_are_no_modem_lines(far: Far) -> None:
    for call in (far.line.modem_status, lambda: far.line.set_modem_control(dtr=True), lambda: far.line.set_break(True)):
        with pytest.raises(DeviceUnsupported, match="a socket carries bytes only; try rfc2217://"):
            call()


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_the_last_words_come_first(far: Far, ending: str) -> None:
    far.end.sendall(b"123")
    assert is_readable(far.line.fileno())
    getattr(far.end if ending == "close" else far, ending)()
    poll = select.poll()
    poll.register(far.line.fileno(), select.POLLRDHUP)
    assert poll.poll(PATIENCE * 1000)
    assert far.line.read(2) == b"12"
    assert far.line.read(100) == b"3"
    for _ in range(2):
        with pytest.raises(DeviceGone):
            far.line.read(100)


def test_a_write_to_nobody(far: Far) -> None:
    far.reset()
    poll = select.poll()
    poll.register(far.line.fileno(), 0)
    assert poll.poll(PATIENCE * 1000)
    for _ in range(2):
        with pytest.raises(DeviceGone, match="cannot write to"):
            far.line.write(b"hello?")


def test_a_write_to_nobody_does_not_kill_a_program_that_dies_of_sigpipe() -> None:
    script = (
        "import signal, socket, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "from hilbridge.hal.socket_line import open_socket_line\n"
        "from hilbridge.model.hardware import LineSettings\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "line = open_socket_line('socket://127.0.0.1:%d' % server.getsockname()[1], LineSettings())\n"
        "server.accept()[0].close()\n"
        "try:\n"
        "    while True: line.write(b'hello?')\n"
        "except ConnectionError: print('survived')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=TOP, stdout=subprocess.PIPE, timeout=30, check=False)
    assert done.returncode != -signal.SIGPIPE
    assert done.stdout == b"survived\n"


def test_what_was_written_arrives_although_the_line_is_closed_with_unread_bytes(far: Far) -> None:
    far.end.sendall(b"never read")
    assert is_readable(far.line.fileno())
    say(far.line, b"power off\n")
    far.line.close()
    assert far.hear(10) == b"power off\n"
    assert far.end.recv(1) == b"", "ended, not reset"


def test_after_the_close(far: Far) -> None:
    far.line.close()
    far.line.close()
    assert far.line.fileno() == -1
    for call in (
        lambda: far.line.read(1),
        lambda: far.line.write(b"x"),
        far.line.output_waiting,
        lambda: far.line.discard(rx=True),
        lambda: far.line.configure(SETTINGS),
    ):
        with pytest.raises(DeviceGone):
            call()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    before = descriptors()
    with pytest.raises(DeviceNotFound, match=rf"cannot open socket://127.0.0.1:{port}: Connection refused") as caught:
        open_socket_line(f"socket://127.0.0.1:{port}", SETTINGS)
    assert caught.value.exit_code == 4
    assert descriptors() == before


def test_an_unknown_host() -> None:
    # RFC 6761: names under .invalid do not exist, and resolvers know it.
    with pytest.raises((DeviceNotFound, DeviceTimeout), match=r"cannot open socket://board.invalid:4000"):
        open_socket_line("socket://board.invalid:4000", SETTINGS)


def test_a_host_that_does_not_answer_has_a_deadline() -> None:
    # A listener whose queue is full: the kernel drops further connection requests, as a firewall would.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                waiting.append(client)
            started = time.monotonic()
            with pytest.raises(DeviceTimeout, match="no answer in time") as caught:
                open_socket_line(f"socket://127.0.0.1:{port}", SETTINGS, timeout=0.2)
            assert time.monotonic() - started < 5
            assert caught.value.exit_code == 8
        finally:
            for client in waiting:
                client.close()


def test_a_name_with_several_addresses_finds_the_one_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = open_socket_line(f"socket://localhost:{server.getsockname()[1]}", SETTINGS)
        line.close()


@pytest.mark.parametrize("how", ["after_fork_in_child", "close"])
def test_a_forked_child_cannot_harm_the_parents_connection(far: Far, how: str) -> None:
    far.end.sendall(b"for the parent")
    assert is_readable(far.line.fileno())
    pid = os.fork()
    if pid == 0:
        getattr(far.line, how)()
        os._exit(0 if far.line.fileno() == -1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert hear(far.line, 14) == b"for the parent"
    say(far.line, b"still here")
    assert far.hear(10) == b"still here"


def test_its_repr_names_it(far: Far) -> None:
    assert isinstance(far.line, SocketLine)
    assert far.url in repr(far.line)
