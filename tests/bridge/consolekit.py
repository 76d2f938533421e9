"""What the tests of the console share: a scripted device on a virtual clock, and a shell at its end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from hilbridge.model.errors import DeviceGone, DeviceTimeout
from hilbridge.model.status import STATUS_DEVICE_REMOVED

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
