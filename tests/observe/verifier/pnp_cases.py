"""A faulty driver and its clean twin for each rule about the status of Plug and Play requests, and who completes them."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.event import Kevent
from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import IrpMajor, PnpMinor, TextType
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import DeviceCapabilitiesParameters, QueryDeviceTextParameters
from hilbridge.model.status import STATUS_NOT_SUPPORTED, STATUS_SUCCESS, STATUS_UNSUCCESSFUL, NtStatus
from tests.observe.verifier.bus import plug_bus
from tests.observe.verifier.stage import Device, Stage, case, filter_with, pnp_driver
from tests.observe.verifier.up_cases import completes
from tests.support import complete, pass_down

UNKNOWN = 0x18
"""A minor function that there is not."""


@case("InformationChanged")
def information_changed(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if wrong and irp.current_stack_location.minor_function == UNKNOWN:
            irp.io_status.information += 7
        return cast("NtStatus", proper(device, irp))

    stage.send(stage.plug(filters=(filter_with(pnp, IrpMajor.PNP),)), IrpMajor.PNP, UNKNOWN)


@case("AnsweredForTheBus")
def answered_for_the_bus(stage: Stage, wrong: bool) -> None:
    """The clean twin answers, too: after the bus driver."""

    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function != PnpMinor.QUERY_DEVICE_TEXT:
            return cast("NtStatus", proper(device, irp))
        block: Any = irp.io_status
        if wrong:
            block.status, block.information = STATUS_SUCCESS, "a text"
            return cast("NtStatus", proper(device, irp))
        device.io.forward_and_wait(device.extension.lower, irp)
        return complete(device, irp, STATUS_SUCCESS, cast("int", "a text"))

    device = stage.plug(filters=(filter_with(pnp, IrpMajor.PNP),))
    stage.send(device, IrpMajor.PNP, PnpMinor.QUERY_DEVICE_TEXT, QueryDeviceTextParameters(TextType.DESCRIPTION))


@case("RequiredPnpNotHandled")
def required_pnp_not_handled(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        minor = irp.current_stack_location.minor_function
        if wrong and minor == PnpMinor.SURPRISE_REMOVAL:
            return pass_down(device, irp)
        return cast("NtStatus", proper(device, irp))

    stage.bridge.plug("virtual:null", name="DUT", driver=pnp_driver(pnp))
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")


@case("BusDriverSilent")
def bus_driver_silent(stage: Stage, wrong: bool) -> None:
    def child(_device: Device, irp: Irp) -> None:
        if wrong:
            irp.io_status.status = STATUS_NOT_SUPPORTED

    bus = plug_bus(stage, child)
    stage.send(bus.children[0], IrpMajor.PNP, PnpMinor.QUERY_STOP_DEVICE)


@case("PnpUnknownCompleted")
def pnp_unknown_completed(stage: Stage, wrong: bool) -> None:
    completes(stage, UNKNOWN, STATUS_SUCCESS, wrong)


def _capabilities(stage: Stage, wrong: bool, **changes: Any) -> None:
    """A driver that asks for capabilities, and uses a structure that was used before."""

    def read(device: Device, irp: Irp) -> NtStatus:
        asked = DeviceCapabilities(**changes) if wrong else DeviceCapabilities()
        parameters = DeviceCapabilitiesParameters(asked)
        lower = device.extension.lower
        own = device.io.build_synchronous_fsd_request(
            IrpMajor.PNP, lower, Kevent(), minor=PnpMinor.QUERY_CAPABILITIES, parameters=parameters
        )
        device.io.call_and_wait(lower, own)
        return complete(device, irp)

    stage.read(read)


@case("CapabilitiesVersion")
def capabilities_version(stage: Stage, wrong: bool) -> None:
    _capabilities(stage, wrong, version=0)


@case("CapabilitiesSize")
def capabilities_size(stage: Stage, wrong: bool) -> None:
    _capabilities(stage, wrong, size=0)


@case("CapabilitiesAddress")
def capabilities_address(stage: Stage, wrong: bool) -> None:
    _capabilities(stage, wrong, address=0)


@case("CapabilitiesUINumber")
def capabilities_ui_number(stage: Stage, wrong: bool) -> None:
    _capabilities(stage, wrong, ui_number=0)


@case("NsRemoveLockQueryMnRemove")
def ns_remove_lock_query_mn_remove(stage: Stage, wrong: bool) -> None:
    completes(stage, PnpMinor.QUERY_REMOVE_DEVICE, None, wrong)


@case("NsRemoveLockMnSurpriseRemove")
def ns_remove_lock_mn_surprise_remove(stage: Stage, wrong: bool) -> None:
    completes(stage, PnpMinor.SURPRISE_REMOVAL, None, wrong)


@case("NsRemoveLockMnRemove")
def ns_remove_lock_mn_remove(stage: Stage, wrong: bool) -> None:
    """It passes the request down and takes it back, and then loses the status."""

    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function != PnpMinor.REMOVE_DEVICE:
            return cast("NtStatus", proper(device, irp))
        irp.io_status.status = STATUS_SUCCESS
        status = device.io.forward_and_wait(device.extension.lower, irp)
        device.io.detach_device(device.extension.lower)
        device.io.delete_device(device)
        return complete(device, irp, STATUS_NOT_SUPPORTED if wrong else status)

    stage.bridge.plug("virtual:null", name="DUT", driver=pnp_driver(pnp))
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")


@case("StartFailureHidden")
def start_failure_hidden(stage: Stage, wrong: bool) -> None:
    def fails(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function != PnpMinor.START_DEVICE:
            return cast("NtStatus", proper(device, irp))
        device.io.forward_and_wait(device.extension.lower, irp)
        return complete(device, irp, STATUS_UNSUCCESSFUL)

    def hides(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function != PnpMinor.START_DEVICE:
            return cast("NtStatus", proper(device, irp))
        status = device.io.forward_and_wait(device.extension.lower, irp)
        return complete(device, irp, STATUS_SUCCESS if wrong else status)

    filters = [filter_with(hides, IrpMajor.PNP)]
    with contextlib.suppress(HilbridgeError):
        stage.bridge.plug("virtual:null", name="DUT", driver=pnp_driver(fails), upper_filters=filters)
