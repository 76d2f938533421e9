"""What these tests share: a bridge with a healthy device in it, which must not notice whatever happens beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hilbridge import Bridge, HilbridgeError
from hilbridge.virtual.line import VirtualLine

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
NOBODY = 65534


class Healthy:
    """A bridge, one device in it, and a read that waits on that device from the beginning to the end."""

    def __init__(self) -> None:
        self.bridge = Bridge()
        self.line = VirtualLine("virtual:healthy", loop=True)
        self.bridge.plug(self.line, name="healthy")
        self.handle = self.bridge.open("healthy")
        self.request = self.handle.submit_read(5)

    def check(self) -> None:
        """Nobody else is there any more, and the device works: the read that has waited, and new ones."""
        # A device that went is taken down by the system worker: wait until that has done what is queued before us.
        idle = threading.Event()
        self.bridge.ke.queue_work_item(idle.set)
        assert idle.wait(PATIENCE)
        assert [device["name"] for device in self.bridge.devices()] == ["healthy"]
        assert self.bridge.faults == []
        assert not self.request.done
        self.handle.write(b"still")
        assert self.request.result(PATIENCE) == b"still"
        self.handle.write(b" here")
        assert self.handle.read(5) == b" here"
        assert self.bridge.pending() == []

    def close(self) -> None:
        self.bridge.close()


class Expected:
    """Which error, with which exit code, saying what."""

    def __init__(self, kind: type[HilbridgeError], exit_code: int, *says: str, also: type[BaseException]) -> None:
        self.kind, self.exit_code, self.says, self.also = kind, exit_code, says, also

    def check(self, error: HilbridgeError) -> None:
        assert type(error) is self.kind, repr(error)
        assert error.exit_code == self.exit_code
        assert isinstance(error, self.also), "a caller would catch that builtin"
        assert error.status.is_error
        message = str(error)
        assert "\n" not in message
        assert len(message) < 300, message
        for words in self.says:
            assert words in message


def hilbridge(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line."""
    return subprocess.run(
        [sys.executable, "-m", "hilbridge", *words],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# Everything is imported, and the healthy device is there, before the privileges go: where Python is installed may be closed
# to other users.
OPEN = """
import json, os, sys
import hilbridge, hilbridge.hal.serial_line
path, uid = sys.argv[1], int(sys.argv[2])
with hilbridge.Bridge() as bridge:
    with bridge.open(bridge.plug("virtual:loop", name="healthy")) as healthy:
        healthy.write(b"first")
        healthy.read(5)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        try:
            bridge.plug(path)
            answer = {"kind": "opened"}
        except hilbridge.HilbridgeError as error:
            answer = {"kind": type(error).__name__, "exit": error.exit_code, "message": str(error)}
        healthy.write(b"still here")
        answer["healthy"] = healthy.read(10).decode()
print(json.dumps(answer))
"""


def plug_as_somebody_else(path: str, uid: int = NOBODY) -> dict[str, Any]:
    """Another process, which is not root, plugs `path` into a bridge with a healthy device."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, path, str(uid)],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
