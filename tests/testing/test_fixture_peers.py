"""What each kind of fixture does at its port: on real ptys, in processes of their own."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from pathlib import Path

import pytest

from hilbridge.files.board import load_board
from hilbridge.files.fixture import MAX_BYTES
from hilbridge.model.errors import DeviceTimeout, UsageFault
from hilbridge.testing.fixture import start_fixture
from hilbridge.testing.peers.board import BoardPeer
from hilbridge.testing.peers.source import source_data
from tests.testing.port_client import LONG, SHORT, board_file, client, ends, process_handle

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop

# ------------------------------------------------------------------------------------------------------------- echo


def test_the_echo_sends_every_byte_back_as_it_came() -> None:
    everything = bytes(range(256))
    with start_fixture("echo") as echo, client(echo.port) as port:
        port.write(everything)
        assert port.read(256) == everything
        assert port.hears_nothing()
        assert echo.kind == "echo"
        assert echo.ports == echo.nodes
        assert echo.port.startswith("/dev/pts/")


def test_the_echo_loses_nothing_of_a_flood() -> None:
    data = source_data(300_000, 0)
    with start_fixture("echo") as echo, client(echo.port) as port:
        poll = select.poll()
        sent = 0
        back = b""
        deadline = time.monotonic() + LONG
        while len(back) < len(data):
            assert time.monotonic() < deadline
            poll.register(port.fd, select.POLLIN | (select.POLLOUT if sent < len(data) else 0))
            for _, events in poll.poll(1000):
                if events & select.POLLIN:
                    back += os.read(port.fd, 65536)
                if events & select.POLLOUT:
                    sent += os.write(port.fd, data[sent : sent + 1000])
        assert back == data


def test_clients_come_and_go() -> None:
    with start_fixture("echo") as echo:
        for number in range(5):
            with client(echo.port) as port:
                port.write(b"%d" % number)
                assert port.read(1) == b"%d" % number
        with client(echo.port) as first, client(echo.port) as second:
            first.write(b"x")
            assert second.read(1) == b"x"  # a port that two share gives its bytes to whoever reads: it is one port


def test_the_port_is_raw_before_anybody_opens_it() -> None:
    with start_fixture("echo") as echo:
        fd = os.open(echo.port, os.O_RDWR | os.O_NOCTTY)
        try:
            flags = termios.tcgetattr(fd)
        finally:
            os.close(fd)
        assert not flags[tty.LFLAG] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert not flags[tty.OFLAG] & termios.OPOST


def test_an_echo_says_what_it_is_told_to() -> None:
    with start_fixture("echo") as echo, client(echo.port) as port:
        echo.say("gr\u00fc\u00df\n")
        assert port.read(7) == "gr\u00fc\u00df\n".encode()
        echo.say(b"\x00\xff")
        assert port.read(2) == b"\x00\xff"


@pytest.mark.parametrize("reads", [True, False])
def test_an_echo_hangs_up_whatever_its_thread_waits_for(reads: bool) -> None:
    """It waits in read() when the client is quiet, and in write() when the client writes and does not read."""
    with start_fixture("echo") as echo, client(echo.port) as port:
        if reads:
            port.write(b"abc")
            assert port.read(3) == b"abc"
        else:
            poll = select.poll()
            poll.register(port.fd, select.POLLOUT)
            while poll.poll(SHORT * 1000):  # until neither direction takes any more
                try:
                    os.write(port.fd, b"x" * 4096)
                except BlockingIOError:
                    break
        echo.hang_up()
        assert port.sees_hangup()
        echo.hang_up()  # twice is as good as once
        with pytest.raises(UsageFault, match="the port was unplugged"):
            echo.say("hello")


def test_an_echo_whose_client_does_not_read_stops_all_the_same() -> None:
    with start_fixture("echo") as echo, client(echo.port) as port:
        try:
            while True:
                os.write(port.fd, b"x" * 4096)
        except BlockingIOError:
            pass
        with process_handle(echo.pid) as process:
            echo.stop()
            assert ends(process)


# ------------------------------------------------------------------------------------------------------------ boards


def test_a_boot_is_stopped_and_a_command_answered() -> None:
    with start_fixture("boards/demo", held=True) as demo, client(demo.port) as port:
        assert port.hears_nothing()
        demo.reset()
        banner = port.until(rb"autoboot:  2 ")
        assert banner.startswith(b"\r\nBoot ROM v3\r\n")  # from the first byte
        port.write(b" ")
        port.until(rb"=> ")
        port.write(b"version\r")
        assert port.until(rb"=> ") == (
            b"version\r\nHILBoot 2026.10 (hilbridge demo board)\r\nbuilt with no compiler at all\r\n=> "
        )
        port.write(b"reset\r")
        assert b"Boot ROM v3" in port.until(rb"autoboot:  2 ")
        assert demo.kind == "board"


def test_what_a_board_says_before_anybody_listens_is_kept() -> None:
    with start_fixture("boards/demo") as demo, client(demo.port) as port:
        assert port.until(rb"autoboot:  2 ").startswith(b"\r\nBoot ROM v3\r\n")


def test_the_story_board_answers_in_one_piece() -> None:
    with start_fixture("boards/story") as story, client(story.port) as port:
        for _ in range(20):
            port.write(b"id\n")
            assert port._poll.poll(LONG * 1000)
            assert os.read(port.fd, 100) == b"HILBRIDGE-BOARD-1"
        assert port.hears_nothing()


def test_delays_take_their_time(tmp_path: Path) -> None:
    file = board_file(
        tmp_path, "echo: false\ncommands: [{command: slow, delay_ms: 60, answer: x}, {command: now, answer: y}]\n"
    )
    with start_fixture(file) as slow, client(slow.port) as port:
        begin = time.monotonic()
        port.write(b"slow\nnow\n")
        assert port.read(2) == b"xy"
        assert time.monotonic() - begin >= 0.06


def test_a_board_loses_nothing_of_a_flood(tmp_path: Path) -> None:
    """It answers every line, though it is given lines faster than its answers are read."""
    file = board_file(tmp_path, "echo: false\ncommands: [{match: '(\\d+)', answer: '<{1}>'}]\n")
    questions = b"".join(b"%d\n" % number for number in range(20_000))
    answers = b"".join(b"<%d>" % number for number in range(20_000))
    with start_fixture(file) as flooded, client(flooded.port) as port:
        poll = select.poll()
        sent = 0
        back = b""
        deadline = time.monotonic() + LONG
        while len(back) < len(answers):
            assert time.monotonic() < deadline
            full = sent == len(questions)
            poll.register(port.fd, select.POLLIN if full else select.POLLOUT)
            ready = poll.poll(LONG * 1000 if full else SHORT * 1000)
            if ready and not full:
                sent += os.write(port.fd, questions[sent : sent + 4096])
            else:  # it does not take any more: now its answers are read
                back += os.read(port.fd, 65536)
        assert back == answers


@pytest.mark.parametrize("question", [b"id\n", b"busy\n"])
def test_a_board_that_cannot_follow_stops_listening(question: bytes, tmp_path: Path) -> None:
    """Because nobody reads its answers, or because it is busy: it keeps a bounded amount, and the port is full."""
    file = board_file(
        tmp_path, "echo: false\ncommands: [{command: id, answer: '12345'}, {command: busy, delay_ms: 600000}]\n"
    )
    with start_fixture(file) as slow, client(slow.port) as port:
        poll = select.poll()
        poll.register(port.fd, select.POLLOUT)
        sent = 0
        while sent < 4_000_000 and poll.poll(500):
            sent += os.write(port.fd, question * 1000)
        assert sent < 400_000


def test_the_time_that_a_board_stood_still_does_not_count(tmp_path: Path) -> None:
    """The loop's calls made by hand, at times that were chosen."""
    second = 1_000_000_000
    file = board_file(
        tmp_path, "echo: false\ncommands: [{match: '(x+)', answer: '{1}'}, {command: slow, delay_ms: 100}]\n"
    )
    peer = BoardPeer(load_board(file))
    try:
        with client(peer.nodes[0]) as port:
            begin = time.monotonic_ns()
            peer.received((b"x" * 1000 + b"\n") * 100 + b"slow\n", begin)
            assert peer.backlog > 0
            assert peer.deadline(begin) is None
            (master,) = peer.watched()
            assert peer.watched()[master] == select.POLLOUT
            peer.work(begin)  # from here on the line is full
            peer.work(begin + second)
            received = 0
            while received < 100_000:
                received += len(port.read(1))
                received += len(os.read(port.fd, 65536))
                peer.flush()
            peer.work(begin + 2 * second)
            assert peer.backlog == 0
            assert peer.deadline(begin + 2 * second) == begin + 2 * second + second // 10
            assert peer.watched()[master] == select.POLLIN
    finally:
        peer.close()


def test_a_board_whose_line_is_full_waits(tmp_path: Path) -> None:
    """Nothing is lost, and its time stands still, as firmware stands still in putc()."""
    file = board_file(
        tmp_path,
        "echo: false\ncommands:\n  - command: go\n    lines:\n"
        + "".join(f"      - '{number:099d}'\n" for number in range(1000))
        + "  - {command: slow, delay_ms: 150, answer: slow}\n",
    )
    with start_fixture(file) as full, client(full.port) as port:
        port.write(b"go\nslow\n")
        expected = b"".join(b"%099d\r\n" % number for number in range(1000))
        assert port.read(1) == expected[:1]
        with pytest.raises(DeviceTimeout, match="no answer in time"):
            full.control('say "late"', timeout=0.3)  # queued behind 100 kB that nobody reads
        begin = time.monotonic()
        assert port.read(len(expected) - 1) == expected[1:]
        assert port.read(8) == b"lateslow"
        assert time.monotonic() - begin > 0.14  # the command's 150 ms had not run out while the board stood still
        with pytest.raises(UsageFault):
            full.control("reboot")  # the late reply of the control line before is not taken for this one's


def test_a_client_that_left_finds_the_board_as_it_was(tmp_path: Path) -> None:
    file = board_file(tmp_path, "prompt: '> '\ncommands: [{command: id, answer: \"X\\n\"}]\n")
    with start_fixture(file) as patient:
        with client(patient.port) as port:
            port.read(2)
            port.write(b"i")
            assert port.read(1) == b"i"
        with client(patient.port) as port:
            port.write(b"d\r")
            assert port.until(rb"> ") == b"d\r\nX\r\n> "


def test_unplugging_a_board() -> None:
    with start_fixture("boards/demo") as demo, client(demo.port) as port:
        port.until(rb"autoboot:  2 ")
        demo.hang_up()
        assert port.sees_hangup()
        for line in ("reset", 'say "x"'):
            with pytest.raises(UsageFault, match="the port was unplugged"):
                demo.control(line)
        demo.hang_up()
    with pytest.raises(FileNotFoundError):
        Path(demo.port).stat()


# ------------------------------------------------------------------------------------------------------------ source


@pytest.mark.parametrize(("count", "line_length"), [(1, 64), (64, 64), (100_000, 64), (1000, 4), (300_000, 0)])
def test_a_source_sends_what_anybody_can_compute(count: int, line_length: int) -> None:
    with start_fixture("source") as source, client(source.port) as port:
        assert port.hears_nothing()
        for _ in range(2):
            source.produce(count, line_length=line_length)
            assert port.read(count) == source_data(count, line_length)
        assert port.hears_nothing()


def test_a_source_uses_its_file_and_can_be_stopped(tmp_path: Path) -> None:
    file = tmp_path / "source.yaml"
    file.write_text("schema: 1\nkind: source\nbytes: 400000\nline_length: 10\n")
    with start_fixture(file) as source, client(source.port) as port:
        source.control("say {}")
        assert port.read(400_000) == source_data(400_000, 10)
        source.control("say {}")
        source.reset()
        left = 0
        while not port.hears_nothing():
            left += len(os.read(port.fd, 65536))
        assert 0 < left < 400_000  # what the pty had taken before


def test_source_data() -> None:
    assert source_data(12, 4) == b"000\n001\n002\n"
    assert source_data(10, 4) == b"000\n001\n00"
    assert source_data(1, 1) == b"\n"
    assert source_data(258, 0) == bytes(range(256)) + b"\0\1"
    for total, line_length in [(0, 64), (MAX_BYTES + 1, 64), (10, -1), (10, 65537), (100_000, 4), (2, 1)]:
        with pytest.raises(UsageFault):
            source_data(total, line_length)
