"""Device stacks: how drivers are put on top of a PDO, and how what is left of them is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import DIRQL_LOWEST
from hilbridge.model.errors import DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.status import NtStatus

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverObject
    from hilbridge.pnp.node import DeviceNode


def wire(io: IoManager, node: DeviceNode, vector: int | None = None) -> None:
    """Connect the node's hardware, if it has any, to its interrupt vector. Nobody listens yet."""
    line = node.line
    if line is not None and node.pin is None:
        # Equal vectors share one interrupt line; without a wish each device gets its own.
        node.pin = io.ke.add_pin(io.ke.vector(vector, DIRQL_LOWEST), line.fileno(), line.asserted)
        line.connect(node.pin)


def build(node: DeviceNode) -> None:
    """Let every driver add its device, from the bottom up. Raises `DriverFault` with what stands in the way."""
    for driver in node.drivers:
        add_device(driver, node)


def add_device(driver: DriverObject, node: DeviceNode) -> None:
    """AddDevice of one driver."""
    if driver.add_device is None:
        raise DriverFault(f"driver {driver.name} has no add_device: it cannot be part of {node.name}'s stack")
    try:
        status = driver.add_device(driver, node.pdo)
    except NtStatusError as error:
        status = error.status
    except HilbridgeError:
        raise
    except Exception as error:
        raise DriverFault(f"driver {driver.name} raised {type(error).__name__} in add_device: {error}") from error
    if not isinstance(status, NtStatus):
        raise DriverFault(f"add_device of driver {driver.name} returned {status!r}: return STATUS_SUCCESS")
    if not status.is_success:
        raise DriverFault(f"add_device of driver {driver.name} failed with {status.name}", status=status)


def unwire(io: IoManager, node: DeviceNode) -> None:
    """No more interrupts."""
    pin, node.pin = node.pin, None
    if pin is not None:
        io.ke.remove_pin(pin)


def release_hardware(io: IoManager, node: DeviceNode) -> None:
    """No more interrupts, and the hardware is given back."""
    unwire(io, node)
    line, node.line = node.line, None
    if line is not None:
        line.close()


def delete_above(io: IoManager, pdo: DeviceObject[Any]) -> None:
    """Take away the devices above a PDO whose drivers have not done so themselves."""
    for device in reversed(list(pdo.walk_up())):
        if device is pdo:
            break
        if device.lower_device is not None:
            io.detach_device(device.lower_device)
        if not device.delete_pending:
            io.delete_device(device)


def delete_all(io: IoManager, pdo: DeviceObject[Any]) -> None:
    """The same, and the PDO itself."""
    delete_above(io, pdo)
    if not pdo.delete_pending:
        io.delete_device(pdo)
