"""The console against a scripted device on a virtual clock: no test waits, and every time-out is exact."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.bridge.console import ECHO_GRACE, SETTLE, Console, ConsoleHandle
from hilbridge.bridge.expect import ExpectMismatch, ExpectTimeout
from hilbridge.model.errors import DeviceGone, DeviceTimeout, InternalFault, UsageFault
from hilbridge.model.status import STATUS_DEVICE_NOT_CONNECTED, STATUS_DEVICE_REMOVED

Says = Iterable[tuple[float, bytes]]


class Device:
    """An open device whose other end says what a script tells it to, when it tells it to. Time passes only in waits."""

    name = "COM7"

    def __init__(self, *says: tuple[float, bytes], answer: Callable[[bytes], Says] | None = None) -> None:
        self.time = 100.0
        self.sent = b""
        self.accepts = 1 << 30  # bytes per write
        self.gone_at: float | None = None
        self.gone_with = b""
        self.reads: list[float | None] = []
        self._answer = answer
        self._script: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.say(*says)

    def say(self, *says: tuple[float, bytes]) -> None:
        """Each: seconds from now, and the bytes that come then in one piece."""
        for delay, data in says:
            self._count += 1
            heapq.heappush(self._script, (self.time + delay, self._count, data))

    def now(self) -> float:
        return self.time

    def read_some(self, limit: int, /, *, timeout: float | None) -> bytes:
        self.reads.append(timeout)
        assert timeout is None or timeout >= 0
        deadline = float("inf") if timeout is None else self.time + timeout
        ready = self._script[0][0] if self._script else float("inf")
        if ready > deadline or ready == float("inf"):
            if self.gone_at is not None and self.gone_at <= deadline and ready >= self.gone_at:
                self.time = max(self.time, self.gone_at)
                raise DeviceGone("unplugged", status=STATUS_DEVICE_REMOVED, irp_id=0x1002, partial=self.gone_with)
            assert deadline != float("inf"), "this would wait for ever"
            self.time = deadline
            raise DeviceTimeout("nothing came")
        self.time = max(self.time, ready)
        at, count, data = heapq.heappop(self._script)
        if len(data) > limit:
            heapq.heappush(self._script, (at, count, data[limit:]))
        return data[:limit]

    def write(self, data: bytes, /, *, timeout: float | None) -> int:
        assert timeout is None or timeout >= 0
        taken = data[: self.accepts]
        self.sent += taken
        if self._answer is not None:
            self.say(*self._answer(taken))
        return len(taken)


class Shell:
    """What answers at the other end: collects what is typed, echoes it or not, answers lines, shows its prompt."""

    def __init__(
        self,
        answers: dict[str, str],
        *,
        echo: bool = True,
        prompt: str = "=> ",
        delay: float = 0.01,
        size: int = 1 << 30,
        end: str = "\r\n",
    ) -> None:
        self.answers = answers
        self.echo = echo
        self.prompt = prompt
        self.delay = delay
        self.size = size
        self.end = end
        self.typed = ""

    def __call__(self, data: bytes) -> Says:
        out = ""
        for char in data.decode():
            if char in "\r\n":
                out += (self.end if self.echo else "") + self.answers.get(self.typed.strip(), "") + self.prompt
                self.typed = ""
            else:
                self.typed += char
                out += char if self.echo else ""
        raw = out.encode()
        cut = [raw[i : i + self.size] for i in range(0, len(raw), self.size)]
        return [(self.delay * (number + 1), piece) for number, piece in enumerate(cut)]


VERSION = "U-Boot 2023.01 (Jan 09 2023)\r\n\r\ngcc 12.2\r\n"


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


# -------------------------------------------------------------------------------------------------------------- command


def test_a_command_returns_what_came_between() -> None:
    device = Device(answer=Shell({"version": VERSION}))
    con = Console(device, prompt="=> ")
    assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
    assert device.sent == b"version\n"
    assert con.leftover == ""
    assert con.buffer == ""
    assert con.after == "=> "
    assert con.match is not None


@given(
    st.sampled_from(["", "one\r\n", "a => b\r\n", "\r\nx\r\n\r\n", "é€\r\n", "no newline at the end\r\n"]),
    st.integers(1, 12),
    st.booleans(),
)
def test_a_command_does_not_depend_on_the_pieces(answer: str, size: int, echo: bool) -> None:
    con = Console(Device(answer=Shell({"run": answer}, size=size, echo=echo)), prompt="=> ")
    for _ in range(2):
        assert con.command("run") == answer.replace("\r\n", "\n").removesuffix("\n")
        assert (con.leftover, con.buffer) == ("", "")


def test_the_prompt_in_the_middle_of_a_line_does_not_end_a_command() -> None:
    answer = "use a => b\r\nor x=> \r\n  => indented\r\n"
    con = Console(Device(answer=Shell({"help": answer}, size=1)), prompt="=> ")
    assert con.command("help") == "use a => b\nor x=> \n  => indented"


def test_a_compiled_prompt_is_used_as_it_is() -> None:
    prompt = re.compile(r"\x1b\[3\dm\w+@\w+[$#]\x1b\[0m ")
    device = Device(answer=Shell({"id": "uid=0\r\n"}, prompt="\x1b[32mroot@dut#\x1b[0m "))
    assert Console(device, prompt=prompt).command("id") == "uid=0"


def test_the_prompt_can_be_given_with_the_command() -> None:
    device = Device(answer=Shell({"ls": "a\r\n"}, prompt="$ "))
    con = Console(device)
    with pytest.raises(UsageFault, match="must know the prompt"):
        con.command("ls")
    assert device.sent == b""
    assert con.command("ls", prompt="$ ") == "a"


@pytest.mark.parametrize("prompt", ["", re.compile("(x)?")])
def test_an_empty_prompt_is_refused(prompt: str | re.Pattern[str]) -> None:
    with pytest.raises(UsageFault, match="empty"):
        Console(Device(), prompt=prompt)


@pytest.mark.parametrize("line", ["a\nb", "a\r", "\n"])
def test_a_command_is_one_line(line: str) -> None:
    device = Device()
    with pytest.raises(UsageFault, match="more than one line"):
        Console(device, prompt="=> ").command(line)
    assert device.sent == b""


def test_an_empty_command_gives_nothing() -> None:
    con = Console(Device(answer=Shell({})), prompt="=> ")
    assert con.command("") == ""
    assert con.command("unknown") == ""


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n", "\n\r"])
def test_all_line_ends(end: str) -> None:
    con = Console(Device(answer=Shell({"run": f"one{end}"}, size=1, end=end)), prompt="=> ")
    assert con.command("run") == "one"


def test_a_long_run_of_carriage_returns_costs_no_more_than_other_text() -> None:
    bar = "\r" * 600_000  # 2 ms, or minutes if it were quadratic
    con = Console(Device(answer=Shell({"flash": bar + "done\r\n"})), prompt="=> ")
    assert con.command("flash") == bar + "done"


# ---------------------------------------------------------------------------------------------------- command: the echo


def test_without_an_echo_the_first_command_finds_that_out_and_the_others_know() -> None:
    device = Device(answer=Shell({"version": VERSION}, echo=False))
    con = Console(device, prompt="=> ")
    for waited in [0.01 + ECHO_GRACE, 0.01, 0.01]:
        before = device.now()
        assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
        assert device.now() - before == pytest.approx(waited)
        assert con.leftover == ""


def test_echo_false_looks_for_none() -> None:
    device = Device(answer=Shell({"ping": "ping\r\npong\r\n"}, echo=False))
    con = Console(device, prompt="=> ", echo=False)
    assert con.command("ping") == "ping\npong"
    assert device.now() == pytest.approx(100.01)


def test_echo_true_insists() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}, echo=False))
    con = Console(device, prompt="=> ", echo=True)
    with pytest.raises(ExpectTimeout, match="the echo of 'run' did not come within 3 s") as caught:
        con.command("run", timeout=3)
    assert caught.value.partial == b"ok\r\n=> "
    assert con.buffer == "ok\r\n=> "


def test_another_echo_is_refused() -> None:
    with pytest.raises(UsageFault, match="echo="):
        Console(Device(), echo="maybe")  # type: ignore[call-overload]


def test_output_that_repeats_the_command_is_not_the_echo() -> None:
    answer = "run\r\nrun is a command: run\r\nrun\r\n"
    con = Console(Device(answer=Shell({"run": answer}, size=3)), prompt="=> ")
    assert con.command("run") == "run\nrun is a command: run\nrun"


def test_a_line_that_only_ends_in_the_command_is_not_the_echo() -> None:
    answer = "commands:\r\n  help\r\ntry help\r\n"
    con = Console(Device(answer=Shell({"help": answer}, echo=False)), prompt="=> ")
    assert con.command("help") == "commands:\n  help\ntry help"
    assert con.leftover == ""


def test_a_line_that_only_begins_with_the_command_is_not_the_echo() -> None:
    con = Console(Device(answer=Shell({"run": "running\r\nok\r\n"}, echo=False)), prompt="=> ")
    assert con.command("run") == "running\nok"


def test_a_long_answer_without_an_echo_has_only_one_first_line() -> None:
    answer = "commands:\r\n" + "try help\r\n" * 50
    con = Console(Device(answer=Shell({"help": answer}, echo=False, size=5)), prompt="=> ", window=16)
    assert con.command("help") == answer.replace("\r\n", "\n").removesuffix("\n")


def test_a_device_that_echoes_again_gets_its_time_to_echo_again() -> None:
    shell = Shell({"run": "ok\r\n"}, echo=False)
    device = Device(answer=shell)
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    shell.echo = True
    assert con.command("run") == "ok"
    device._answer = lambda _: [(0.01, b"=> "), (0.1, b"run\r\nok\r\n=> ")]
    assert con.command("run") == "ok"


def test_an_empty_command_without_echo_keeps_an_empty_first_line() -> None:
    con = Console(Device(answer=Shell({"": "\r\nx\r\n"}, echo=False)), prompt="=> ", echo=False)
    assert con.command("") == "\nx"


def test_the_time_to_echo_ends_with_the_deadline() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}, echo=False))
    assert Console(device, prompt="=> ").command("run", timeout=0.1) == "ok"
    assert device.now() == pytest.approx(100.1)


def test_a_device_that_stops_and_starts_to_echo() -> None:
    shell = Shell({"run": "ok\r\n"})
    con = Console(Device(answer=shell), prompt="=> ")
    for shell.echo in [True, False, False, True, True]:
        assert con.command("run") == "ok"


# --------------------------------------------------------------------------------------- command: what was there before


def test_what_came_before_a_command_is_left_over_and_visible() -> None:
    device = Device(
        (0, b"[1.0] eth0: link up\r\n=> "), (0, b"[2.0] eth0: link down\r\n"), answer=Shell({"run": "ok\r\n"})
    )
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    assert con.leftover == "[1.0] eth0: link up\r\n=> [2.0] eth0: link down\r\n"
    assert device.now() == pytest.approx(100.01)  # the prompt had been shown: nothing to wait for
    assert con.command("run") == "ok"
    assert con.leftover == ""


def test_an_old_prompt_does_not_end_a_command() -> None:
    """Stopping an autoboot: the prompt that the key brings comes only after command() was called."""
    shell = Shell({"version": VERSION})
    device = Device((1, b"Hit any key to stop autoboot:  2 "), answer=lambda _: [])
    con = Console(device, prompt="=> ")
    con.expect(r"autoboot", timeout=5)
    device._answer = lambda data: [(0.5, b"\x08\x08\x08 0 \r\n=> ")] if data == b" " else shell(data)
    con.send(" ")
    assert con.command("version") == "U-Boot 2023.01 (Jan 09 2023)\n\ngcc 12.2"
    assert device.sent == b" version\n"
    assert con.leftover == ":  2 \x08\x08\x08 0 \r\n=> "
    assert device.now() == pytest.approx(101.51)


def test_a_prompt_that_comes_late_does_not_end_a_command() -> None:
    """A board that is just starting: it reads what was typed ahead when it is up."""
    device = Device((0.7, b"\r\nU-Boot\r\n"), (0.8, b"=> "), (0.82, b"version\r\nU-Boot 2023.01\r\n=> "))
    con = Console(device, prompt="=> ")
    assert con.command("version") == "U-Boot 2023.01"
    assert con.leftover == "\r\nU-Boot\r\n=> "


def test_a_device_that_is_talking_is_waited_for() -> None:
    device = Device(*((0.9 * i, b"booting\r\n") for i in range(5)), (4.2, b"=> "), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    assert con.command("run", timeout=10) == "ok"
    assert device.now() == pytest.approx(104.21)
    assert con.leftover == "booting\r\n" * 5 + "=> "


def test_a_device_that_is_silent_without_a_prompt_gets_the_command_all_the_same() -> None:
    device = Device((0, b"[1.0] eth0: link up\r\n"), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    assert con.leftover == "[1.0] eth0: link up\r\n"
    assert device.now() == pytest.approx(100 + SETTLE + 0.01)


def test_after_send_the_prompt_is_waited_for() -> None:
    device = Device(answer=Shell({"slow": "done\r\n", "run": "ok\r\n"}, delay=0.6))
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"
    con.sendline("slow")
    assert con.command("run") == "ok"
    assert con.leftover == "slow\r\ndone\r\n=> "
    assert device.now() == pytest.approx(101.8)


def test_a_command_is_not_sent_if_the_deadline_comes_before_the_prompt() -> None:
    device = Device()
    con = Console(device, prompt="=> ")
    con.send(" ")
    with pytest.raises(ExpectTimeout, match="was not sent"):
        con.command("run", timeout=0.5)
    assert device.now() == pytest.approx(100.5)
    assert device.sent == b" "


def test_characters_that_were_typed_before_are_part_of_the_echo() -> None:
    device = Device(answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    con.send(" ")
    assert con.command("run") == "ok"
    assert con.command("run") == "ok"
    device.say((0.3, b"=> "))
    con.expect_exact("=> ")
    con.send(" ")
    device.time += 1
    assert con.command("run") == "ok"
    assert con.leftover == " "


def test_a_prompt_that_expect_has_seen_needs_no_wait() -> None:
    device = Device((0, b"login: \r\n=> "), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ")
    con.expect_exact("=> ")
    assert con.command("run") == "ok"
    assert device.now() == pytest.approx(100.01)


def test_a_device_that_never_stops_talking_does_not_get_the_command() -> None:
    device = Device(*((0.5 * i, b"noise\r\n") for i in range(100)), answer=Shell({}))
    con = Console(device, prompt="=> ")
    with pytest.raises(
        ExpectTimeout, match="the command was not sent, because '=> ' at the start of a line did not come"
    ):
        con.command("run", timeout=3)
    assert device.sent == b""
    assert device.now() == pytest.approx(103)
    assert con.buffer == con.before == "noise\r\n" * 7


def test_a_flood_does_not_hold_a_command_up() -> None:
    """It is sent once a scroll-back has been read, however much more is there; the answer comes behind all of it."""
    device = Device(*((0, b"=> \r\n" * 200) for _ in range(20)), answer=Shell({"run": "ok\r\n"}))
    con = Console(device, prompt="=> ", window=100, scrollback=2000)
    reads_before_write: list[int] = []
    write = device.write

    def counting_write(data: bytes, /, *, timeout: float | None) -> int:
        reads_before_write.append(len(device.reads))
        return write(data, timeout=timeout)

    device.write = counting_write  # type: ignore[method-assign]
    assert con.command("run") == "ok"
    assert reads_before_write == [2]
    assert con.leftover.endswith("=> \r\n")
    assert len(con.leftover) <= 2 * (2000 + 100)


# ----------------------------------------------------------------------------------------------- command: when it fails


def test_a_command_without_a_prompt_times_out_and_keeps_the_answer() -> None:
    device = Device(
        answer=lambda data: [(0.1, data.replace(b"\n", b"\r\n")), (0.2, b"working...\r\n"), (6, b"ok\r\n=> ")]
    )
    con = Console(device, prompt="=> ")
    with pytest.raises(ExpectTimeout, match=r"received last: '\\r\\nworking") as caught:
        con.command("run", timeout=5)
    assert caught.value.partial == b"\r\nworking...\r\n"
    assert con.expect_exact("=> ").before == "\r\nworking...\r\nok\r\n"


def test_the_answer_that_comes_too_late_is_left_over_for_the_next() -> None:
    shell = Shell({"slow": "late\r\n", "run": "ok\r\n"}, delay=3)
    con = Console(Device(answer=shell), prompt="=> ")
    with pytest.raises(ExpectTimeout):
        con.command("slow", timeout=1)
    shell.delay = 0.01
    con.expect_exact("late", timeout=5)
    assert con.command("run") == "ok"
    assert con.leftover == "\r\n=> "


def test_the_deadline_of_a_command_includes_all_its_waits() -> None:
    device = Device((0, b"boot\r\n"), (0.9, b"boot\r\n"), answer=lambda _: [])
    with pytest.raises(ExpectTimeout):
        Console(device, prompt="=> ").command("run", timeout=2.5)
    assert device.sent == b"run\n"
    assert device.now() == pytest.approx(102.5)


def test_a_device_that_goes_during_a_command() -> None:
    device = Device(answer=lambda data: [(0.1, b"reset\r\nresetting ...\r\n")])
    device.gone_at = 101.0
    con = Console(device, prompt="=> ")
    with pytest.raises(DeviceGone, match=r"went away while '=> ' at the start of a line was expected") as caught:
        con.command("reset")
    assert caught.value.partial == b"\r\nresetting ...\r\n"


def test_a_device_that_goes_behind_its_prompt_has_answered() -> None:
    device = Device(answer=lambda data: [(0.1, b"ok\r\n=> ")])
    device.gone_at = 100.1
    con = Console(device, prompt="=> ")
    assert con.command("run") == "ok"


def test_a_device_that_went_before_a_command() -> None:
    device = Device((0, b"bye\r\n"))
    device.gone_at = 100.0
    con = Console(device, prompt="=> ")
    with pytest.raises(DeviceGone, match="before a command") as caught:
        con.command("run")
    assert caught.value.partial == b"bye\r\n"
    assert device.sent == b""
    assert con.before == "bye\r\n"


def test_errors_of_the_handle_are_not_changed() -> None:
    class Broken(Device):
        def write(self, data: bytes, /, *, timeout: float | None) -> int:
            raise DeviceTimeout("the peer does not read", partial=b"x")

    con: Any = Console(Broken(), prompt="=> ")
    for call in (con.send, con.sendline, con.command):
        with pytest.raises(DeviceTimeout, match="the peer does not read"):
            call("run")
