"""The scripted board, as a state machine without a clock, a thread or a descriptor.

It is written as the firmware of a board is: power-on, banner, countdown, shell, from top to bottom, as a generator that
yields where firmware would wait. Whoever owns the machine brings it bytes and the time, takes away what it says, and
calls again at `next_deadline`. So a test plays a three-second boot in no time, and a fixture's process in three.

Time is nanoseconds of any monotonic clock. Delays count from when the board began to wait, not from when somebody
called: a late caller finds the same output, and a countdown does not drift.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, TypeAlias

from hilbridge.files.answers import fill

if TYPE_CHECKING:
    from hilbridge.files.board import Autoboot, Board, Command, Part

MAX_LINE = 1024
"""Characters of one command line; more are refused with a bell, as boot loaders do."""

MAX_INPUT = 4096
"""Received bytes that a busy board keeps before `wants_input` says no."""

_NS_PER_MS = 1_000_000
_NEWLINES = {"crlf": b"\r\n", "lf": b"\n", "cr": b"\r"}
_LINE_END = re.compile(r"\r?\n")

_CTRL_C, _BACKSPACE, _LINE_FEED, _RETURN, _CTRL_U, _DELETE = 0x03, 0x08, 0x0A, 0x0D, 0x15, 0x7F

# What firmware waits for: a time (None: no time), and whether input ends the wait.
_Wait: TypeAlias = "tuple[int | None, bool]"


class BoardMachine:
    """One board, running. `board` is what `hilbridge.files.board.load_board` returns; `now_ns` is when power comes.

    With ``powered=False`` it is held in reset: silent and deaf, until `reset` is called.
    """

    def __init__(self, board: Board, now_ns: int, *, powered: bool = True) -> None:
        self._board = board
        self._now = now_ns
        self._arrival = now_ns
        self._input = bytearray()
        self._output = bytearray()
        self._line = bytearray()
        self._skip_line_feed = False
        self._newline = _NEWLINES[board.newline.output]
        self._line_enders = {"any": b"\r\n", "cr": b"\r", "lf": b"\n"}[board.newline.input]
        # Without an echo the other end is a program, and every byte but the line's end is data.
        editing = rb"\x03\x08\x15\x7f" if board.echo else b""
        self._special = re.compile(rb"[\r\n" + editing + b"]")
        self._patterns = [
            (re.compile(re.escape(entry.command) if entry.command is not None else entry.match or ""), entry)
            for entry in board.commands
        ]
        self._firmware: Generator[_Wait, None, None] | None = None
        self._due: int | None = None
        self._hears = False
        if powered:
            self.reset(now_ns)

    # -------------------------------------------------------------------------------------------- what its owner calls

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes arrived at the board at `now_ns`."""
        self.advance(now_ns)  # what was due before these bytes came happens before the board sees them
        if self._firmware is not None:
            self._input += data
            self._arrival = now_ns
            self._run(now_ns)

    def advance(self, now_ns: int) -> None:
        """Let everything happen that is due at `now_ns`."""
        self._run(now_ns)

    def take_output(self) -> bytes:
        """What the board has said since the last call."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def next_deadline(self) -> int | None:
        """When to call `advance`, in nanoseconds; None when only input can make something happen."""
        return self._due

    @property
    def wants_input(self) -> bool:
        """False while the board is busy and has enough to read: the bytes must wait where they are; none is lost."""
        return len(self._input) < MAX_INPUT

    def reset(self, now_ns: int) -> None:
        """Cut the power and give it back: what was received and not yet used is forgotten; the banner comes again."""
        self._now = now_ns
        self._input.clear()
        self._line.clear()
        self._skip_line_feed = False
        self._firmware = self._boot()
        self._due, self._hears = now_ns, False
        self._run(now_ns)

    # ------------------------------------------------------------------------------------------------------- scheduling

    def _run(self, now_ns: int) -> None:
        while self._firmware is not None:
            if self._due is not None and self._due <= now_ns:
                self._now = max(self._now, self._due)
            elif self._hears and self._input:
                self._now = max(self._now, self._arrival)
            else:
                return
            self._due, self._hears = next(self._firmware)

    def _pause(self, milliseconds: int) -> Generator[_Wait, None, None]:
        if milliseconds:
            yield self._now + milliseconds * _NS_PER_MS, False

    # --------------------------------------------------------------------------------------------------------- firmware

    def _boot(self) -> Generator[_Wait, None, None]:
        """The whole life of the board, from power-on."""
        board = self._board
        while True:
            yield from self._say(board.banner)
            if board.autoboot is not None:
                stopped = yield from self._count_down(board.autoboot)
                if not stopped:
                    yield from self._say(board.autoboot.boot)
                    if board.autoboot.then == "reset":
                        continue
                    if board.autoboot.then == "silent":
                        yield from self._ignore()
            yield from self._shell()  # returns when a command resets the board

    def _say(self, parts: Iterable[Part]) -> Generator[_Wait, None, None]:
        for part in parts:
            yield from self._pause(part.after_ms)
            self._send(part.text)

    def _count_down(self, autoboot: Autoboot) -> Generator[_Wait, None, bool]:
        """U-Boot's countdown, drawn over itself with backspaces. Returns whether a key stopped it."""
        left = autoboot.count
        self._send(f"{autoboot.text}{left:2d} ")
        stopped = self._stop_key(autoboot)  # it may have been pressed during the banner
        while left and not stopped:
            tick = self._now + autoboot.tick_ms * _NS_PER_MS
            while self._now < tick and not stopped:
                yield tick, True
                stopped = self._stop_key(autoboot)
            left -= 1
            if not stopped:
                self._send(f"\b\b\b{left:2d} ")
        self._send("\b\b\b 0 \n" if stopped else "\n")
        return stopped

    def _stop_key(self, autoboot: Autoboot) -> bool:
        """Whether the key was pressed that stops the countdown. That key is used up; what follows it is not."""
        while self._input:
            key = self._input.pop(0)
            if key == _LINE_FEED and self._skip_line_feed:
                self._skip_line_feed = False
                continue
            self._skip_line_feed = key == _RETURN
            if autoboot.stop_key is None or key == ord(autoboot.stop_key):
                return True
        return False

    def _ignore(self) -> Generator[_Wait, None, None]:
        while True:
            self._input.clear()
            yield None, True

    def _shell(self) -> Generator[_Wait, None, None]:
        self._send(self._board.prompt)
        while True:
            line = self._take_line()
            if line is None:
                yield None, True
                continue
            entry = None
            if line:
                entry = yield from self._execute(line)
            if entry is not None and entry.reset:
                return
            self._send(self._board.prompt)

    def _execute(self, line: str) -> Generator[_Wait, None, Command | None]:
        for pattern, entry in self._patterns:
            match = pattern.fullmatch(line)
            if match is not None:
                yield from self._pause(entry.delay_ms)
                answer = entry.answer or "".join(f"{text}\n" for text in entry.lines or [])
                self._send(fill(answer, [line, *(group or "" for group in match.groups())]))
                return entry
        self._send(fill(self._board.unknown, [line]))
        return None

    # ----------------------------------------------------------------------------------------------------- its terminal

    def _take_line(self) -> str | None:
        """The next complete line, stripped of blanks; None when it has not come yet."""
        while self._input:
            if self._skip_line_feed:
                self._skip_line_feed = False
                if self._input[0] == _LINE_FEED:
                    del self._input[0]
                    continue
            found = self._special.search(self._input)
            end = found.start() if found else len(self._input)
            self._type(self._input[:end])
            if found is None:
                self._input.clear()
                return None
            key = self._input[end]
            del self._input[: end + 1]
            if key in self._line_enders:
                self._skip_line_feed = key == _RETURN
                self._echo(self._newline)
                line = self._line.decode(self._board.encoding, "replace").strip()
                self._line.clear()
                return line
            if key not in (_RETURN, _LINE_FEED):  # the other newline character is ignored
                self._edit(key)
        return None

    def _type(self, typed: bytearray) -> None:
        room = MAX_LINE - len(self._line)
        self._line += typed[:room]
        self._echo(typed[:room])
        if len(typed) > room:
            self._echo(b"\a")

    def _edit(self, key: int) -> None:
        if key == _CTRL_C:
            self._line.clear()
            self._send(f"^C\n{self._board.prompt}")
            return
        while self._line:
            erased = self._line.pop()
            while self._line and self._board.encoding == "utf-8" and erased & 0xC0 == 0x80:
                erased = self._line.pop()  # a character of several bytes goes as a whole
            self._echo(b"\b \b")
            if key in (_BACKSPACE, _DELETE):
                return

    def _echo(self, data: bytes | bytearray) -> None:
        if self._board.echo:
            self._output += data

    def _send(self, text: str) -> None:
        data = _LINE_END.sub("\n", text).encode(self._board.encoding)
        self._output += data.replace(b"\n", self._newline)
