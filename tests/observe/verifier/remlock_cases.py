"""A faulty driver and its clean twin for each rule about remove locks."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_SUCCESS, NtStatus
from tests.observe.verifier.down_cases import goes_on
from tests.observe.verifier.stage import Device, Stage, case, end_from_dpc, filter_with, hold, pnp_driver
from tests.support import complete, pass_down, succeed

# -- one request and one lock, which is no device's: what becomes of it at the removal is for the cases below ---------------


@case("RemoveLock")
def remove_lock(stage: Stage, wrong: bool) -> None:
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        status = complete(device, irp)
        if not wrong:
            lock.release(irp)
        return status

    stage.read(read)


@case("RemoveLockRelease2")
def remove_lock_release2(stage: Stage, wrong: bool) -> None:
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        return hold(device, irp)

    def routine(_dpc: Kdpc, irp: Any, _a: object, _b: object) -> None:
        complete(device, irp)
        if not wrong:
            lock.release(irp)

    device = stage.plug(read)
    stage.submit()
    stage.ke.insert_queue_dpc(Kdpc(routine, device.extension.held.pop(), device))


@case("RemoveLockForward")
def remove_lock_forward(stage: Stage, wrong: bool) -> None:
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        status = pass_down(device, irp)
        if not wrong:
            lock.release(irp)
        return status

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    end_from_dpc(bottom)


@case("RemoveLockForward2")
def remove_lock_forward2(stage: Stage, wrong: bool) -> None:
    lock = RemoveLock(stage.ke)

    def came_back(device: Any, irp: Irp, context: object) -> NtStatus:
        if not wrong:
            lock.release(irp)
        return goes_on(device, irp, context)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        return device.io.call_driver(device.extension.lower, irp)

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    end_from_dpc(bottom)


@case("RemoveLockRefused")
def remove_lock_refused(stage: Stage, wrong: bool) -> None:
    lock = RemoveLock(stage.ke)
    lock.acquire()
    lock.release_and_wait()

    def read(device: Device, irp: Irp) -> NtStatus:
        status = lock.acquire(irp)
        assert status == STATUS_DELETE_PENDING
        return pass_down(device, irp) if wrong else complete(device, irp, status)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


# -- the lock of a device --------------------------------------------------------------------------------------------------


def own_lock(device: Device, name: str = "remove_lock") -> RemoveLock:
    """Give it a remove lock, in its extension."""
    lock = vars(device.extension)[name] = RemoveLock(device.ke, device)
    return lock


@case("MultRemoveLock")
def mult_remove_lock(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        locks = [own_lock(device, name) for name in ("one", "other")]
        for lock in locks if wrong else locks[:1]:
            lock.acquire(irp)
            lock.release(irp)
        del vars(device.extension)["one"], vars(device.extension)["other"]
        return complete(device, irp)

    stage.read(read)


def _removal(stage: Stage, at: PnpMinor, how: str) -> None:
    """A driver with a remove lock that does something wrong in the request `at`: `how` is what."""

    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        minor = irp.current_stack_location.minor_function
        if minor not in (PnpMinor.QUERY_REMOVE_DEVICE, PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
            return cast("NtStatus", proper(device, irp))
        lock = cast("RemoveLock", vars(device.extension)["remove_lock"])
        wrong = how if minor == at else ""
        was_removed = lock.removed
        if not was_removed and wrong != "not acquired":
            lock.acquire(irp)
        irp.io_status.status = STATUS_SUCCESS
        status = pass_down(device, irp)
        if was_removed:
            pass
        elif wrong == "not acquired" and minor != PnpMinor.REMOVE_DEVICE:
            return status
        elif wrong == "not acquired":
            lock.acquire(irp)
            lock.release_and_wait(irp)
        elif (minor == PnpMinor.REMOVE_DEVICE) != (wrong == "the other release"):
            lock.release_and_wait(irp)
        else:
            lock.release(irp)
        if minor == PnpMinor.REMOVE_DEVICE:
            device.io.detach_device(device.extension.lower)
            device.io.delete_device(device)
        return status

    driver = pnp_driver(pnp)
    stage.drivers.append(driver)
    stage.bridge.plug("virtual:null", name="DUT", driver=driver)
    own_lock(driver.device)
    stage.send(driver.device, IrpMajor.PNP, PnpMinor.QUERY_REMOVE_DEVICE)
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")


@case("RemoveLockMnRemove")
def remove_lock_mn_remove(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.REMOVE_DEVICE, "not acquired" if wrong else "")


@case("RemoveLockMnSurpriseRemove")
def remove_lock_mn_surprise_remove(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.SURPRISE_REMOVAL, "not acquired" if wrong else "")


@case("RemoveLockQueryMnRemove")
def remove_lock_query_mn_remove(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.QUERY_REMOVE_DEVICE, "not acquired" if wrong else "")


@case("RemoveLockCheck")
def remove_lock_check(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.REMOVE_DEVICE, "the other release" if wrong else "")


@case("IoReleaseRemoveLockAndWaitOutsideRemoveDevice")
def io_release_remove_lock_and_wait_outside_remove_device(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.SURPRISE_REMOVAL, "the other release" if wrong else "")
