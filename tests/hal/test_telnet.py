"""Telnet's escapes, however the stream is cut; pyserial's own filter is the second opinion."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serial.rfc2217 import PortManager

from hilbridge.hal.telnet import DO, DONT, IAC, MAX_SUBNEGOTIATION, SB, SE, WILL, WONT, TelnetFilter


class Heard:
    """A filter and all that it calls back."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.filter = TelnetFilter(
            lambda verb, option: self.events.append(("negotiate", (verb, option))),
            lambda option: self.events.append(("subnegotiate", option)),
            lambda command: self.events.append(("other", command)),
        )


def through(*pieces: bytes) -> tuple[bytes, list[tuple[str, object]]]:
    heard = Heard()
    return b"".join(heard.filter.feed(piece) for piece in pieces), heard.events


@pytest.mark.parametrize(
    ("stream", "data", "events"),
    [
        (b"", b"", []),
        (b"plain", b"plain", []),
        (b"a\xff\xffb", b"a\xffb", []),
        (b"\xff\xff\xff\xff", b"\xff\xff", []),
        (bytes([IAC, DO, 44]) + b"x", b"x", [("negotiate", (DO, 44))]),
        (bytes([IAC, WILL, IAC]) + b"x", b"x", [("negotiate", (WILL, IAC))]),
        (b"a" + bytes([IAC, SB, 44, 107, IAC, IAC, IAC, SE]) + b"b", b"ab", [("subnegotiate", b"\x2c\x6b\xff")]),
        (b"a" + bytes([IAC, 0xF1]) + b"b", b"ab", [("other", 0xF1)]),
        (bytes([IAC, SE]) + b"b", b"b", []),
        (bytes([IAC, SB, 1, IAC, SB, 2, IAC, SE]), b"", [("subnegotiate", b"\x02")]),
        (bytes([IAC, SB, 1, IAC, WONT, 3, 2, IAC, SE]), b"", [("negotiate", (WONT, 3)), ("subnegotiate", b"\x01\x02")]),
    ],
)
def test_streams_whole_and_byte_by_byte(stream: bytes, data: bytes, events: list[tuple[str, object]]) -> None:
    assert through(stream) == (data, events)
    assert through(*(stream[i : i + 1] for i in range(len(stream)))) == (data, events)


def test_a_subnegotiation_without_an_end_takes_no_memory() -> None:
    heard = Heard()
    heard.filter.feed(bytes([IAC, SB]))
    for _ in range(100):
        assert heard.filter.feed(bytes(1000)) == b""
    heard.filter.feed(bytes([IAC, SE]))
    assert heard.events == [("subnegotiate", bytes(MAX_SUBNEGOTIATION))]
    assert heard.filter.feed(b"data again") == b"data again"


class Recorder(PortManager):
    """pyserial's filter, with its callbacks recorded instead of acted upon."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        itself: Any = self  # the "connection", too: what it would send does not matter here
        super().__init__(itself, itself)

    def write(self, data: bytes) -> None:
        pass

    def _telnet_negotiate_option(self, command: bytes, option: bytes) -> None:
        self.events.append(("negotiate", (command[0], option[0])))

    def _telnet_process_subnegotiation(self, suboption: bytes) -> None:
        self.events.append(("subnegotiate", suboption))

    def _telnet_process_command(self, command: bytes) -> None:
        self.events.append(("other", command[0]))


# Streams of which many bytes matter to the filter, and that end no subnegotiation that was not begun: pyserial dies of that.
COMMANDS = st.sampled_from([bytes([IAC, verb, option]) for verb in (DO, DONT, WILL, WONT) for option in (0, 44, 255)])
DATA = st.binary(max_size=8).map(lambda data: data.replace(b"\xff", b"\xff\xff"))
OPTIONS = DATA.map(lambda data: bytes([IAC, SB]) + data + bytes([IAC, SE]))
OTHERS = st.integers(0xF1, 0xF9).map(lambda command: bytes([IAC, command]))
STREAMS = st.lists(st.one_of(COMMANDS, DATA, OPTIONS, OTHERS), max_size=12).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 100), max_size=8))
def test_pyserials_filter_agrees(stream: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(ends)]
    second = Recorder()
    expected = b"".join(second.filter(stream))
    assert through(*pieces) == (expected, second.events)
