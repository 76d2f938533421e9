"""Starting U-Boot: what can go wrong, and that nothing is left behind. The boot loader itself is in tests/peers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hilbridge.model.errors import DeviceFault, DeviceGone, DeviceTimeout, HilbridgeError, UsageFault
from hilbridge.testing import qemu
from hilbridge.testing.qemu import start_uboot

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 30.0


def fails_to_start(**options: object) -> HilbridgeError:
    with pytest.raises(HilbridgeError) as failure, start_uboot(**options):  # type: ignore[arg-type]
        pass
    assert "\n" not in str(failure.value)
    return failure.value


def fake_qemu(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is found instead of QEMU."""
    program = directory / qemu.QEMU
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "u-boot.bin"
    image.write_bytes(b"an image")
    return image


def test_missing_qemu_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    fault = fails_to_start(image=image)
    assert isinstance(fault, UsageFault)
    assert "apt-get install qemu-system-arm" in str(fault)


def test_missing_image_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_qemu(tmp_path, "", monkeypatch)
    fault = fails_to_start(image=tmp_path / "not there")
    assert isinstance(fault, UsageFault)
    assert "not there" in str(fault)
    assert "apt-get install u-boot-qemu" in str(fault)


def test_qemu_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path) -> None:
    fake_qemu(tmp_path, "import sys; sys.exit('no such machine')", monkeypatch)
    fault = fails_to_start(image=image)
    assert isinstance(fault, DeviceFault)
    assert "no such machine" in str(fault)


def test_qemu_that_ends_behind_its_ptys_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path) -> None:
    """As when it cannot read the image: the pty comes first."""
    fake_qemu(tmp_path, "print('char device redirected to /dev/pts/9 (label serial0)\\nbad image')", monkeypatch)
    fault = fails_to_start(image=image)
    assert isinstance(fault, DeviceGone)
    assert "bad image" in str(fault)


@pytest.mark.parametrize(
    "says", ["nothing", "char device redirected to /dev/pts/9 (label serial0)"], ids=["no pty", "no answer"]
)
def test_qemu_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path, says: str) -> None:
    fake_qemu(tmp_path, f"import signal; print({says!r}, flush=True); signal.pause()", monkeypatch)
    fault = fails_to_start(image=image, timeout=0.5)
    assert isinstance(fault, DeviceTimeout)


def test_qemu_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Path) -> None:
    monkeypatch.setattr(qemu, "_STOP_DEADLINE", 0.05)
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    fake_qemu(tmp_path, script, monkeypatch)
    assert isinstance(fails_to_start(image=image, timeout=0.5), DeviceTimeout)


@pytest.mark.needs_qemu
def test_image_that_qemu_does_not_take(tmp_path: Path) -> None:
    empty = tmp_path / "directory.bin"
    empty.write_bytes(bytes(65 << 20))  # the flash of the machine has 64 MB
    fault = fails_to_start(image=empty)
    assert isinstance(fault, DeviceFault)
    assert len(str(fault)) > 30


@pytest.mark.needs_qemu
def test_held_board_stands_still_until_it_is_reset() -> None:
    with start_uboot(held=True) as board:
        fd = os.open(board.port, os.O_RDWR | os.O_NOCTTY)
        try:
            assert not qemu._is_ready(fd, 0.0)
            board.reset()
            assert qemu._is_ready(fd, time.monotonic() + PATIENCE)
        finally:
            os.close(fd)


@pytest.mark.needs_qemu
def test_stopped_board_is_gone_and_says_so() -> None:
    with start_uboot(held=True) as board:
        board.stop()
        board.stop()
        assert not Path(f"/proc/{board.pid}").exists()
        with pytest.raises(UsageFault):
            board.reset()


@pytest.mark.needs_qemu
def test_board_whose_qemu_was_killed() -> None:
    with start_uboot(held=True) as board:
        os.kill(board.pid, 9)
        with pytest.raises(DeviceGone):
            board.reset()


@pytest.mark.needs_qemu
def test_board_does_not_outlive_a_killed_parent() -> None:
    """It would burn a processor for ever."""
    script = (
        "import sys; from hilbridge.testing.qemu import start_uboot\n"
        "with start_uboot() as board: print(board.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            assert qemu._is_ready(pidfd, time.monotonic() + PATIENCE), "QEMU runs on"
        finally:
            os.close(pidfd)
