"""U-Boot under QEMU: a real boot loader, written by nobody here, whose serial port is a pty.

    with start_uboot(held=True) as board, hilbridge.open(board.port) as dut:
        board.reset()                                   # out of reset: the banner comes from its first byte
        con = dut.console(prompt="=> ")
        con.expect("autoboot")
        con.send(" ")
        print(con.command("version"))

The machine is QEMU's ``virt`` with 128 MB of RAM at 0x40000000; Debian's package ``u-boot-qemu`` has the image. QEMU
burns one processor for as long as it runs, also at the prompt.

Two of QEMU's ways to know: nobody has the pty open when it starts, and it looks for a client once in a second. What U-Boot
says goes out at once; what it is sent is taken up to a second later, the first time.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from hilbridge.model.errors import DeviceFault, DeviceGone, DeviceTimeout, UsageFault

QEMU = "qemu-system-arm"
IMAGE = Path("/usr/lib/u-boot/qemu_arm/u-boot.bin")
"""Where Debian's ``u-boot-qemu`` puts the image."""

START_DEADLINE = 20.0
"""Seconds that QEMU may take to name its pty. It takes a tenth of one; a loaded machine takes longer."""
_ANSWER_DEADLINE = 10.0
_STOP_DEADLINE = 5.0

_NAMES_PTY = re.compile(rb"redirected to (\S+) \(label serial0\)")


class RunningUboot:
    """A board that is powered. Made by `start_uboot`; a context manager: at its end the process is gone."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self._control = control
        self._said = b""
        self._answers = b""
        self._stopped = False
        self.pid = process.pid
        self.port = ""
        """The pty to open, ``/dev/pts/N``."""

    def reset(self) -> None:
        """Press the reset button; a board that was started with ``held=True`` begins to run.

        Raises `DeviceGone` if QEMU has ended, `DeviceTimeout` if it does not answer.
        """
        if self._stopped:
            raise UsageFault("this board was stopped: start another one")
        self._command("system_reset")
        self._command("cont")

    def stop(self) -> None:
        """Switch off. Its port hangs up; what its client has not read is lost, as with every pty. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        try:
            # By descriptor, not by number: it can only hit this process.
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
            if not _is_ready(self._pidfd, time.monotonic() + _STOP_DEADLINE):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        self._process.wait()
        self._control.close()
        os.close(self._pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- starting ----------------------------------------------------------------------------------------------------

    def _start(self, deadline: float) -> None:
        """Read what QEMU says until it has named its pty, and greet its monitor."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while (found := _NAMES_PTY.search(self._said)) is None:
            if not _is_ready(output, deadline):
                raise DeviceTimeout(f"{QEMU} has not named its pty in time{self._words()}")
            data = os.read(output, 4096)
            if not data:
                raise DeviceFault(f"{QEMU} did not start{self._words()}")
            self._said += data
        self.port = found[1].decode()
        self._command("qmp_capabilities", deadline)

    def _command(self, name: str, deadline: float | None = None) -> None:
        """One command of QEMU's machine protocol (QMP): a line of JSON, answered by one; events come in between."""
        deadline = deadline or time.monotonic() + _ANSWER_DEADLINE
        try:
            self._control.sendall(json.dumps({"execute": name}).encode() + b"\n")
            while True:
                line, newline, rest = self._answers.partition(b"\n")
                if newline:
                    self._answers = rest
                    answer = json.loads(line)
                    if "error" in answer:
                        raise DeviceFault(f"{QEMU} refused {name}: {answer['error'].get('desc')}")
                    if "return" in answer:
                        return
                    continue
                if not _is_ready(self._control.fileno(), deadline):
                    raise DeviceTimeout(f"{QEMU} has not answered {name} in time{self._words()}")
                data = self._control.recv(65536)
                if not data:
                    raise DeviceGone(f"{QEMU} has ended{self._words()}")
                self._answers += data
        except (BrokenPipeError, ConnectionResetError):
            raise DeviceGone(f"{QEMU} has ended{self._words()}") from None

    def _words(self) -> str:
        """What QEMU has said, to be put behind a sentence."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while _is_ready(output, 0.0):
            data = os.read(output, 4096)
            if not data:
                break
            self._said += data
        words = " ".join(_NAMES_PTY.sub(b"", self._said).decode(errors="replace").split())
        return f": {words.removeprefix('char device').strip()}" if words else "; it has said nothing"


def _is_ready(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


@contextmanager
def start_uboot(
    *, held: bool = False, image: str | os.PathLike[str] = IMAGE, timeout: float = START_DEADLINE
) -> Iterator[RunningUboot]:
    """Power a board that runs U-Boot; yields when its port is there, and switches it off at the end.

    With ``held=True`` it stands still until `RunningUboot.reset`: a client that has opened the port before gets the
    banner from the first byte. Otherwise it boots at once, and what it says before somebody opens the port is lost.

    Raises `UsageFault` naming the package to install if QEMU or the image is missing, `DeviceFault` with QEMU's own words
    if it does not start, and `DeviceTimeout` if that takes more than `timeout` seconds.

    QEMU does not outlive its parent, however that ends. The kernel counts the *thread* that started it as the parent:
    start it from one that lives as long as the board is used.
    """
    program = shutil.which(QEMU)
    if program is None:
        raise UsageFault(f"{QEMU} is not installed: apt-get install {QEMU}")
    if not Path(image).is_file():
        raise UsageFault(f"there is no U-Boot image {os.fspath(image)}: apt-get install u-boot-qemu, or give image=")
    ours, theirs = socket.socketpair()
    with theirs:
        command = [program, "-M", "virt", "-m", "128", "-accel", "tcg", "-bios", os.fspath(image)]
        command += ["-nographic", "-monitor", "none", "-net", "none", "-serial", "pty"]
        command += ["-chardev", f"socket,id=control,fd={theirs.fileno()}", "-mon", "chardev=control,mode=control"]
        command += ["-S"] if held else []
        # A killed test run must not leave a process behind that burns a processor for ever. (util-linux)
        keeper = shutil.which("setpriv")
        if keeper is not None:
            command = [keeper, "--pdeathsig", "KILL", *command]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=[theirs.fileno()],
            )
        except BaseException:
            ours.close()
            raise
    with RunningUboot(process, ours) as board:
        board._start(time.monotonic() + timeout)
        yield board
