"""The story, told from runs on the hand-cranked machine: what it says, and which runs have none."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.request import Request
from hilbridge.model.errors import UsageFault
from hilbridge.observe.observed import observed_by
from hilbridge.observe.story import WIDTH, steps, tell
from hilbridge.observe.trace import Trace
from hilbridge.virtual.line import VirtualLine
from tests.observe.observekit import watching_filter


def two_reads(trace: Trace, fed: bytes = b"123", **options: Any) -> tuple[int, int]:
    """A read of 2 bytes and one of 1 byte behind it; returns the ids of their IRPs."""
    with Bridge.manual(**observed_by(trace)) as bridge:
        line = VirtualLine()
        bridge.plug(line, **options)
        with bridge.open("COM1") as port:
            first, second = port.submit_read(2), port.submit_read(1)
            line.feed(fed)
            bridge.machine.run_until_idle()
    assert first.irp is not None and second.irp is not None
    return first.irp.id, second.irp.id


def test_the_eleven_steps() -> None:
    trace = Trace()
    first, second = two_reads(trace)
    told = list(steps(trace, first, b"12", Request.result))
    assert [step.number for step in told] == list(range(1, 12))
    assert [step.name for step in told] == [
        "namespace", "I/O manager", "dispatch table", "driver", "", "poller", "ISR chain", "DPC", "complete", "next", "app",
    ]  # fmt: skip
    says = [step.says for step in told]
    assert (
        says[0] == "COM1 -> \\DosDevices\\COM1 -> \\Device\\Serial0 -> the top of its device stack: serial over rootbus"
    )
    assert f"IRP 0x{first:04X}: IRP_MJ_READ, 2 bytes, with 2 stack locations" in says[1]
    assert "driver serial" in says[2]
    assert "as the first of the port's read queue" in says[3]
    assert f"returns STATUS_PENDING: the caller goes on, with IRP 0x{second:04X} (IRP_MJ_READ, 1 byte)" in says[4]
    assert "vector 0x30" in says[5] and "driver serial says True (mine), and queues the DPC receive_dpc" in says[6]
    assert f"moves 2 bytes into IRP 0x{first:04X}" in says[7]
    assert "STATUS_SUCCESS, 2 bytes; no completion routine" in says[8]
    assert f"IRP 0x{second:04X}, which waited behind it, is started" in says[9]
    assert "it ends with STATUS_SUCCESS, 1 byte" in says[9]
    assert says[10] == "has its 2 bytes: b'12'"
    assert [step.code[0] for step in told] == [
        "hilbridge/iomgr/namespace.py:Namespace.resolve",
        "hilbridge/iomgr/files.py:FileRoutines.submit_read",
        "hilbridge/drivers/serial/read.py:read",
        "hilbridge/drivers/serial/read.py:read",
        "hilbridge/bridge/handle.py:Handle.submit_read",
        "hilbridge/kernel/manual.py:ManualMachine.step",
        "hilbridge/drivers/serial/isr.py:isr",
        "hilbridge/drivers/serial/isr.py:receive_dpc",
        "hilbridge/drivers/serial/read.py:complete_all",
        "hilbridge/drivers/serial/read.py:serve_readers",
        "hilbridge/bridge/request.py:Request.result",
    ]


def test_a_filter_is_part_of_the_story() -> None:
    trace = Trace()
    first, _ = two_reads(trace, upper_filters=[watching_filter])
    told = {step.name: step for step in steps(trace, first, b"12", Request.result)}
    assert told["dispatch table"].code == ("observekit.py:_watch", "hilbridge/drivers/serial/read.py:read")
    assert "1 completion routine" in told["complete"].says
    assert "observekit.py:seen_again" in told["complete"].code


def test_the_second_read_has_a_story_too_until_something_waits_behind_it() -> None:
    trace = Trace()
    first, second = two_reads(trace)
    with pytest.raises(UsageFault, match="irp_started is missing"):
        tell(trace, second, b"3", Request.result)
    told = iter(steps(trace, second, b"3", Request.result))
    says = [next(told).says for _ in range(9)]
    assert f"pending, behind IRP 0x{first:04X}" in says[3]


def test_the_same_run_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        trace = Trace()
        first, _ = two_reads(trace)
        stories.append(tell(trace, first, b"12", Request.result))
    assert stories[0] == stories[1]
    lines = stories[0].splitlines()
    assert all(len(line) <= WIDTH and line == line.rstrip() for line in lines)
    assert "\xa0" not in stories[0]
    assert not any(line.endswith("IRP") for line in lines), "an IRP and its id stay on one line"


def test_a_read_that_did_not_wait_has_no_story() -> None:
    trace = Trace()
    with Bridge.manual(**observed_by(trace)) as bridge:
        line = VirtualLine()
        bridge.plug(line)
        with bridge.open("COM1") as port:
            line.feed(b"12")
            bridge.machine.run_until_idle()
            request = port.submit_read(2)
            assert request.result() == b"12"
    assert request.irp is not None
    with pytest.raises(UsageFault, match="no story of IRP 0x"):
        tell(trace, request.irp.id, b"12", Request.result)


def test_traces_that_cannot_tell() -> None:
    trace = Trace(callers=False)
    first, _ = two_reads(trace)
    with pytest.raises(UsageFault, match="callers=True"):
        tell(trace, first, b"12", Request.result)
    with pytest.raises(UsageFault, match="irp_created is missing"):
        tell(trace, 0xFFFF, b"", Request.result)
    cut = Trace(limit=5)
    first, _ = two_reads(cut)
    with pytest.raises(UsageFault, match="is missing"):
        tell(cut, first, b"12", Request.result)
