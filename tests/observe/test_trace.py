"""Traces: what they keep, and what they leave out."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.model.errors import DriverFault
from hilbridge.observe.observed import observed_by
from hilbridge.observe.trace import Trace
from hilbridge.virtual.line import VirtualLine
from tests.observe.observekit import failing_filter, watching_filter


def traced_read(trace: Trace, **options: Any) -> int:
    """A read that waits for two bytes; returns the id of its IRP."""
    with Bridge.manual(**observed_by(trace)) as bridge:
        line = VirtualLine()
        bridge.plug(line, **options)
        with bridge.open("COM1") as port:
            request = port.submit_read(2)
            bridge.machine.advance(3)
            line.feed(b"ab")
            assert request.result() == b"ab"
    assert request.irp is not None
    return request.irp.id


def test_events_are_numbered_in_order_and_carry_the_irps_id() -> None:
    trace = Trace()
    irp_id = traced_read(trace)
    assert [event.number for event in trace.events] == list(range(1, len(trace.events) + 1))
    assert [event.kind for event in trace.of(irp_id)] == [
        "irp_created", "irp_dispatched", "irp_pended", "dispatch_returned", "wait_began",
        "irp_completing", "irp_completed", "wait_ended",
    ]  # fmt: skip
    (sent,) = trace.of(irp_id, "irp_dispatched")
    assert sent.device == "serial \\Device\\Serial0"
    assert sent.routine == "hilbridge/drivers/serial/read.py:read"
    assert sent.detail == {"major": "READ", "length": 2}
    (ended,) = trace.of(irp_id, "irp_completed")
    assert ended.detail == {"status": "STATUS_SUCCESS", "information": 2}


def test_times_are_those_of_the_bridges_clock() -> None:
    trace = Trace()
    irp_id = traced_read(trace)
    (began,) = trace.of(irp_id, "irp_created")
    (ended,) = trace.of(irp_id, "irp_completed")
    assert ended.time - began.time == 3_000_000_000


def test_who_called_is_named_innermost_first_without_the_instruments() -> None:
    trace = Trace()
    irp_id = traced_read(trace)
    (pended,) = trace.of(irp_id, "irp_pended")
    assert pended.path[:2] == (
        "hilbridge/iomgr/csq.py:CancelSafeQueue.insert_locked",
        "hilbridge/drivers/serial/read.py:read",
    )
    assert f"hilbridge/bridge/handle.py:{Handle.submit_read.__qualname__}" in pended.path
    assert not [code for event in trace.events for code in event.path if "observe" in code.partition(":")[0]]


def test_without_callers_a_trace_is_leaner() -> None:
    trace = Trace(callers=False)
    traced_read(trace)
    assert {event.path for event in trace.events} == {()}


def test_a_trace_keeps_the_latest_and_counts_what_it_drops() -> None:
    everything, some = Trace(), Trace(limit=10)
    traced_read(everything)
    traced_read(some)
    assert everything.dropped == 0
    assert len(some.events) == 10
    assert some.dropped == len(everything.events) - 10
    assert [e.kind for e in some.events] == [e.kind for e in everything.events][-10:]


def test_an_empty_trace() -> None:
    trace = Trace()
    assert trace.events == []
    assert trace.dropped == 0


def test_an_event_in_words() -> None:
    trace = Trace()
    irp_id = traced_read(trace, upper_filters=[watching_filter])
    lines = [str(event) for event in trace.of(irp_id)]
    assert lines[2].split() == [
        lines[2].split()[0], "irp_dispatched", f"IRP 0x{irp_id:04X}".split()[0], f"0x{irp_id:04X}",
        "serial", "\\Device\\Serial0", "hilbridge/drivers/serial/read.py:read", "major=READ", "length=2",
    ]  # fmt: skip
    assert any(re.search(r"completion_routine IRP .*observekit\.py:seen_again", line) for line in lines)


def test_interrupts_and_dpcs_have_a_vector_and_an_irql_but_no_irp() -> None:
    trace = Trace()
    traced_read(trace)
    (interrupt,) = [event for event in trace.events if event.kind == "interrupt"]
    assert interrupt.irp_id is None
    assert interrupt.routine == "hilbridge/drivers/serial/isr.py:isr"
    assert interrupt.detail == {"vector": 0x30, "irql": 3, "claimed": True}
    (dpc,) = [event for event in trace.events if event.kind == "dpc"]
    assert dpc.detail == {"irql": 2}


def test_faults_are_in_the_trace() -> None:
    trace = Trace()
    with Bridge.manual(**observed_by(trace)) as bridge:
        bridge.plug(VirtualLine(), upper_filters=[failing_filter])
        with bridge.open("COM1") as port, pytest.raises(DriverFault):
            port.read(1)
        bridge.acknowledge_faults()
    (fault,) = [event for event in trace.events if event.kind == "fault"]
    assert fault.device.startswith("observekit"), "the driver's name is that of its module"
    assert "LookupError" in fault.detail["fault"]
