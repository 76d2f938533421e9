"""Queues that are held, drained and purged, whose files are closed, and whose device is stopped or goes."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import DriverFault, RequestCancelled, ddk
from hilbridge.model.codes import PnpMinor
from tests.ddk.ddkkit import Bare, Setup, bare, dpc, irp_id, plugged
from tests.support import now


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


# -- stop, start, drain, purge -------------------------------------------------------------------------------------------


def test_stop_holds_and_start_lets_go() -> None:
    with plugged(bare(lambda self: ddk.ParallelQueue(self, write=served))) as it, it.open() as handle:
        queue = queue_of(it)
        queue.stop()
        waiting = handle.submit_write(b"abc")
        assert not waiting.done
        assert queue.wait_until_idle(0)  # nothing is in flight
        queue.start()
        assert waiting.done


def test_held_requests_can_be_cancelled() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        queue_of(it).stop()
        request = handle.submit_read(1)
        request.cancel()
        with pytest.raises(RequestCancelled):
            request.result()
        assert not it.device.kept


def test_drain_refuses_what_comes_and_serves_what_is_there() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        queue = queue_of(it)
        requests = [handle.submit_read(1), handle.submit_read(1)]
        queue.drain()
        with pytest.raises(Exception, match="INVALID_DEVICE_STATE"):
            handle.read(1)
        assert not queue.wait_until_idle(1.0)  # virtual time
        for number in range(2):
            it.device.kept[number].complete(data=b"x")
        assert queue.wait_until_idle(1.0)
        assert [request.result() for request in requests] == [b"x", b"x"]
        queue.start()
        again = handle.submit_read(1)
        it.device.kept[2].complete(data=b"y")
        assert again.result() == b"y"


def test_purge_ends_what_waits_and_cancels_what_is_in_flight() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        requests = [handle.submit_read(1) for _ in range(3)]
        queue = queue_of(it)
        queue.purge()
        assert [request.irp.id for request in it.device.cancelled] == [irp_id(requests[0])]
        assert queue.wait_until_idle(0)
        for request in requests:
            with pytest.raises(RequestCancelled):
                request.result()
        with pytest.raises(Exception, match="INVALID_DEVICE_STATE"):
            handle.read(1)


def test_purge_while_a_request_is_not_cancelable_yet() -> None:
    """It is marked cancelable only when the purge is over: it is cancelled at that moment."""
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=self.clutch))) as it, it.open() as handle:
        request = handle.submit_read(1)
        queue_of(it).purge()
        assert not request.done
        assert not it.device.kept[0].on_cancel(it.device.cancel)
        with pytest.raises(RequestCancelled):
            request.result()


def test_a_wait_for_an_idle_queue_is_woken_by_the_last_completion() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        request = handle.submit_read(1)
        wakes = dpc(lambda: it.device.kept[0].complete(data=b"x"))
        it.bridge.ke.set_timer(ddk.Ktimer(), ddk.relative_ms(500), 0, wakes)
        queue_of(it).stop()
        before = it.bridge.ke.clock.now()
        assert queue_of(it).wait_until_idle(10.0)
        assert it.bridge.ke.clock.now() - before == 500_000_000
        assert request.result() == b"x"


# -- files ---------------------------------------------------------------------------------------------------------------


def test_closing_a_handle_cancels_what_it_has_waiting_and_nothing_else() -> None:
    files: list[str] = []
    hooks = {
        "cleanup": lambda self, file: files.append(f"cleanup with {len(self.queues[0])} left"),
        "close": lambda self, file: files.append("close"),
    }
    with plugged(bare(manual, **hooks)) as it, it.open("r") as other:
        with it.open("r") as handle:
            mine, theirs = [handle.submit_read(1), handle.submit_read(1)], other.submit_read(1)
        assert all(request.done and request.status == ddk.STATUS_CANCELLED for request in mine)
        assert not theirs.done
        assert files == ["cleanup with 1 left", "close"]
        queue_of(it).retrieve().complete(data=b"x")
        assert theirs.result() == b"x"


def test_closing_a_handle_calls_back_for_what_is_in_flight() -> None:
    with plugged(bare(sequential)) as it:
        with it.open() as handle:
            request = handle.submit_read(1)
        assert request.status == ddk.STATUS_CANCELLED
        assert len(it.device.cancelled) == 1


# -- stopped and removed -------------------------------------------------------------------------------------------------


def test_requests_are_held_while_the_device_is_stopped() -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, write=served))) as it, it.open() as handle:
        assert it.pnp(PnpMinor.QUERY_STOP_DEVICE) == ddk.STATUS_SUCCESS
        assert handle.submit_write(b"between").done  # it is asked, and goes on working
        assert it.pnp(PnpMinor.STOP_DEVICE) == ddk.STATUS_SUCCESS
        request = handle.submit_write(b"while stopped")
        it.idle()
        assert not now(request.done)
        assert it.pnp(PnpMinor.START_DEVICE) == ddk.STATUS_SUCCESS
        assert request.done
        assert request.status == ddk.STATUS_SUCCESS


def test_a_queue_that_is_not_power_managed_goes_on() -> None:
    def setup(self: Bare) -> None:
        ddk.SequentialQueue(self, write=served, power_managed=False)

    with plugged(bare(setup)) as it, it.open() as handle:
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        assert handle.submit_write(b"x").done


def test_cancelable_requests_stay_in_flight_while_the_device_is_stopped() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        request = handle.submit_read(1)
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        assert not request.done
        it.pnp(PnpMinor.START_DEVICE)
        it.device.kept[0].complete(data=b"x")
        assert request.result() == b"x"


def test_on_stop_may_put_a_request_back_at_the_head_of_its_queue() -> None:
    reasons: list[ddk.StopReason] = []

    def setup(self: Bare) -> None:
        def on_stop(request: ddk.Request, reason: ddk.StopReason) -> None:
            reasons.append(reason)
            request.acknowledge_stop(requeue=True)

        ddk.SequentialQueue(self, read=self.clutch, on_stop=on_stop)

    with plugged(bare(setup)) as it, it.open() as handle:
        requests = [handle.submit_read(1), handle.submit_read(1)]
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        assert reasons == [ddk.StopReason.SUSPEND]
        assert len(queue_of(it)) == 2
        it.pnp(PnpMinor.START_DEVICE)
        assert [request.irp.id for request in it.device.kept] == [irp_id(requests[0])] * 2
        it.device.kept[1].complete(data=b"1")
        it.device.kept[2].complete(data=b"2")
        assert [request.result() for request in requests] == [b"1", b"2"]


def test_on_resume_is_called_for_what_was_acknowledged() -> None:
    diary: list[str] = []

    def setup(self: Bare) -> None:
        def on_stop(request: ddk.Request, reason: ddk.StopReason) -> None:
            diary.append(reason.name)
            request.acknowledge_stop()

        def on_resume(request: ddk.Request) -> None:
            diary.append("RESUME")
            request.complete(data=b"x")

        ddk.SequentialQueue(self, read=self.clutch, on_stop=on_stop, on_resume=on_resume)

    with plugged(bare(setup)) as it, it.open() as handle:
        request = handle.submit_read(1)
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        it.pnp(PnpMinor.START_DEVICE)
        assert diary == ["SUSPEND", "RESUME"]
        assert request.result() == b"x"


def test_a_stop_that_a_request_holds_up_blames_the_driver() -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=self.clutch))) as it:
        with it.open() as handle:
            handle.submit_read(1)
            it.pnp(PnpMinor.QUERY_STOP_DEVICE)
            with pytest.raises(
                DriverFault, match=r"driver made has not ended <READ request.* was stopped: complete it"
            ):
                it.pnp(PnpMinor.STOP_DEVICE)
        it.bridge.acknowledge_faults()


def test_surprise_removal_ends_everything_as_gone() -> None:
    with plugged(bare(sequential)) as it, it.open() as handle:
        requests = [handle.submit_read(1) for _ in range(3)]
        it.bridge.unplug("DUT")
        assert [request.status for request in requests] == [ddk.STATUS_DEVICE_NOT_CONNECTED] * 3
        assert len(it.device.cancelled) == 1  # what was in flight
        with pytest.raises(Exception, match="unplugged"):
            handle.read(1)


def test_removal_fails_what_waits_with_delete_pending() -> None:
    """Without a surprise: held requests of a stopped device, which is then removed while it is open."""
    with plugged(bare(sequential)) as it:
        handle = it.open()
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        request = handle.submit_read(1)
        it.device.go(ddk.STATUS_DELETE_PENDING)  # what REMOVE_DEVICE does first
        assert request.status == ddk.STATUS_DELETE_PENDING
        late = handle.submit_read(1)
        assert late.status == ddk.STATUS_DELETE_PENDING
        handle.close()


def test_on_stop_is_told_of_the_purge() -> None:
    def setup(self: Bare) -> None:
        def on_stop(request: ddk.Request, reason: ddk.StopReason) -> None:
            assert reason is ddk.StopReason.PURGE
            request.complete(ddk.STATUS_CANCELLED)

        ddk.SequentialQueue(self, read=self.clutch, on_stop=on_stop)

    with plugged(bare(setup)) as it, it.open() as handle:
        request = handle.submit_read(1)
        it.bridge.unplug("DUT")
        assert request.status == ddk.STATUS_DEVICE_NOT_CONNECTED


def test_a_removal_that_a_request_holds_up_names_driver_and_request() -> None:
    with plugged(bare(lambda self: ddk.SequentialQueue(self, read=self.clutch))) as it:
        handle = it.open()
        request = handle.submit_read(1)
        words = f"driver made has not ended <READ request, IRP 0x{irp_id(request):04X}> within 50 s"
        before = it.bridge.ke.clock.now()
        with pytest.raises(DriverFault, match=words):
            it.bridge.unplug("DUT")
        assert it.bridge.ke.clock.now() - before == 50_000_000_000
        handle.close()
        it.bridge.acknowledge_faults()
