"""A conversation with what listens at the other end of a port: a boot loader, a shell, a firmware's command line.

The names are pexpect's (``expect``, ``send``, ``sendline``, ``before``, ``after``, ``match``, ``buffer``); how patterns
are found is told in `hilbridge.bridge.expect`. One thread at a time uses a console.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, AnyStr, Generic, Literal, Protocol, cast, overload

from hilbridge.bridge.expect import (
    SCROLLBACK,
    WINDOW,
    ExpectMismatch,
    ExpectTimeout,
    Hit,
    LineStart,
    Match,
    Matcher,
    Pattern,
    Wanted,
    describe,
    exacts,
    is_line_end,
    last_lines,
    regexes,
)
from hilbridge.model.errors import DeviceGone, DeviceTimeout, InternalFault, UsageFault

TIMEOUT = 5.0
"""Seconds: the deadline of a call that names none."""
READ_SIZE = 65536
"""Bytes asked for at a time."""
SETTLE = 1.0
"""Seconds of silence after which a device that has not shown its prompt is taken to be ready for a command."""
ECHO_GRACE = 0.25
"""Seconds that an echo may come after a prompt before the device counts as one that does not echo."""


def _like(sample: AnyStr, text: str) -> AnyStr:
    """Text of our own, as bytes where `sample` is bytes."""
    like: Any = text if isinstance(cast("Any", sample), str) else text.encode("ascii")
    typed: AnyStr = like
    return typed


class ConsoleHandle(Protocol):
    """What a console needs of an open device. Time-outs are in seconds; None = without a deadline."""

    @property
    def name(self) -> str:
        """What messages call the device."""

    def read_some(self, limit: int, /, *, timeout: float | None) -> bytes:
        """At least one and at most `limit` bytes, as soon as there are any; 0 seconds = only what is there already.

        Raises `DeviceTimeout` when there are none in time, and `DeviceGone` after the last byte of a lost device.
        """

    def write(self, data: bytes, /, *, timeout: float | None) -> int:
        """Send; returns how many bytes were accepted, all or at least one. Raises `DeviceTimeout`, `DeviceGone`."""

    def now(self) -> float:
        """Seconds on the clock that the time-outs are measured with. It never goes back."""


@dataclass(frozen=True, slots=True)
class _Echo(Pattern[AnyStr]):
    """A command line as the device sends it back: a whole line, or the end of the first one after the last match.

    The end of a line: the device may echo behind a prompt, or behind characters that were sent before.
    """

    line: AnyStr

    def __str__(self) -> str:
        return f"the echo of {self.line!r}"

    @property
    def reach(self) -> int | None:
        return len(self.line)  # and the character behind it

    @property
    def looks_back(self) -> bool:
        return True

    def find(self, text: AnyStr, start: int, origin: int, /) -> Hit[AnyStr] | None:
        newline = re.compile(_like(text, "[\r\n]")).search(text, origin) if origin >= 0 else None
        first_line = -1 if origin < 0 else newline.start() if newline else len(text)
        at = text.find(self.line, start)
        while at >= 0:
            stop = at + len(self.line)
            if is_line_end(text[stop : stop + 1]) and (at < first_line or is_line_end(text[max(0, at - 1) : at])):
                return at, stop, None
            at = text.find(self.line, at + 1)
        return None


class Console(Generic[AnyStr]):
    """Expect and send on an open device.

    `prompt`: what the device shows when it is ready for a command. Text is meant literally and counts at the start of a
    line only, so that output which contains it does not end a command; a line of output that *begins* with it does.
    For a prompt that varies or is coloured give a compiled regular expression, which is used as it is.
    `encoding`: None makes everything bytes, patterns and results. Otherwise `errors` says what becomes of bytes that
    cannot be decoded.
    `newline`: what `sendline` and `command` put behind a line.
    `window`: the longest match, in characters, that a regular expression is sure to find.
    `echo`: whether the device sends back what it is sent; ``"auto"`` finds out. `command` leaves the echo out.
    """

    handle: ConsoleHandle
    before: AnyStr | None
    """Text before the last match; after a time-out or a lost device, all that has not been matched."""
    after: AnyStr | None
    """The text that matched last; None after a failure."""
    match: Match[AnyStr] | None
    """The last match; None after a failure."""
    leftover: AnyStr
    """What the last `command` found before its answer: earlier output, and earlier prompts."""
    _kind: type[AnyStr]
    _empty: AnyStr
    _matcher: Matcher[AnyStr]
    _prompt: Pattern[AnyStr] | None
    _seen: AnyStr

    @overload
    def __init__(
        self: Console[str],
        handle: ConsoleHandle,
        *,
        prompt: str | re.Pattern[str] | None = ...,
        encoding: str = ...,
        errors: str = ...,
        newline: str = ...,
        window: int = ...,
        scrollback: int = ...,
        echo: bool | Literal["auto"] = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Console[bytes],
        handle: ConsoleHandle,
        *,
        prompt: bytes | re.Pattern[bytes] | None = ...,
        encoding: None,
        errors: str = ...,
        newline: str = ...,
        window: int = ...,
        scrollback: int = ...,
        echo: bool | Literal["auto"] = ...,
    ) -> None: ...

    def __init__(
        self,
        handle: ConsoleHandle,
        *,
        prompt: str | bytes | re.Pattern[str] | re.Pattern[bytes] | None = None,
        encoding: str | None = "utf-8",
        errors: str = "replace",
        newline: str = "\n",
        window: int = WINDOW,
        scrollback: int = SCROLLBACK,
        echo: bool | Literal["auto"] = "auto",
    ) -> None:
        if echo not in {True, False, "auto"}:
            raise UsageFault(f'echo={echo!r}: must be True, False or "auto"')
        self.handle = handle
        self._encoding = encoding
        self._kind = cast("Any", bytes if encoding is None else str)
        self._empty = self._kind()
        self._matcher = cast(
            "Any",
            Matcher(window, scrollback=scrollback)
            if encoding is None
            else Matcher(window, encoding=encoding, errors=errors, scrollback=scrollback),
        )
        self._newline = newline
        self._prompt = None if prompt is None else self._as_prompt(cast("Any", prompt))
        self._echo = echo
        self._echoes: bool | None = None  # what "auto" has found out
        # What is known since the last send: that there was one, and the text of the last match. They tell whether the
        # device has shown its prompt and was sent nothing since, which is when a command may go out at once.
        self._sent = False
        self._seen = self._empty
        self.before = self.after = self.match = None
        self.leftover = self._empty

    @property
    def buffer(self) -> AnyStr:
        """What was received and not matched yet. It is bounded: the oldest of more than a `scrollback` is dropped."""
        return self._matcher.text

    @property
    def scanned(self) -> int:
        """Characters that were handed to a search, over all patterns, since the console was made."""
        return self._matcher.scanned

    def expect(
        self,
        pattern: Wanted[AnyStr],
        timeout: float | None = TIMEOUT,
        not_matching: Wanted[AnyStr] | None = None,
    ) -> Match[AnyStr]:
        """Wait for the first match of a regular expression, or of one of a list; ``.index`` says of which.

        The call takes `timeout` seconds at most, None = without a deadline. Raises `ExpectTimeout`, which leaves the
        text for the next call; `ExpectMismatch` at once if `not_matching` (one or a list) comes first, whose text is
        taken as that of any match; `DeviceGone`, after what the device said last was searched; `UsageFault`.
        """
        refused = () if not_matching is None else regexes(not_matching, self._kind)
        return self._expect(regexes(pattern, self._kind), refused, timeout)

    def expect_exact(
        self,
        pattern: AnyStr | Sequence[AnyStr],
        timeout: float | None = TIMEOUT,
        not_matching: AnyStr | Sequence[AnyStr] | None = None,
    ) -> Match[AnyStr]:
        """As `expect`, for text that is meant literally."""
        refused = () if not_matching is None else exacts(not_matching, self._kind)
        return self._expect(exacts(pattern, self._kind), refused, timeout)

    def send(self, text: AnyStr, timeout: float | None = TIMEOUT) -> int:
        """Send text as it is. Returns the number of bytes; raises what the device's ``write`` raises."""
        return self._write(text, self._deadline(timeout))

    def sendline(self, text: AnyStr | None = None, timeout: float | None = TIMEOUT) -> int:
        """Send text and the newline, or the newline alone. Returns the number of bytes."""
        line = self._empty if text is None else text
        return self._write(line + _like(self._empty, self._newline), self._deadline(timeout))

    def command(
        self,
        line: AnyStr,
        timeout: float | None = TIMEOUT,
        prompt: AnyStr | re.Pattern[AnyStr] | None = None,
    ) -> AnyStr:
        """Send a line, wait for the prompt, and return what came between.

        The answer is without the echoed line, the prompt and the last newline, and CR LF in it is LF. Nothing is thrown
        away: what had come before is in `leftover` afterwards. `prompt` replaces the console's own for this call.

        A device that has been talking, or was sent something by `send`, and has not shown its prompt since, is waited
        for first: until the prompt comes or it has been silent for a second; then the line is sent. A prompt that
        comes before the echo is an old one and does not end the command. With ``echo="auto"`` a device that has shown
        its prompt has a quarter of a second to echo the line before it counts as one that does not; that is remembered
        until it does echo.

        Raises what `expect` raises. A time-out leaves what has come of the answer for the next call.
        """
        asked = self._prompt if prompt is None else self._as_prompt(prompt)
        if asked is None:
            raise UsageFault("command() must know the prompt: give it here, or to console(prompt=...)")
        if not isinstance(line, self._kind):
            raise UsageFault(f"{line!r} is no command: this console speaks {self._kind.__name__}")
        if any(_like(self._empty, end) in line for end in "\r\n"):
            raise UsageFault(f"{line!r} is more than one line: command() sends one, without its newline")
        started = self.handle.now()
        deadline = self._deadline(timeout)
        self.leftover = self._empty
        try:
            self._settle(asked, started, deadline)
            self._write(line + _like(self._empty, self._newline), deadline)
            match, echoed = self._answer(line, asked, started, deadline)
        except (ExpectTimeout, DeviceGone):
            self._gave_up()
            raise
        self._succeeded(match)
        return self._plain(match.before, echoed=echoed)

    def _expect(
        self, wanted: tuple[Pattern[AnyStr], ...], refused: tuple[Pattern[AnyStr], ...], timeout: float | None
    ) -> Match[AnyStr]:
        try:
            match = self._wait(wanted + refused, self.handle.now(), self._deadline(timeout), shown=wanted)
        except (ExpectTimeout, DeviceGone):
            self._gave_up()
            raise
        self._succeeded(match)
        if match.index >= len(wanted):
            came = match.before + match.text
            raise ExpectMismatch(
                f"{self.handle.name}: {refused[match.index - len(wanted)]} came instead of {describe(wanted)}; "
                f"received last: {last_lines(came)}",
                match=match,
                partial=self._matcher.encode(came),
            )
        return match

    def _wait(
        self,
        patterns: tuple[Pattern[AnyStr], ...],
        started: float,
        deadline: float | None,
        *,
        shown: Sequence[Pattern[AnyStr]] | None = None,
    ) -> Match[AnyStr]:
        """Read until one of the patterns comes. What is there already is searched even when the deadline has passed."""
        gone: DeviceGone | None = None
        expired = False
        while True:
            match = self._matcher.search(patterns)
            if match is not None:
                return match
            if gone is not None:
                raise self._went(gone, describe(shown or patterns)) from gone
            if expired:
                raise self._late(patterns, describe(shown or patterns), started)
            expired = deadline is not None and self.handle.now() >= deadline
            try:
                expired = not self._fill(deadline) or expired
            except DeviceGone as exc:
                gone = exc

    def _fill(self, deadline: float | None) -> int:
        """Read once, and return how many bytes came; 0 at the deadline. When it raises `DeviceGone`, what the device
        had said last is in the buffer.
        """
        timeout = None if deadline is None else max(0.0, deadline - self.handle.now())
        try:
            data = self.handle.read_some(READ_SIZE, timeout=timeout)
        except DeviceTimeout:
            return 0
        except DeviceGone as gone:
            self._matcher.feed(gone.partial)
            self._matcher.finish()
            raise
        if not data:
            raise InternalFault(f"{self.handle.name}: read_some() returned no bytes and no error")
        self._matcher.feed(data)
        return len(data)

    def _write(self, text: AnyStr, deadline: float | None) -> int:
        if not isinstance(text, self._kind):
            raise UsageFault(f"{text!r} cannot be sent: this console speaks {self._kind.__name__}")
        try:
            data = text if isinstance(text, bytes) else text.encode(self._encoding or "ascii")
        except UnicodeEncodeError as exc:
            raise UsageFault(f"{text!r} cannot be sent as {self._encoding}: {exc.reason}") from exc
        self._sent, self._seen = True, self._empty
        done = 0
        while done < len(data):
            timeout = None if deadline is None else max(0.0, deadline - self.handle.now())
            done += self.handle.write(data[done:], timeout=timeout)
        return done

    def _settle(self, prompt: Pattern[AnyStr], started: float, deadline: float | None) -> None:
        """Before a command: let the device come to its prompt, and move all that it has said to `leftover`."""
        try:
            drained = 0
            while drained < self._matcher.scrollback and (size := self._fill(self.handle.now())):
                drained += size  # bounded: a device that never stops talking does not hold the command up here
            known = self._seen + self._matcher.text
            if prompt.find(known, 0, 0) is None and (known or self._sent):
                self._await_prompt(prompt, started, deadline)
        except DeviceGone as gone:
            raise self._went(gone, f"{prompt}, before a command,") from gone
        self.leftover += self._matcher.take()

    def _await_prompt(self, prompt: Pattern[AnyStr], started: float, deadline: float | None) -> None:
        while True:
            match = self._matcher.search((prompt,))
            if match is not None:
                self.leftover += match.before + match.text
                return
            now = self.handle.now()
            if deadline is not None and now >= deadline:
                raise self._late((prompt,), f"the command was not sent, because {prompt}", started)
            quiet = now + SETTLE
            if not self._fill(quiet if deadline is None else min(quiet, deadline)) and (
                deadline is None or quiet < deadline
            ):
                return

    def _answer(
        self, line: AnyStr, prompt: Pattern[AnyStr], started: float, deadline: float | None
    ) -> tuple[Match[AnyStr], bool]:
        """The match of the prompt that ends the command, and whether what came before it begins behind an echo."""
        if not line or self._echo is False:
            return self._wait((prompt,), started, deadline), self._echo is not False
        echo = _Echo(line)
        if self._echo is True:
            match = self._wait((echo,), started, deadline)
        else:
            match = self._wait((echo, prompt), started, deadline, shown=(prompt,))
            if match.index == 1:  # the end of the command, from a device without echo, or an old prompt
                if self._echoes is False:
                    return match, False
                ending, now = match, self.handle.now()
                grace = now + ECHO_GRACE
                try:
                    match = self._wait((echo,), now, grace if deadline is None else min(grace, deadline))
                except (ExpectTimeout, DeviceGone):
                    self._echoes = False
                    return ending, False
                self.leftover += ending.before + ending.text
            self._echoes = True
        self.leftover += match.before
        return self._wait((prompt,), started, deadline), True

    def _plain(self, answer: AnyStr, *, echoed: bool) -> AnyStr:
        """An answer without the newline that belongs to the echo and the last one, and with LF for CR LF."""
        if echoed and (newline := re.match(_like(self._empty, r"\r+\n|\n\r?|\r"), answer)):
            answer = answer[newline.end() :]
        # The lookbehind keeps this linear in a run of carriage returns.
        answer = re.sub(_like(self._empty, r"(?<!\r)\r+\n"), _like(self._empty, "\n"), answer)
        for newline_text in ("\n\r", "\n", "\r"):
            if answer.endswith(_like(self._empty, newline_text)):
                return answer[: -len(newline_text)]
        return answer

    def _succeeded(self, match: Match[AnyStr]) -> None:
        self.before, self.after, self.match = match.before, match.text, match
        self._seen = match.before + match.text

    def _gave_up(self) -> None:
        self.before, self.after, self.match = self._matcher.text, None, None

    def _late(self, patterns: tuple[Pattern[AnyStr], ...], expected: str, started: float) -> ExpectTimeout:
        waited = self.handle.now() - started
        window = self._matcher.window
        searched_far = all(pattern.reach is not None for pattern in patterns) or len(self.buffer) <= window
        hint = "" if searched_far else f"; a match of more than {window} characters needs a larger window="
        return ExpectTimeout(
            f"{self.handle.name}: {expected} did not come within {round(waited, 2):g} s; {self._received()}{hint}",
            expected=expected,
            waited=waited,
            partial=self._matcher.raw,
        )

    def _went(self, gone: DeviceGone, expected: str) -> DeviceGone:
        return DeviceGone(
            f"{self.handle.name} went away while {expected} was expected: {gone}; {self._received()}",
            status=gone.status,
            irp_id=gone.irp_id,
            partial=self._matcher.raw,
        )

    def _received(self) -> str:
        text = self.buffer
        if text:
            return f"received last: {last_lines(text)}"
        if self._matcher.received:
            return "nothing was received since the last match"
        return "nothing was received: check power, wiring, port and baud rate"

    def _as_prompt(self, prompt: AnyStr | re.Pattern[AnyStr]) -> Pattern[AnyStr]:
        if isinstance(prompt, re.Pattern):
            return regexes(prompt, self._kind)[0]
        return LineStart(exacts(prompt, self._kind)[0].text)

    def _deadline(self, timeout: float | None) -> float | None:
        if timeout is None:
            return None
        if not timeout >= 0:
            raise UsageFault(f"timeout={timeout}: seconds from 0, or None for no deadline")
        return self.handle.now() + timeout
