"""The three queues: who is presented when, at which IRQL, and that each request ends exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import BugCheck, DriverFault, RequestCancelled, UsageFault, ddk
from tests.ddk.ddkkit import Bare, Setup, bare, irp_id, plug, plugged
from tests.support import Thread, now


def served(request: ddk.Request) -> None:
    """A handler that answers at once."""
    if request.major == ddk.IrpMajor.WRITE:
        request.complete(information=request.length)
    else:
        request.complete(data=b"answer"[: request.length])


def sequential(self: Bare) -> None:
    self.queue = ddk.SequentialQueue(self, read=self.keep)  # type: ignore[attr-defined]


def manual(self: Bare) -> None:
    self.queue = ddk.ManualQueue(self, ddk.IrpMajor.READ)  # type: ignore[attr-defined]


def queue_of(it: Setup) -> Any:
    return it.device.queues[0]


# -- dispatching ---------------------------------------------------------------------------------------------------------


def test_sequential_presents_the_next_when_the_current_one_completes() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        first, second = handle.submit_read(6), handle.submit_read(6)
        assert [request.irp.id for request in it.device.kept] == [irp_id(first)]
        assert len(queue_of(it)) == 1
        it.device.kept[0].complete(data=b"first")
        assert len(it.device.kept) == 2
        assert not second.done
        it.device.kept[1].complete(data=b"second")
        assert (first.result(), second.result()) == (b"first", b"second")


def test_a_handler_of_a_sequential_queue_that_completes_at_once_is_not_called_again_before_it_returns() -> None:
    inside: list[int] = []
    depths: list[int] = []

    def read(request: ddk.Request) -> None:
        inside.append(1)
        depths.append(len(inside))
        request.complete(data=b"x")
        inside.pop()

    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=read))) as it, it.open() as handle:
        queue_of(it).stop()
        requests = [handle.submit_read(1) for _ in range(4)]
        queue_of(it).start()
        assert [request.result() for request in requests] == [b"x"] * 4
        assert depths == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", [ddk.SequentialQueue, ddk.ParallelQueue])
def test_ten_thousand_requests_in_a_chain_use_no_stack(kind: Any) -> None:
    """Each handler completes its request, which lets the next one come: in a loop, not nested."""
    count = 10_000

    def setup(self: Bare) -> None:
        kind(self, write=served)

    with plugged(bare(setup), verify=False) as it, it.open() as handle:
        queue_of(it).stop()
        requests = [handle.submit_write(b"x") for _ in range(count)]
        assert not any(request.done for request in requests)
        queue_of(it).start()
        assert all(request.done for request in requests)


def test_parallel_presents_all_or_up_to_its_limit() -> None:
    for limit, presented in ((None, 4), (1, 1), (3, 3)):

        def setup(self: Bare, limit: int | None = limit) -> None:
            ddk.ParallelQueue(self, limit=limit, read=self.keep)

        with plugged(bare(setup)) as it, it.open() as handle:
            requests = [handle.submit_read(1) for _ in range(4)]
            assert len(it.device.kept) == presented
            for _ in range(4):  # any order
                next(r for r in reversed(it.device.kept) if not r.ended).complete(data=b"x")
            assert all(request.done for request in requests)


def test_parallel_with_a_limit_of_nothing_is_refused() -> None:
    with (
        pytest.raises(DriverFault, match="limit=0 never presents"),
        plugged(bare(lambda self: ddk.ParallelQueue(self, limit=0, read=served))),
    ):
        raise AssertionError("it was plugged in")


def test_manual_gives_the_oldest_or_that_of_a_file() -> None:
    with plugged(bare(manual)) as it, it.open("r") as one, it.open("r") as other:
        first, second, third = one.submit_read(9), other.submit_read(9), other.submit_read(9)
        queue = queue_of(it)
        of_other = queue.retrieve(other.file)
        assert of_other.irp is second.irp
        of_other.complete(data=b"second")
        oldest = queue.retrieve()
        assert oldest.irp is first.irp
        assert queue.retrieve(one.file) is None
        oldest.complete(data=b"first")
        queue.retrieve().complete(data=b"third")
        assert queue.retrieve() is None
        assert [r.result() for r in (first, second, third)] == [b"first", b"second", b"third"]


def test_a_manual_queue_says_when_there_is_something_where_there_was_nothing() -> None:
    ready: list[int] = []

    def setup(self: Bare) -> None:
        ddk.ManualQueue(self, ddk.IrpMajor.READ, on_ready=lambda queue: ready.append(len(queue)))

    with plugged(bare(setup)) as it, it.open() as handle:
        queue = queue_of(it)
        first = handle.submit_read(1)
        second = handle.submit_read(1)
        assert ready == [1]
        first.cancel()
        second.cancel()
        assert len(queue) == 0
        queue.stop()
        third = handle.submit_read(1)
        assert ready == [1]
        queue.start()
        assert ready == [1, 1]
        queue.retrieve().complete(data=b"x")
        assert third.result() == b"x"


def test_on_ready_that_raises_is_the_drivers_fault() -> None:
    def wrong(queue: ddk.ManualQueue) -> None:
        raise ValueError("not that")

    with plugged(bare(lambda self: ddk.ManualQueue(self, ddk.IrpMajor.READ, on_ready=wrong))) as it:
        with it.open() as handle, pytest.raises(DriverFault, match=r"ValueError: not that in its on_ready routine"):
            handle.read(1)
        it.bridge.acknowledge_faults()


def test_requests_move_from_queue_to_queue_with_their_context() -> None:
    def setup(self: Bare) -> None:
        def read(request: ddk.Request) -> None:
            request.context = "noted"
            request.forward_to(later)

        ddk.SequentialQueue(self, read=read)
        later = ddk.ManualQueue(self)

    with plugged(bare(setup)) as it, it.open() as handle:
        first, second = handle.submit_read(6), handle.submit_read(6)
        sequential, later = it.device.queues
        assert (len(sequential.in_flight), len(later)) == (0, 2)
        second.cancel()
        with pytest.raises(RequestCancelled):
            second.result()
        assert isinstance(later, ddk.ManualQueue)
        request = later.retrieve()
        assert request is not None
        assert request.context == "noted"
        request.complete(data=b"later")
        assert first.result() == b"later"


def test_a_request_is_not_moved_to_a_queue_without_a_handler_for_it() -> None:
    def setup(self: Bare) -> None:
        ddk.SequentialQueue(self, read=lambda request: request.forward_to(writes))
        writes = ddk.SequentialQueue(self, write=served)

    with plugged(bare(setup)) as it:
        with it.open() as handle, pytest.raises(DriverFault, match="without a handler for it; give it one"):
            handle.read(1)
        it.bridge.acknowledge_faults()


def test_a_major_function_has_one_queue() -> None:
    def twice(self: Bare) -> None:
        ddk.SequentialQueue(self, read=served)
        ddk.ParallelQueue(self, read=served)

    with pytest.raises(DriverFault, match="READ requests have a queue already"), plugged(bare(twice)):
        raise AssertionError("it was plugged in")
    with (
        pytest.raises(DriverFault, match="CREATE requests cannot wait in a queue"),
        plugged(bare(lambda self: ddk.ManualQueue(self, ddk.IrpMajor.CREATE))),
    ):
        raise AssertionError("it was plugged in")


# -- IRQL ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("passive", "levels"), [(False, [0, 2, 2]), (True, [0, 0, 0])])
def test_at_which_irql_requests_are_presented(passive: bool, levels: list[int]) -> None:
    """The first by who brings it, the others by who makes room for them: here, at DISPATCH_LEVEL."""
    seen: list[int] = []

    def setup(self: Bare) -> None:
        def read(request: ddk.Request) -> None:
            seen.append(self.ke.irql)
            self.keep(request)

        ddk.SequentialQueue(self, read=read, passive=passive)

    with plugged(bare(setup)) as it, it.open() as handle:
        requests = [handle.submit_read(1) for _ in levels]
        for number in range(len(levels)):
            with it.bridge.ke.raised_irql(ddk.DISPATCH_LEVEL):
                it.device.kept[number].complete(data=b"x")
            it.idle()
        assert seen == levels
        assert all(request.result() == b"x" for request in requests)


def test_a_handler_of_a_sequential_queue_is_not_called_while_it_runs_though_another_thread_makes_room() -> None:
    running: list[int] = []
    together: list[int] = []

    def read(request: ddk.Request) -> None:
        running.append(1)
        together.append(len(running))
        Thread(lambda: request.complete(data=b"x")).finish()  # the other thread presents nothing: we still run
        running.pop()

    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=read))) as it, it.open() as handle:
        queue_of(it).stop()
        requests = [handle.submit_read(1) for _ in range(3)]
        queue_of(it).start()
        assert [request.result() for request in requests] == [b"x"] * 3
        assert together == [1, 1, 1]


# -- buffers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [ddk.DO_BUFFERED_IO, ddk.DO_DIRECT_IO, 0])
def test_input_and_output_are_where_the_flags_of_the_device_say(flags: int) -> None:
    written: list[bytes] = []

    def write(request: ddk.Request) -> None:
        assert len(request.output) == 0
        written.append(request.input)
        request.complete(information=request.length)

    def read(request: ddk.Request) -> None:
        assert request.input == b""
        assert len(request.output) == request.length == 4
        request.complete(data=b"abc")

    both = bare(lambda self: ddk.ParallelQueue(self, read=read, write=write))
    with plugged(both, flags=flags) as it, it.open() as handle:
        handle.write(b"hello")
        assert written == [b"hello"]
        assert handle.submit_read(4).result() == b"abc"


def test_a_flush_has_neither() -> None:
    def flush(request: ddk.Request) -> None:
        assert (request.length, request.input, bytes(request.output)) == (0, b"", b"")
        request.complete()

    with plugged(bare(lambda self: ddk.ParallelQueue(self, flush=flush))) as it, it.open() as handle:
        handle.flush()


# -- exactly once ----------------------------------------------------------------------------------------------------------


def test_completed_twice_is_a_bug_check() -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=self.clutch))) as it:
        with it.open() as handle:
            request = handle.submit_read(1)
            it.device.kept[0].complete(data=b"x")
            with pytest.raises(BugCheck) as caught:
                it.device.kept[0].complete(data=b"y")
            assert caught.value.code == 0x44
            assert request.data == b"x"
        it.bridge.acknowledge_faults()


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        (lambda request: request.complete(ddk.STATUS_PENDING), 0x06),
        (lambda request: request.complete(data=b"xx"), 0x312),
    ],
)
def test_what_a_request_cannot_end_with(wrong: Any, parameter: int) -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=wrong)), verify=False) as it:
        with it.open() as handle, pytest.raises(BugCheck) as caught:
            handle.read(1)
        assert (caught.value.code, caught.value.parameters[0]) == (0xC9, parameter)
        it.bridge.acknowledge_faults()


def test_a_handler_that_raises_is_the_drivers_fault_and_its_request_ends() -> None:
    def wrong(request: ddk.Request) -> None:
        raise ValueError("no")

    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=wrong))) as it:
        with it.open() as handle:
            request = None
            with pytest.raises(
                DriverFault, match=r"driver made .*raised ValueError: no in its handler for READ"
            ) as caught:
                request = handle.submit_read(1)
                request.result()
            assert caught.value.place is not None
            assert "test_queues.py" in caught.value.place
            with pytest.raises(DriverFault):
                handle.read(1)
        assert len(it.bridge.acknowledge_faults()) == 1


def test_an_irp_whose_cancel_routine_is_taken_does_not_end_before_that_was_called() -> None:
    """The canceller has taken it, and is about to call it: until then the IRP has to be there. What was decided stands."""
    with plugged(bare(sequential)) as it, it.open() as handle:
        request, (kept,) = handle.submit_read(1), it.device.kept
        routine = kept.irp.set_cancel_routine(None)
        assert routine is not None
        assert kept.complete(data=b"x")
        assert not now(request.done)
        routine(None, kept.irp)
        assert (request.done, request.data) == (True, b"x")
        assert not it.device.cancelled


def test_what_the_hardware_says_is_how_the_request_ends() -> None:
    """A handler lets the error of its line pass: nobody's mistake."""

    def gone(request: ddk.Request) -> None:
        raise ddk.DeviceFault("the paper is jammed", status=ddk.STATUS_DEVICE_DATA_ERROR)

    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=gone))) as it, it.open() as handle:
        for _ in range(2):
            with pytest.raises(Exception, match="the paper is jammed") as caught:
                handle.read(1)
            assert getattr(caught.value, "status", None) == ddk.STATUS_DEVICE_DATA_ERROR
        assert not it.bridge.faults


def test_unmark_cancelable() -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=self.clutch))) as it, it.open() as handle:
        request = handle.submit_read(1)
        kept = it.device.kept[0]
        assert kept.unmark_cancelable()
        assert kept.on_cancel(it.device.cancel)
        with pytest.raises(DriverFault, match="is cancelable already"):
            kept.on_cancel(it.device.cancel)
        with pytest.raises(DriverFault, match="is cancelable: unmark_cancelable"):
            kept.forward_to(queue_of(it))
        assert kept.unmark_cancelable()
        assert not kept.cancelable
        assert kept.on_cancel(it.device.cancel)
        request.cancel()
        assert not kept.unmark_cancelable()
        assert not kept.complete(data=b"x")  # too late, and no mistake
        with pytest.raises(RequestCancelled):
            request.result()


def test_a_read_of_a_device_without_a_queue_for_it() -> None:
    with plugged(bare(lambda self: None)) as it, it.open() as handle, pytest.raises(UsageFault):
        handle.read(1)


def test_two_devices_of_one_driver() -> None:
    made = bare(sequential)
    with plugged(made) as it:
        entry = ddk.driver(made)
        it.bridge.plug("virtual:null", driver=entry, name="one")
        it.bridge.plug("virtual:null", driver=entry, name="two")
        contexts = [ddk.context_of(it.bridge.stack(name)[0], Bare) for name in ("DUT", "one", "two")]
        assert len({id(context) for context in contexts}) == 3
        assert contexts[1].driver is contexts[2].driver
        assert plug(it.bridge, made, "three") is not contexts[2]
