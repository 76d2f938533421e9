"""The console against a scripted device on a virtual clock: no test waits, and every time-out is exact."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from hilbridge.bridge.console import Console, ConsoleHandle
from hilbridge.bridge.expect import ExpectMismatch, ExpectTimeout
from hilbridge.model.errors import DeviceGone, DeviceTimeout, InternalFault, UsageFault
from hilbridge.model.status import STATUS_DEVICE_NOT_CONNECTED, STATUS_DEVICE_REMOVED
from tests.bridge.consolekit import Device, Shell


def test_the_fake_is_a_handle() -> None:
    handle: ConsoleHandle = Device()
    assert handle.name == "COM7"


# --------------------------------------------------------------------------------------------------------------- expect


def test_expect_returns_at_the_first_match_and_keeps_the_rest() -> None:
    device = Device((1, b"U-Boot 2023"), (2, b".01\r\nHit any key: 3"), (9, b"!"))
    con = Console(device)
    match = con.expect(r"U-Boot (\d+)\.(\d+)")
    assert device.now() == 102.0
    assert (match.index, match.text, match.before, match.groups()) == (0, "U-Boot 2023.01", "", ("2023", "01"))
    assert (con.before, con.after, con.buffer) == ("", "U-Boot 2023.01", "\r\nHit any key: 3")
    assert con.match is match
    assert con.scanned > 0


def test_of_a_list_the_index_says_which_came() -> None:
    device = Device((0.5, b"... login: "))
    assert Console(device).expect(["panic", re.compile("LOGIN: ", re.IGNORECASE)]).index == 1


def test_expect_exact_means_every_character() -> None:
    con = Console(Device((0.1, b"a+b (c)")))
    match = con.expect_exact(["x", "+b ("])
    assert (match.index, match.before, con.buffer) == (1, "a", "c)")


def test_what_is_there_already_needs_no_time() -> None:
    device = Device((0, b"one two three"))
    con = Console(device)
    con.expect_exact("one", timeout=0)
    con.expect_exact("three", timeout=0)
    assert con.before == " two "
    assert device.now() == 100.0
    assert device.reads == [0.0]


def test_a_time_out_is_a_deadline_over_the_whole_call() -> None:
    device = Device(*((0.4 * i, b".") for i in range(1, 100)))
    with pytest.raises(ExpectTimeout):
        Console(device).expect("never", timeout=2)
    assert device.now() == pytest.approx(102.0)


def test_a_device_that_talks_without_end_does_not_move_the_deadline() -> None:
    device = Device(*((0, b"x" * 1000) for _ in range(1000)))
    con = Console(device)
    with pytest.raises(ExpectTimeout):
        con.expect("never", timeout=0)
    assert len(device.reads) == 1


def test_a_time_out_says_what_was_expected_how_long_and_what_came_last() -> None:
    lines = "".join(f"line {i}\r\n" for i in range(50))
    con = Console(Device((1, lines.encode() + b"\x1b[1mlogin")))
    with pytest.raises(ExpectTimeout) as caught:
        con.expect(["login: ", r"\$ "], timeout=2.5)
    error = caught.value
    assert str(error) == (
        "COM7: any of 'login: ', '\\\\$ ' did not come within 2.5 s; "
        "received last: ...'line 46\\r\\nline 47\\r\\nline 48\\r\\nline 49\\r\\n\\x1b[1mlogin'"
    )
    assert isinstance(error, DeviceTimeout)
    assert isinstance(error, TimeoutError)
    assert error.waited == 2.5
    assert error.expected == "any of 'login: ', '\\\\$ '"
    assert error.partial == lines.encode() + b"\x1b[1mlogin"
    assert error.exit_code == 8
    assert (con.before, con.after, con.match) == (lines + "\x1b[1mlogin", None, None)


def test_a_time_out_says_whether_anything_came_at_all() -> None:
    device = Device()
    con = Console(device)
    with pytest.raises(ExpectTimeout, match="nothing was received: check power, wiring, port and baud rate"):
        con.expect("x", timeout=1)
    device.say((0, b"x"))
    con.expect("x", timeout=0)
    with pytest.raises(ExpectTimeout, match="nothing was received since the last match"):
        con.expect("x", timeout=1)


def test_a_time_out_mentions_the_window_where_it_may_be_the_reason() -> None:
    device = Device(*((0.1, b"<" + b"." * 30) for _ in range(9)), (1, b">"))
    con = Console(device, window=100)
    with pytest.raises(ExpectTimeout, match="a match of more than 100 characters needs a larger window="):
        con.expect("<<.*>", timeout=2)
    with pytest.raises(ExpectTimeout) as caught:
        con.expect_exact("<<", timeout=2)
    assert "window" not in str(caught.value)


def test_nothing_is_lost_in_a_time_out() -> None:
    device = Device((1, b"Starting kern"), (3, b"el ...\n"))
    con = Console(device)
    with pytest.raises(ExpectTimeout):
        con.expect("kernel", timeout=2)
    match = con.expect("kernel", timeout=2)
    assert match.before == "Starting "
    assert con.buffer == " ...\n"


def test_without_a_deadline_it_waits_as_long_as_it_takes() -> None:
    device = Device((1e6, b"at last"))
    Console(device).expect("last", timeout=None)
    assert device.reads == [None]


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_time_out_is_refused(timeout: float) -> None:
    con = Console(Device(), prompt="> ")
    calls: list[Callable[[], object]] = [
        lambda: con.expect("x", timeout=timeout),
        lambda: con.send("x", timeout=timeout),
        lambda: con.command("x", timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(UsageFault, match="timeout"):
            call()


def test_a_refused_pattern_reads_nothing() -> None:
    device = Device((0, b"abc"))
    con = Console(device)
    with pytest.raises(UsageFault):
        con.expect("a*")
    with pytest.raises(UsageFault):
        con.expect("a", not_matching="")
    assert device.reads == []


# --------------------------------------------------------------------------------------------------------- not_matching


def test_not_matching_fails_at_once_and_says_what_came() -> None:
    device = Device((1, b"Starting\r\nKernel panic - not syncing\r\nlogin: "))
    con = Console(device)
    with pytest.raises(ExpectMismatch) as caught:
        con.expect("login: ", timeout=60, not_matching=["Oops", r"[Kk]ernel panic - (.*?)\r"])
    error = caught.value
    assert device.now() == 101.0
    assert str(error) == (
        "COM7: '[Kk]ernel panic - (.*?)\\\\r' came instead of 'login: '; "
        "received last: 'Starting\\r\\nKernel panic - not syncing\\r'"
    )
    assert error.exit_code == 1
    assert error.match.index == 2
    assert error.match.group(1) == "not syncing"
    assert error.partial == b"Starting\r\nKernel panic - not syncing\r"
    assert con.after == "Kernel panic - not syncing\r"
    assert con.expect("login: ").before == "\n"


def test_not_matching_that_comes_later_does_not_matter() -> None:
    con = Console(Device((1, b"login: panic")))
    assert con.expect("login: ", not_matching="panic").index == 0
    assert con.buffer == "panic"


def test_not_matching_at_the_same_place_yields_to_what_was_wanted() -> None:
    con = Console(Device((1, b"error 0\n")))
    assert con.expect_exact("error 0", not_matching="error").text == "error 0"


# -------------------------------------------------------------------------------------------------------- a lost device


def test_what_a_device_said_before_it_went_is_searched_first() -> None:
    device = Device((1, b"last "), (2, b"words"))
    device.gone_at = 102.0
    con = Console(device)
    assert con.expect("words").before == "last "
    with pytest.raises(DeviceGone):
        con.expect("more")


def test_bytes_that_come_with_the_news_are_searched_too() -> None:
    device = Device((1, b"last "))
    device.gone_at, device.gone_with = 102.0, b"words"
    assert Console(device).expect("words").before == "last "


def test_a_lost_device_is_reported_with_what_it_said() -> None:
    device = Device((1, b"brown"), (2, b"-out\r\n\xe2\x82"))
    device.gone_at = 103.0
    con = Console(device)
    with pytest.raises(DeviceGone) as caught:
        con.expect("login: ")
    error = caught.value
    assert str(error) == (
        "COM7 went away while 'login: ' was expected: unplugged; received last: 'brown-out\\r\\n\ufffd'"
    )
    assert error.partial == b"brown-out\r\n\xe2\x82"
    assert error.status == STATUS_DEVICE_REMOVED != STATUS_DEVICE_NOT_CONNECTED
    assert error.irp_id == 0x1002
    assert (con.before, con.after, con.match) == ("brown-out\r\n\ufffd", None, None)
    assert device.now() == 103.0


def test_a_device_that_comes_back_is_read_on() -> None:
    device = Device()
    device.gone_at = 101.0
    con = Console(device)
    with pytest.raises(DeviceGone):
        con.expect("banner")
    device.gone_at = None
    device.say((1, b"banner"))
    con.expect("banner")


def test_a_handle_that_returns_nothing_is_called_wrong() -> None:
    with pytest.raises(InternalFault, match="no bytes and no error"):
        Console(Device((0, b""))).expect("x")


# ------------------------------------------------------------------------------------------------------- text and bytes


def test_a_character_may_be_split_over_reads() -> None:
    device = Device(*((0.1 * i, bytes([byte])) for i, byte in enumerate("Temp: 21 °C €\n".encode())))
    match = Console(device).expect(r"(\d+) (°C) €")
    assert match.groups() == ("21", "°C")


def test_noise_becomes_replacement_characters_and_stays_in_partial() -> None:
    con = Console(Device((0, b"\xff\xfe?\x80")))
    with pytest.raises(ExpectTimeout) as caught:
        con.expect("login", timeout=1)
    assert con.buffer == "\ufffd\ufffd?\ufffd"
    assert caught.value.partial == b"\xff\xfe?\x80"


def test_without_an_encoding_everything_is_bytes() -> None:
    device = Device((0, b"\x00\xffOK"), answer=Shell({"at": "OK\r\n"}, prompt="> "))
    con = Console(device, encoding=None, prompt=b"> ")
    match = con.expect([rb"O(.)", b"ERROR"])
    assert (match.before, match.group(1), con.after) == (b"\x00\xff", b"K", b"OK")
    assert con.sendline(b"at") == 3
    assert con.expect_exact(b"> ").before == b"at\r\nOK\r\n"
    assert con.command(b"at") == b"OK"
    assert con.leftover == b""
    with pytest.raises(UsageFault, match="type bytes"):
        con.expect("text")  # type: ignore[arg-type]
    with pytest.raises(UsageFault, match="speaks bytes"):
        con.send("text")  # type: ignore[arg-type]
    with pytest.raises(UsageFault, match="speaks bytes"):
        con.command("text")  # type: ignore[arg-type]


def test_another_encoding() -> None:
    device = Device((0, "größe\n".encode("latin-1")))
    con = Console(device, encoding="latin-1")
    con.expect("größe")
    con.send("ä")
    assert device.sent == b"\xe4"
    with pytest.raises(UsageFault, match="cannot be sent as latin-1"):
        con.send("€")


# ----------------------------------------------------------------------------------------------------------------- send


def test_send_and_sendline() -> None:
    device = Device()
    con = Console(device, newline="\r\n")
    assert con.send("é") == 2
    assert con.sendline("run") == 5
    assert con.sendline() == 2
    assert device.sent == "érun\r\n\r\n".encode()


def test_a_device_that_takes_a_little_at_a_time_gets_everything() -> None:
    device = Device()
    device.accepts = 3
    assert Console(device).sendline("0123456789") == 11
    assert device.sent == b"0123456789\n"
