"""The whole bridge in front of a boot loader that nobody here wrote: U-Boot, under QEMU, on a pty.

Everything that is written goes through the serial driver and comes back as a checksum that U-Boot computed: one byte that
is lost, doubled or changed on the way, in either direction, and the numbers differ.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import hilbridge
from hilbridge import Bridge, DeviceGone, Handle
from hilbridge.bridge.console import Console
from hilbridge.filters.counter import CounterExtension
from hilbridge.model.codes import IrpMajor
from hilbridge.testing.qemu import RunningUboot, start_uboot
from tests.support import PNP_AT_START

pytestmark = [pytest.mark.slow, pytest.mark.needs_qemu]

BOOT = 30.0
"""Seconds until the prompt, on a loaded machine. It takes one."""
RAM = 0x40200000
"""Free memory of the virtual machine: U-Boot itself lies at its end."""


class Bench(NamedTuple):
    board: RunningUboot
    bridge: Bridge
    name: str
    port: Handle
    console: Console[str]


@pytest.fixture(params=[True, False], ids=["steering", "no steering"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """U-Boot at its prompt, with a filter driver that counts above the serial driver, and one below."""
    with start_uboot(held=True) as board, Bridge(steering=request.param) as bridge:
        name = bridge.plug(board.port, name="board", lower_filters=["counter"], upper_filters=["counter"])
        with bridge.open(name) as port:
            board.reset()
            console = port.console(prompt="=> ")
            console.expect("autoboot", timeout=BOOT)
            console.send(" ")
            yield Bench(board, bridge, name, port, console)


def crc32(console: Console[str], address: int, length: int) -> int:
    """What U-Boot thinks is there."""
    answer = console.command(f"crc32 {address:#x} {length:#x}", timeout=BOOT)
    found = re.search(r"==> ([0-9a-f]{8})$", answer)
    assert found, answer
    return int(found[1], 16)


def dump(console: Console[str], address: int, length: int) -> bytes:
    """``md.b``: the bytes themselves, as text, sixteen in a line."""
    answer = console.command(f"md.b {address:#x} {length:#x}", timeout=BOOT)
    data = b""
    for line in answer.splitlines():
        found = re.fullmatch(r"([0-9a-f]{8}): ((?:[0-9a-f]{2} )+) +.{1,16}", line)
        assert found, line
        assert int(found[1], 16) == address + len(data)
        data += bytes.fromhex(found[2])
    return data


def test_version(bench: Bench) -> None:
    assert bench.console.command("version", timeout=BOOT).startswith("U-Boot 20")


PATTERNS = {
    "ones": [0xFFFFFFFF],
    "zeros": [0],
    "checkers": [0x55555555, 0xAAAAAAAA],
    "walking bit": [1 << bit for bit in range(32)],
    "counting": [0x03020100 + 0x04040404 * n for n in range(16)],
}


def test_memory_holds_what_was_written(bench: Bench) -> None:
    """Several patterns, each in many small writes of its own, then checksums over each and over all."""
    console = bench.console
    address, everything = RAM, b""
    for words in PATTERNS.values():
        pattern = b""
        for word in words:
            console.command(f"mw.l {address + len(pattern):#x} {word:#010x} 0x10", timeout=BOOT)
            pattern += struct.pack("<I", word) * 0x10
        assert crc32(console, address, len(pattern)) == zlib.crc32(pattern)
        address += len(pattern)
        everything += pattern
    assert crc32(console, RAM, len(everything)) == zlib.crc32(everything)
    assert dump(console, RAM, 0x200) == everything[:0x200]


def test_checksum_is_not_always_right(bench: Bench) -> None:
    """The test above must be able to fail."""
    bench.console.command(f"mw.l {RAM:#x} 0x12345678 0x100", timeout=BOOT)
    bench.console.command(f"mw.b {RAM + 0x123:#x} 0", timeout=BOOT)
    assert crc32(bench.console, RAM, 0x400) != zlib.crc32(struct.pack("<I", 0x12345678) * 0x100)


def test_both_filters_count_what_passes_them(bench: Bench) -> None:
    def counts(device: Any) -> list[int]:
        assert isinstance(device.extension, CounterExtension)
        return list(device.extension.counts)

    above, serial, below, _bus = bench.bridge.stack(bench.name)
    assert serial.driver_object.name == "serial"
    before = counts(above)
    bench.console.command("version", timeout=BOOT)
    after = counts(above)
    assert after[IrpMajor.CREATE] == 1
    assert after[IrpMajor.READ] > before[IrpMajor.READ]
    assert after[IrpMajor.WRITE] > before[IrpMajor.WRITE]
    # Reads and writes end at the serial driver: it owns the hardware, and there is no driver below that could serve them.
    # What does come by below it is Plug and Play.
    assert {major.name: n for major, n in zip(IrpMajor, counts(below), strict=True) if n} == {"PNP": PNP_AT_START}


def test_much_output_is_whole(bench: Bench, seed: int) -> None:
    """16 KB of memory are 75 KB of text. It was written as random words, one command each for the first hundred."""
    console = bench.console
    dice = random.Random(seed)
    words = [dice.getrandbits(32) for _ in range(100)]
    for n, word in enumerate(words):
        console.command(f"mw.l {RAM + 4 * n:#x} {word:#x}", timeout=BOOT)
    console.command(f"mw.l {RAM + 400:#x} 0x01234567 {(0x4000 - 400) // 4:#x}", timeout=BOOT)
    memory = struct.pack("<100I", *words) + struct.pack("<I", 0x01234567) * ((0x4000 - 400) // 4)
    assert dump(console, RAM, 0x4000) == memory
    assert crc32(console, RAM, 0x4000) == zlib.crc32(memory)


def test_commands_one_behind_the_other_without_waiting(bench: Bench) -> None:
    """Forty commands in one write: they wait in the pty and in the UART, and none is lost."""
    console = bench.console
    console.command("", timeout=BOOT)
    lines = [f"mw.b {RAM + n:#x} {n:#x}" for n in range(40)]
    for _ in range(3):
        bench.port.write("".join(f"{line}\n" for line in lines).encode(), timeout=BOOT)
        for line in lines:
            console.expect_exact(line, timeout=BOOT)
            console.expect_exact("=> ", timeout=BOOT)
    assert crc32(console, RAM, 40) == zlib.crc32(bytes(range(40)))


def test_reset_is_captured_from_the_first_byte(bench: Bench) -> None:
    for _ in range(2):
        bench.console.command("version", timeout=BOOT)
        bench.board.reset()
        bench.console.expect("autoboot", timeout=BOOT)
        assert bench.console.before is not None
        assert bench.console.before.lstrip().startswith("U-Boot 20")
        bench.console.send(" ")
        assert bench.console.command("echo hello", timeout=BOOT) == "hello"


def test_power_fails_in_the_middle_of_a_line(bench: Bench) -> None:
    """What the board said before is delivered; then it is told that it went."""
    console, port = bench.console, bench.port
    console.command("", timeout=BOOT)
    with bench.bridge.open(bench.name, access="r") as witness:
        port.write(b"version")  # no newline: U-Boot echoes it, and waits
        assert witness.read(7, timeout=BOOT) == b"version"
    assert port.read(4) == b"vers"
    request = port.submit_read(100, terminator=b"never")
    bench.board.stop()
    assert request.result(BOOT) == b"ion"
    with pytest.raises(DeviceGone):
        port.read(1)
    assert bench.bridge.faults == []


def test_ten_lines_of_script() -> None:
    """As the README has it, without filters: reads and writes need no IRP then."""
    with start_uboot(held=True) as board, hilbridge.open(board.port, baudrate=115200) as dut:
        board.reset()
        con = dut.console(prompt="=> ")
        con.expect(r"autoboot", timeout=BOOT)
        con.send(" ")
        assert "U-Boot" in con.command("version", timeout=BOOT)
        con.command(f"mw.l {RAM:#x} 0xdeadbeef 0x1000", timeout=BOOT)
        assert crc32(con, RAM, 0x4000) == zlib.crc32(struct.pack("<I", 0xDEADBEEF) * 0x1000)
