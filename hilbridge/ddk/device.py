"""WDFDEVICE and its context in one: a driver derives from `Device`, and there is one object of that class for each device.

The object is the extension of its DEVICE_OBJECT. It is made in AddDevice, when the DEVICE_OBJECT is attached already; its
``__init__`` makes the queues and targets. What a driver does not override does what a well-behaved driver would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from hilbridge.ddk.pnp import power_down, power_up
from hilbridge.ddk.queue import HELD_BY_DEVICE, NOT_QUEUEABLE, Handler, IoQueue, StopReason
from hilbridge.ddk.target import IoTarget
from hilbridge.iomgr.powerpolicy import PowerPolicy
from hilbridge.kernel.remlock import PATIENCE, RemoveLock
from hilbridge.model.codes import DevicePowerState, IrpMajor, PowerStateType
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceFault, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.pnp_life import PnpLife
from hilbridge.model.status import STATUS_DEVICE_NOT_CONNECTED, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilbridge.ddk.reader import ContinuousReader
    from hilbridge.ddk.request import Request
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.driver import DriverObject
    from hilbridge.model.file import FileObject


@dataclass(frozen=True, slots=True)
class DeviceInit:
    """WDFDEVICE_INIT: what AddDevice knows. A driver's ``__init__`` hands it on, and may look at it."""

    driver: DriverObject
    physical_device: DeviceObject[Any]
    device_object: DeviceObject[Any]
    lower_device: DeviceObject[Any]
    is_filter: bool


class Device:
    """One device of a driver. All hooks are called at PASSIVE_LEVEL, one at a time, and may be left alone.

    A hook that may fail does so with an exception: `NtStatusError`, or what the hardware has raised.
    """

    def __init__(self, init: DeviceInit) -> None:
        self.io: IoManager = init.driver.io
        self.ke: Kernel = init.driver.ke
        self.driver = init.driver
        self.is_filter = init.is_filter
        self._device_object = init.device_object
        self.physical_device = init.physical_device
        self.lower_device = init.lower_device
        self.remove_lock = RemoveLock(self.ke, init.device_object)
        self.pnp = PnpLife()
        """Where the device is in its life."""
        self.in_d0 = False
        """It works: started, and fully on. Power-managed queues are held while it does not."""
        self.power_state = DevicePowerState.D3
        """The state that it is in, or is about to enter."""
        self.refusal: NtStatus | None = None
        """What every request ends with, once the device has gone."""
        self.last_error: HilbridgeError | None = None
        """What the hardware has raised in `d0_exit` or `release_hardware`: the device is left all the same."""
        self._hardware = False
        self._queues: list[IoQueue] = []
        self._routes: dict[int, IoQueue] = {}
        self._targets: list[IoTarget] = []
        self._readers: list[ContinuousReader] = []
        init.device_object.extension = self
        self.power_policy = PowerPolicy(
            init.device_object,
            init.lower_device,
            physical=None if init.is_filter else init.physical_device,
            remove_lock=self.remove_lock,
            power_up=power_up,
            power_down=power_down,
        )
        self.target = IoTarget(self, init.lower_device)
        """WdfDeviceGetIoTarget: the device below."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._device_object!r}, {self.pnp.state.name}>"

    @property
    def device_object(self) -> DeviceObject[Self]:
        """WdfDeviceWdmGetDeviceObject: the raw model's object, whose extension this is."""
        return self._device_object

    @property
    def queues(self) -> tuple[IoQueue, ...]:
        """Every queue that this device has."""
        return tuple(self._queues)

    @property
    def targets(self) -> tuple[IoTarget, ...]:
        """Every I/O target that is open."""
        return tuple(self._targets)

    @property
    def has_hardware(self) -> bool:
        """Between START_DEVICE and STOP_DEVICE or the removal."""
        return self._hardware

    # -- hooks: hardware and power -----------------------------------------------------------------------------------

    def prepare_hardware(self, resources: Any) -> None:
        """EvtDevicePrepareHardware: START_DEVICE; the devices below have started. What is raised fails the start."""

    def release_hardware(self) -> None:
        """EvtDeviceReleaseHardware: STOP_DEVICE or removal. Give back what there is: also after a start that failed."""

    def d0_entry(self, previous: DevicePowerState) -> None:
        """EvtDeviceD0Entry: the device is on. After it the readers start, and the queues present what has waited."""

    def d0_exit(self, target: DevicePowerState) -> None:
        """EvtDeviceD0Exit: the device is about to be switched off, or has gone. Nothing is in flight any more."""

    # -- hooks: plug and play ----------------------------------------------------------------------------------------

    def query_stop(self) -> NtStatus:
        """EvtDeviceQueryStop: may the device be stopped? An error refuses."""
        return STATUS_SUCCESS

    def query_remove(self) -> NtStatus:
        """EvtDeviceQueryRemove: may the device be removed? An error refuses."""
        return STATUS_SUCCESS

    def surprise_removal(self) -> None:
        """EvtDeviceSurpriseRemoval: the hardware has gone. Before the requests are ended."""

    def removed(self) -> None:
        """EvtDeviceContextCleanup: the last thing before the device object goes."""

    # -- hooks: files ------------------------------------------------------------------------------------------------

    def create(self, request: Request) -> None:
        """EvtDeviceFileCreate: IRP_MJ_CREATE. Completes the request, now or later."""
        request.complete(STATUS_SUCCESS)

    def cleanup(self, file: FileObject) -> None:
        """EvtFileCleanup: the last handle is closed. What this file had in the queues has been cancelled."""

    def close(self, file: FileObject) -> None:
        """EvtFileClose: nothing uses the file any more."""

    # -- parts, which add themselves ---------------------------------------------------------------------------------

    def add_queue(self, queue: IoQueue, handlers: Mapping[IrpMajor, Handler | None]) -> None:
        """WdfIoQueueCreate: requests of these major functions go to that queue."""
        majors = [major for major, handler in handlers.items() if handler is not None]
        for major in majors:
            if major in NOT_QUEUEABLE:
                raise DriverFault(f"{major.name} requests cannot wait in a queue: override the hook of that name")
            if major in self._routes:
                raise DriverFault(
                    f"{major.name} requests have a queue already: {self._routes[major]!r}; give them one only"
                )
        self._queues.append(queue)
        self._routes.update(dict.fromkeys(majors, queue))

    def add_target(self, target: IoTarget) -> None:
        """A target of this device's: it is closed with the device."""
        self._targets.append(target)

    def forget_target(self, target: IoTarget) -> None:
        """It has been closed."""
        if target in self._targets:
            self._targets.remove(target)

    def add_reader(self, reader: ContinuousReader) -> None:
        """A reader of this device's: it runs while the device is in D0."""
        self._readers.append(reader)
        if self.in_d0:
            reader.start()

    def queue_for(self, major: int) -> IoQueue | None:
        """The queue to which requests of this major function go."""
        return self._routes.get(major)

    def set_failed(self, reason: DeviceFault) -> None:
        """WdfDeviceSetFailed: the hardware has gone, or is of no use any more. SURPRISE_REMOVAL follows. Up to DISPATCH_LEVEL.

        `reason` is what applications are told.
        """
        stack = self._device_object.device_stack
        if stack.removed is None:
            stack.removed = reason
        self.io.invalidate_device_state(self._device_object)

    # -- the device's life; called by the dispatch routines ----------------------------------------------------------

    def start(self, resources: Any) -> None:
        """START_DEVICE, when the devices below have started."""
        self.target.start()
        self._hardware = True
        self.power_policy.capabilities = self.io.query_capabilities(self.physical_device)
        try:
            self.prepare_hardware(resources)
            self.enter_d0()
        except BaseException:
            self.take_hardware_away()
            raise

    def enter_d0(self) -> None:
        """The device works from now on."""
        if self.in_d0:
            return
        self.target.start()
        self.d0_entry(self.power_state)
        self._now_in(DevicePowerState.D0)
        self.in_d0 = True
        for reader in self._readers:
            reader.start()
        for queue in self._queues:
            if queue.power_managed:
                queue.resume()

    def _now_in(self, state: DevicePowerState) -> None:
        self.power_state = state
        self.io.set_power_state(self._device_object, PowerStateType.DEVICE, state)

    def leave_d0(self, target: DevicePowerState) -> None:
        """The device is about to be stopped, or switched off, and will be back: hold what comes, quiet what is there."""
        if not self.in_d0:
            return
        managed = [queue for queue in self._queues if queue.power_managed]
        for queue in managed:
            queue.hold(HELD_BY_DEVICE)
        for queue in managed:
            queue.tell_stopping(StopReason.SUSPEND)
        self._wait_for(managed, StopReason.SUSPEND)
        self._exit_d0(target)

    def _exit_d0(self, target: DevicePowerState) -> None:
        for reader in self._readers:
            reader.stop()
        self.in_d0 = False
        self._now_in(target)
        self._on_the_way_out(lambda: self.d0_exit(target))

    def stop(self) -> None:
        """STOP_DEVICE: the hardware is taken away, to be given back by another START_DEVICE."""
        self.leave_d0(DevicePowerState.D3)
        self.take_hardware_away()
        self.target.stop()

    def take_hardware_away(self) -> None:
        """Once for each `prepare_hardware`."""
        if self._hardware:
            self._hardware = False
            self._on_the_way_out(self.release_hardware)

    def _on_the_way_out(self, hook: Callable[[], None]) -> None:
        # That hardware which is being left, or has gone, does not answer is no mistake of the driver's, and stops nothing.
        try:
            hook()
        except (DeviceFault, NtStatusError) as error:
            self.last_error = error

    def go(self, refusal: NtStatus) -> None:
        """SURPRISE_REMOVAL or REMOVE_DEVICE: every request ends with `refusal`, also each that comes still."""
        self.refusal = refusal
        surprise = refusal == STATUS_DEVICE_NOT_CONNECTED
        for queue in self._queues:
            queue.purge(refusal, refusal)
        for queue in self._queues:
            queue.tell_stopping(StopReason.PURGE)
        for reader in self._readers:
            reader.quit()  # before the targets end their reads: that is no failure
        for target in self._targets:
            if not target.started or (surprise and target is self.target):
                target.remove(refusal)  # there is nobody left to talk to
            else:
                target.cancel_all(refusal)
        self._wait_for(self._queues, StopReason.PURGE)
        if self.in_d0:
            self._exit_d0(DevicePowerState.D3)
        self.take_hardware_away()

    def finish(self) -> None:
        """REMOVE_DEVICE: the last of it."""
        for target in list(self._targets):
            target.close()
        self.removed()

    def _wait_for(self, queues: list[IoQueue], reason: StopReason) -> None:
        """For what is in flight, with a bound. Raises `DriverFault` that names what did not end."""
        for queue in queues:
            late = queue.wait_until_stopped(reason, PATIENCE)
            if late:
                what = "was stopped" if reason is StopReason.SUSPEND else "was removed"
                raise DriverFault(
                    f"driver {self.driver.name} has not ended {late[0]!r} within {PATIENCE:g} s after {self._device_object!r} "
                    f"{what}: complete it, or say how with request.on_cancel or the queue's on_stop"
                )
