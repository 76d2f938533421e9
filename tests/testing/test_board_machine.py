"""The scripted board on virtual time: no test here takes longer than its bytes."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilbridge.files.board import Board, board_of, load_board
from hilbridge.files.locate import data_dir
from hilbridge.files.yaml12 import parse
from hilbridge.testing.board import MAX_INPUT, MAX_LINE, BoardMachine

MS = 1_000_000
BOARDS = data_dir("loopback_fixtures") / "boards"


class Bench:
    """A board, a clock, and a record of what came when."""

    def __init__(self, board: Board | str, *, powered: bool = True) -> None:
        if isinstance(board, str):
            board = board_of(parse(f"schema: 1\nkind: board\n{textwrap.dedent(board)}", "test.yaml"))
        self.now = 5_000 * MS  # the clock does not begin at 0, and nobody may think so
        self.start = self.now
        self.machine = BoardMachine(board, self.now, powered=powered)

    def send(self, data: bytes) -> bytes:
        self.machine.receive(data, self.now)
        return self.machine.take_output()

    def said(self) -> bytes:
        return self.machine.take_output()

    def wait(self, milliseconds: float) -> bytes:
        """Let time pass as a loop does: from deadline to deadline."""
        end = self.now + int(milliseconds * MS)
        while (due := self.machine.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.machine.advance(self.now)
        self.now = end
        self.machine.advance(end)
        return self.machine.take_output()

    def wants_input(self) -> bool:
        return self.machine.wants_input

    def next_ms(self) -> float | None:
        due = self.machine.next_deadline()
        return None if due is None else (due - self.now) / MS


PLAIN = """\
    echo: false
    commands:
      - command: id
        answer: BOARD-1
      - match: 'add (\\d+) (\\d+)?'
        answer: "{1}+{2}|{0}\\n"
      - command: list
        lines: [one, two]
      - command: slow
        delay_ms: 50
        answer: "done\\n"
      - command: quiet
      - command: reset
        reset: true
    unknown: "? {0}\\n"
"""


# ------------------------------------------------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"id\n", b"BOARD-1"),
        (b"  id\t \n", b"BOARD-1"),
        (b"list\r", b"one\r\ntwo\r\n"),
        (b"add 1 2\n", b"1+2|add 1 2\r\n"),
        (b"add 1 \n", b"? add 1\r\n"),  # the blank at the end does not count, so the regular expression does not fit
        (b"quiet\n", b""),
        (b"\n\r\n\n", b""),
        (b"ID\n", b"? ID\r\n"),
        (b"id id\n", b"? id id\r\n"),
        (b"xid\n", b"? xid\r\n"),
        (b"{1}\n", b"? {1}\r\n"),
        (b"id\nlist\nid\n", b"BOARD-1one\r\ntwo\r\nBOARD-1"),
        ("gr\u00fc\u00df\n".encode(), "? gr\u00fc\u00df\r\n".encode()),
        (b"\xff\n", "? \ufffd\r\n".encode()),
    ],
)
def test_one_line(line: bytes, answer: bytes) -> None:
    bench = Bench(PLAIN)
    assert bench.send(line) == answer
    assert bench.machine.next_deadline() is None


def test_bytes_one_by_one_are_as_good() -> None:
    bench = Bench(PLAIN)
    said = b"".join(bench.send(bytes([byte])) for byte in b"id\r\nlist\r\nadd 3 4\n")
    assert said == b"BOARD-1one\r\ntwo\r\n3+4|add 3 4\r\n"


def test_the_first_entry_that_fits_decides() -> None:
    bench = Bench(
        """\
        echo: false
        commands:
          - {match: 'a.*', answer: "first"}
          - {match: '.*b', answer: "second"}
          - {command: ab, answer: "third"}
        """
    )
    assert bench.send(b"ab\n") == b"first"
    assert bench.send(b"bb\n") == b"second"


def test_a_group_that_did_not_take_part_is_empty() -> None:
    bench = Bench("echo: false\ncommands: [{match: 'echo(?: (.*))?', answer: '<{1}>'}]\n")
    assert bench.send(b"echo\n") == b"<>"
    assert bench.send(b"echo a b\n") == b"<a b>"


@pytest.mark.parametrize(
    ("convention", "received", "lines"),
    [
        ("any", b"a\rb\nc\r\nd\n\r\n", ["a", "b", "c", "d"]),
        ("cr", b"a\rb\nc\r\nd\n\r\n", ["a", "bc", "d"]),
        ("lf", b"a\rb\nc\r\nd\n\r\n", ["ab", "c", "d"]),
    ],
)
@pytest.mark.parametrize("split", [1, 3, 100])
def test_line_ends_that_it_takes(convention: str, received: bytes, lines: list[str], split: int) -> None:
    bench = Bench(f"echo: false\nnewline: {{input: {convention}}}\nunknown: '<{{0}}>'\n")
    said = b"".join(bench.send(received[at : at + split]) for at in range(0, len(received), split))
    assert said.decode() == "".join(f"<{line}>" for line in lines)


def test_an_empty_line_brings_the_prompt_and_cr_lf_is_one_line() -> None:
    bench = Bench("echo: false\nprompt: '> '\n")
    assert bench.said() == b"> "
    assert bench.send(b"\r\n\r\n\n") == b"> > > "
    assert bench.send(b"\r") == b"> "
    assert bench.send(b"\n") == b""  # the second half of the line end before


@pytest.mark.parametrize(("convention", "sent"), [("crlf", b"\r\n"), ("lf", b"\n"), ("cr", b"\r")])
def test_line_ends_that_it_sends(convention: str, sent: bytes) -> None:
    bench = Bench(
        f"""\
        newline: {{output: {convention}}}
        banner: [{{text: "a\\nb\\r\\n"}}]
        prompt: "\\n> "
        commands: [{{command: list, lines: [x, y]}}]
        """
    )
    assert bench.said() == b"a\nb\n\n> ".replace(b"\n", sent)
    assert bench.send(b"list\n") == b"list\nx\ny\n\n> ".replace(b"\n", sent)


def test_latin_1_sends_every_byte() -> None:
    bench = Bench('encoding: latin-1\necho: false\ncommands: [{match: "(\\xfe+)", answer: "\\xff\\0\\x80{1}"}]\n')
    assert bench.send(b"\xfe\xfe\n") == b"\xff\x00\x80\xfe\xfe"


# ------------------------------------------------------------------------------------------- echo and line editing


def test_the_echo_and_the_prompt() -> None:
    bench = Bench("prompt: '=> '\ncommands: [{command: id, answer: \"X\\n\"}]\n")
    assert bench.said() == b"=> "
    assert bench.send(b"i") == b"i"
    assert bench.send(b"d\r") == b"d\r\nX\r\n=> "
    assert bench.send(b"\n") == b""


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (b"ix\x7fd\n", "id"),
        (b"ix\x08d\n", "id"),
        (b"\x7f\x7fid\n", "id"),
        (b"garbage\x15id\n", "id"),
        (b"garbage\x03id\n", "id"),
        ("i\u00e9\u20ac\x7f\x7fd\n".encode(), "id"),
        (b"a\x7f\x7f\x7f\n", ""),
    ],
)
def test_line_editing(typed: bytes, line: str) -> None:
    bench = Bench("unknown: '<{0}>'\n")
    said = bench.send(typed)
    assert said.endswith(f"\r\n<{line}>".encode() if line else b"\r\n")


def test_what_a_terminal_shows_of_line_editing() -> None:
    bench = Bench("prompt: '> '\n")
    bench.said()
    assert bench.send(b"ab\x7f") == b"ab\b \b"
    assert bench.send(b"\x15") == b"\b \b"
    assert bench.send(b"\x7f") == b""
    assert bench.send(b"x\x03") == b"x^C\r\n> "


def test_without_an_echo_every_byte_is_data() -> None:
    bench = Bench("echo: false\nencoding: latin-1\nunknown: '<{0}>'\n")
    assert bench.send(b"a\x7fb\x03c\x15d\x08\n") == b"<a\x7fb\x03c\x15d\x08>"


def test_a_line_without_end_is_bounded() -> None:
    bench = Bench("unknown: '{0}'\n")
    said = bench.send(b"x" * (MAX_LINE + 5000))
    assert said == b"x" * MAX_LINE + b"\a"
    assert bench.send(b"yy") == b"\a"
    assert bench.send(b"\n") == b"\r\n" + b"x" * MAX_LINE
    assert bench.send(b"ok\n") == b"ok\r\nok"


# --------------------------------------------------------------------------------------------------------- delays


def test_a_slow_command_is_answered_when_its_time_has_come() -> None:
    bench = Bench(PLAIN)
    assert bench.send(b"slow\n") == b""
    assert bench.next_ms() == 50
    assert bench.wait(49.999) == b""
    assert bench.wait(0.001) == b"done\r\n"
    assert bench.next_ms() is None


def test_what_arrives_at_a_busy_board_waits() -> None:
    bench = Bench(PLAIN)
    bench.send(b"slow\nid\nslow\n")
    assert bench.send(b"list\n") == b""
    assert bench.wait(50) == b"done\r\nBOARD-1"
    assert bench.next_ms() == 50
    assert bench.wait(50) == b"done\r\none\r\ntwo\r\n"


def test_delays_do_not_drift_when_the_caller_is_late() -> None:
    bench = Bench(PLAIN)
    bench.send(b"slow\nslow\nslow\n")
    bench.now += 120 * MS
    bench.machine.advance(bench.now)
    assert bench.said() == b"done\r\ndone\r\n"
    assert bench.next_ms() == 30


def test_input_is_seen_after_what_was_due_before_it() -> None:
    bench = Bench(PLAIN)
    bench.send(b"slow\n")
    bench.now += 200 * MS  # nobody called in between
    assert bench.send(b"slow\n") == b"done\r\n"
    assert bench.next_ms() == 50  # counted from the arrival of the second one


def test_a_busy_board_says_when_it_has_enough() -> None:
    bench = Bench(PLAIN)
    bench.send(b"slow\n")
    assert bench.wants_input()
    bench.send(b"x" * (MAX_INPUT - 1))
    assert bench.wants_input()
    bench.send(b"\n")
    assert not bench.wants_input()
    assert len(bench.wait(50)) > MAX_LINE
    assert bench.wants_input()


# ----------------------------------------------------------------------------------------------- banner and autoboot

BOOTS = """\
    banner:
      - text: "ROM\\n"
      - after_ms: 30
        text: "RAM ok\\n"
      - text: "Flash ok\\n"
    autoboot: {AUTOBOOT}
    prompt: "=> "
    echo: false
"""


def booting(autoboot: str = "{count: 2}") -> Bench:
    return Bench(BOOTS.replace("{AUTOBOOT}", autoboot))


HIT = b"Hit any key to stop autoboot:  2 "


def test_the_banner_comes_in_parts() -> None:
    bench = booting()
    assert bench.said() == b"ROM\r\n"
    assert bench.next_ms() == 30
    assert bench.wait(30) == b"RAM ok\r\nFlash ok\r\n" + HIT


def test_the_countdown_runs_out() -> None:
    bench = booting("{count: 2, boot: [{text: 'booting'}, {after_ms: 5, text: \" done\\n\"}]}")
    bench.wait(30)
    assert bench.wait(999) == b""
    assert bench.wait(1) == b"\b\b\b 1 "
    assert bench.wait(1000) == b"\b\b\b 0 \r\nbooting"
    assert bench.wait(5) == b" done\r\n"
    assert bench.next_ms() is None
    assert bench.send(b"version\r\n" * 1000) == b""  # it is silent, and remembers nothing
    assert bench.wants_input()


def test_a_key_stops_the_countdown() -> None:
    bench = booting()
    bench.wait(1500)
    assert bench.send(b" ") == b"\b\b\b 0 \r\n=> "
    assert bench.next_ms() is None


def test_a_key_during_the_banner_stops_the_countdown() -> None:
    bench = booting()
    bench.said()
    assert bench.send(b"x") == b""
    assert bench.wait(30) == b"RAM ok\r\nFlash ok\r\n" + HIT + b"\b\b\b 0 \r\n=> "


def test_only_the_key_is_used_up() -> None:
    bench = booting()
    bench.wait(30)
    assert bench.send(b"\r\nfoo\r\n") == b"\b\b\b 0 \r\n=> Unknown command 'foo'\r\n=> "


def test_only_the_right_key_stops_it() -> None:
    bench = booting("{count: 1, stop_key: s, then: prompt}")
    bench.wait(30)
    assert bench.send(b" \r\nx") == b""
    assert bench.wait(999) == b""
    assert bench.send(b"xxsfoo\n") == b"\b\b\b 0 \r\n=> Unknown command 'foo'\r\n=> "


def test_a_key_in_the_last_moment_and_one_too_late() -> None:
    bench = booting("{count: 1, then: prompt}")
    bench.wait(30 + 999)
    assert bench.send(b"x") == b"\b\b\b 0 \r\n=> "
    bench = booting("{count: 1, then: prompt}")
    bench.wait(30)
    bench.now += 1000 * MS  # the key arrives at the very tick: the tick was first
    assert bench.send(b"x\n") == b"\b\b\b 0 \r\n=> Unknown command 'x'\r\n=> "


def test_a_countdown_from_nought() -> None:
    bench = booting("{count: 0, then: prompt}")
    assert bench.wait(30).endswith(b"autoboot:  0 \r\n=> ")
    bench = booting("{count: 0, boot: [{text: 'booting'}]}")
    bench.send(b"x")
    assert bench.wait(30).endswith(b"autoboot:  0 \b\b\b 0 \r\n=> ")


def test_a_boot_loop_loops() -> None:
    bench = booting("{count: 1, tick_ms: 70, then: reset}")
    for _ in range(3):
        assert bench.wait(100).count(b"RAM ok") == 1
    assert bench.wait(10_000).count(b"RAM ok") == 100


def test_ticks_are_as_long_as_the_file_says() -> None:
    bench = booting("{count: 99, tick_ms: 1}")
    assert bench.wait(30).endswith(b"autoboot: 99 ")
    assert bench.wait(98).endswith(b"\b\b\b 1 ")


# ---------------------------------------------------------------------------------------------------------- resets


def test_reset_by_a_command() -> None:
    bench = Bench(
        """\
        banner: [{text: "hello\\n"}]
        prompt: "> "
        commands: [{command: reset, answer: "bye\\n", reset: true}, {command: id, answer: "X\\n"}]
        """
    )
    bench.said()
    assert bench.send(b"reset\r") == b"reset\r\nbye\r\nhello\r\n> "
    assert bench.send(b"\nid\n") == b"id\r\nX\r\n> "  # the line feed belonged to the line before


def test_what_follows_a_reset_command_is_for_the_board_that_comes_back() -> None:
    """However the bytes were cut into pieces on their way."""
    text = b"reset\r\n \r\nid\r\n"
    whole = None
    for cut in range(len(text)):
        bench = Bench(
            """\
            autoboot: {count: 1, tick_ms: 10}
            commands: [{command: reset, reset: true}, {command: id, answer: "X\\n"}]
            """
        )
        bench.send(b"k")
        said = bench.send(text[:cut]) + bench.send(text[cut:])
        whole = whole or said
        assert said == whole
    assert whole is not None
    assert whole.endswith(b"autoboot:  1 \b\b\b 0 \r\n\r\nid\r\nX\r\n")


def test_reset_from_outside_cuts_everything_short() -> None:
    bench = Bench(PLAIN + "    banner: [{text: hello}]\n")
    bench.said()
    bench.send(b"slow\nid\nhalf a li")
    bench.now += 20 * MS
    bench.machine.reset(bench.now)
    assert bench.said() == b"hello"
    assert bench.next_ms() is None
    assert bench.wait(1000) == b""  # neither the slow answer nor the id
    assert bench.send(b"id\n") == b"BOARD-1"  # and not "half a liid"


def test_reset_brings_the_banner_back_in_its_own_time() -> None:
    bench = booting()
    bench.wait(1500)
    bench.machine.reset(bench.now)
    assert bench.said() == b"ROM\r\n"
    assert bench.next_ms() == 30


def test_a_board_that_is_held_in_reset() -> None:
    bench = Bench("banner: [{text: hello}]\nautoboot: {count: 1}\n", powered=False)
    assert bench.next_ms() is None
    assert bench.send(b"is anybody there?\n") == b""
    assert bench.wait(1000) == b""
    bench.machine.reset(bench.now)
    assert bench.said() == b"helloHit any key to stop autoboot:  1 "
    assert bench.wait(999) == b""  # what it was told while it had no power is forgotten


# ---------------------------------------------------------------------------------------------------- shipped boards


def test_the_demo_board() -> None:
    bench = Bench(load_board(BOARDS / "demo.yaml"))
    banner = bench.wait(40)
    assert b"HILBoot 2026.10" in banner
    assert banner.endswith(b"Hit any key to stop autoboot:  2 ")
    assert bench.send(b" ").endswith(b"=> ")
    assert bench.send(b"version\n") == (
        b"version\r\nHILBoot 2026.10 (hilbridge demo board)\r\nbuilt with no compiler at all\r\n=> "
    )
    assert bench.send(b"echo hello  world\n").splitlines()[1] == b"hello  world"
    assert bench.send(b"md 0x20000000 8\n").splitlines()[1].startswith(b"20000000: 20010000 ")
    assert b"no memory at 0x0;" in bench.send(b"md 0x0\n")
    assert b"Unknown command 'boot' - try 'help'" in bench.send(b"boot\n")
    listed = [line.split()[0] for line in bench.send(b"help\n").splitlines()[1:-1]]
    assert listed == [b"echo", b"help", b"md", b"reset", b"sleep", b"version"]
    for command in (b"echo", b"help", b"md 0x20000000", b"sleep", b"version"):
        assert b"Unknown" not in bench.send(command + b"\n") + bench.wait(100)
    assert b"resetting ...\r\n\r\nBoot ROM" in bench.send(b"reset\n")
    bench.wait(40)
    bench.machine.reset(bench.now)
    assert bench.wait(40)[-len(HIT) :] == HIT


def test_the_story_board() -> None:
    bench = Bench(load_board(BOARDS / "story.yaml"))
    assert bench.said() == b""
    assert bench.send(b"id\n") == b"HILBRIDGE-BOARD-1"
    assert bench.send(b"who?\n") == b""


# ------------------------------------------------------------------------------------------------------ in general

CHUNKS = st.lists(
    st.sampled_from([b"id\n", b"slow\r\n", b"list\r", b"\n", b"rubbish", b" \x7f", b"reset\n"]), max_size=8
)


@given(CHUNKS, st.lists(st.integers(1, 40), min_size=1, max_size=8))
@settings(max_examples=150)
def test_how_the_bytes_are_cut_changes_nothing(chunks: list[bytes], cuts: list[int]) -> None:
    """The same bytes at the same time, in whatever pieces, get the same answer."""
    data = b"".join(chunks)
    whole = Bench(PLAIN)
    expected = whole.send(data) + whole.wait(10_000)
    pieces = Bench(PLAIN)
    at = 0
    said = b""
    for cut in [*cuts, len(data)]:
        said += pieces.send(data[at : at + cut])
        at += cut
    assert said + pieces.wait(10_000) == expected
