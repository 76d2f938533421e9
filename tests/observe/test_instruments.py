"""Instruments: what they are told, in which order, and that nothing changes because they look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hilbridge.bridge.bridge import Bridge
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.interrupt import Vector
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.errors import DeviceTimeout, DriverFault, InternalFault, RequestCancelled, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.observe.counts import Counts
from hilbridge.observe.instrument import Instrument
from hilbridge.observe.observed import ObservedIoManager, observed_by
from hilbridge.virtual.line import VirtualLine
from tests.observe.observekit import MOMENTS, Raises, Recorder, failing_filter, start_io_driver, watching_filter

TOP = Path(__file__).resolve().parents[2]


def read_one(bridge: Bridge, **options: Any) -> bytes:
    """One read that has to wait for the line: the longest way that a request can go."""
    line = VirtualLine()
    bridge.plug(line, **options)
    with bridge.open("COM1") as port:
        request = port.submit_read(4)
        line.feed(b"1234")
        return request.result()


def test_a_bridge_without_instruments_knows_nothing_of_them() -> None:
    with Bridge.manual() as bridge:
        assert type(bridge.ke) is Kernel
        assert type(bridge.io) is IoManager
        assert bridge.io.irp_class is Irp
        assert type(bridge.ke.vector()) is Vector
        assert bridge.io.fast_io
    question = "import hilbridge, sys; print([m for m in sys.modules if 'observe' in m])"
    done = subprocess.run(
        [sys.executable, "-c", question], cwd=TOP, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_read_is_told_from_its_making_to_its_end() -> None:
    recorder = Recorder()
    with Bridge.manual(**observed_by(recorder)) as bridge:
        assert read_one(bridge) == b"1234"
    ids = [irp.id for (irp,) in recorder.of("irp_created")]
    (read,) = [irp for device, irp, routine in recorder.of("irp_dispatched") if routine.__name__ == "read"]
    assert read.id in ids and len(set(ids)) == len(ids)
    of_the_read = [name for name, arguments in recorder.calls if read in arguments]
    assert of_the_read == [
        "irp_created", "irp_dispatched", "irp_pended", "dispatch_returned", "irp_completing", "irp_completed",
    ]  # fmt: skip
    interrupt = [name for name in recorder.moments if name in ("interrupt_asserted", "interrupt", "dpc_queued", "dpc")]
    assert interrupt == ["interrupt_asserted", "dpc_queued", "interrupt", "dpc"]
    before_the_end = recorder.moments.index("dpc")
    assert recorder.calls.index(("irp_completed", (read,))) > before_the_end


def test_every_moment_is_told() -> None:
    """A method that nobody calls would be a promise that is not kept."""
    recorder = Recorder()
    with Bridge.manual(**observed_by(recorder)) as bridge:
        read_one(bridge, upper_filters=[watching_filter])
        bridge.plug("virtual:null", name="DUT", driver=start_io_driver())
        with bridge.open("DUT") as port:
            first, second = port.submit_read(1), port.submit_read(1)
            first.result()
            second.result()
        bridge.plug(VirtualLine(), name="QUIET")
        with bridge.open("QUIET") as port, pytest.raises(DeviceTimeout):
            port.read(1, timeout=1)
        bridge.plug(VirtualLine(), name="BROKEN", upper_filters=[failing_filter])
        with bridge.open("BROKEN") as port, pytest.raises(DriverFault):
            port.read(1)
        bridge.acknowledge_faults()
    assert [name for name in MOMENTS if name not in recorder.moments] == []


def test_the_base_class_does_nothing_and_accepts_everything() -> None:
    with Bridge.manual(**observed_by(Instrument())) as bridge:
        assert read_one(bridge, upper_filters=[watching_filter]) == b"1234"
        assert bridge.faults == []


def test_requests_of_a_filter_and_its_completion_routine() -> None:
    recorder = Recorder()
    with Bridge.manual(**observed_by(recorder)) as bridge:
        read_one(bridge, upper_filters=[watching_filter])
    (read,) = {irp for _, irp, routine in recorder.of("irp_dispatched") if routine.__name__ == "read"}
    story = [name for name, arguments in recorder.calls if read in arguments]
    assert story == [
        "irp_created",
        "irp_dispatched",  # to the filter,
        "irp_dispatched",  # to the serial driver
        "irp_pended",
        "dispatch_returned",
        "dispatch_returned",
        "irp_completing",
        "completion_routine",
        "irp_pended",  # by the completion routine, which passes it on upward
        "completion_routine_returned",
        "irp_completed",
    ]
    kept = [kept for irp, kept in recorder.of("completion_routine_returned") if irp is read]
    assert kept == [False]


def test_a_second_read_is_told_when_it_is_started() -> None:
    recorder = Recorder()
    with Bridge.manual(**observed_by(recorder)) as bridge:
        line = VirtualLine()
        bridge.plug(line)
        with bridge.open("COM1") as port:
            first, second, third = (port.submit_read(2) for _ in range(3))
            line.feed(b"12")
            first.result()
            assert [irp for _, irp in recorder.of("irp_started")] == [second.irp]
            line.feed(b"3456")
            third.result()
            assert [irp for _, irp in recorder.of("irp_started")] == [second.irp, third.irp]


def test_cancelling_is_told_and_so_is_waiting() -> None:
    recorder = Recorder()
    with Bridge.manual(**observed_by(recorder)) as bridge:
        bridge.plug(VirtualLine())
        with bridge.open("COM1") as port:
            request = port.submit_read(1)
            assert request.wait(timeout=2) is False
            request.cancel()
            with pytest.raises(RequestCancelled):
                request.result()
    assert (request, 2_000_000_000) in recorder.of("wait_began")
    assert (request, False) in recorder.of("wait_ended")
    assert recorder.of("irp_cancelled") == [(request.irp,)]


def test_an_interrupt_that_is_not_claimed() -> None:
    counts = Counts()
    with Bridge.manual(**observed_by(counts)) as bridge:
        one, other = VirtualLine("virtual:one"), VirtualLine("virtual:other")
        bridge.plug(one, vector=0x40)
        bridge.plug(other, vector=0x40)
        with bridge.open("COM2") as port:
            other.feed(b"x")
            assert port.read(1) == b"x"
        assert counts["interrupts"] == 1
        assert counts["unclaimed"] >= 1, "the first driver on the shared vector was not asked"


def test_several_instruments_are_told_alike() -> None:
    recorders = Recorder(), Recorder()
    with Bridge.manual(**observed_by(*recorders)) as bridge:
        read_one(bridge)
    assert recorders[0].calls == recorders[1].calls
    assert recorders[0].moments[0] == "attached"


def test_an_instrument_that_raises_is_switched_off_and_reported_and_nobody_else_notices() -> None:
    recorder, raises = Recorder(), Raises()
    with (
        pytest.raises(
            InternalFault, match=r"Raises raised ZeroDivisionError in irp_dispatched: one too many"
        ) as caught,
        Bridge.manual(**observed_by(raises, recorder)) as bridge,
    ):
        assert read_one(bridge) == b"1234"
        assert len(bridge.faults) == 1, "it is asked no more after its mistake"
        assert bridge.devices()[0]["fault"] == ""
    assert isinstance(caught.value.__cause__, InternalFault)
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)
    assert "irp_completed" in recorder.moments


def test_two_bridges_have_instruments_of_their_own() -> None:
    here, there = Recorder(), Recorder()
    with Bridge.manual(**observed_by(here)) as one, Bridge.manual(**observed_by(there)):
        read_one(one)
    assert "irp_created" in here.moments
    assert there.moments == ["attached"]


def test_requests_take_the_whole_way_while_somebody_looks() -> None:
    """Fast I/O makes no IRP, so it would be a hole in every trace."""
    counts = Counts()
    with Bridge.manual(**observed_by(counts)) as bridge:
        line = VirtualLine(loop=True)
        bridge.plug(line)
        with bridge.open("COM1") as port:
            port.write(b"hello")
            assert port.read(5) == b"hello"
    assert (counts["WRITE"], counts["READ"]) == (1, 1)


def test_half_of_it_is_refused() -> None:
    with pytest.raises(UsageFault, match="observed_by"):
        Bridge.manual(io_manager=ObservedIoManager)
