"""The highest IRQL of routines that have no check of their own, as one table: name, level, and the rule that is broken above.

Routines that the model checks in any case (bug checks 0x8, 0x9, 0xA, 0xB8) are not in here, and neither are call_driver and
complete_request, which have rules of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from hilbridge.kernel import culprit
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL

ClassT = TypeVar("ClassT", bound=type)
Limits = dict[str, tuple[int, str]]

IO_LIMITS: Limits = {
    "delete_device": (APC_LEVEL, "IrqlIoApcLte"),
    "detach_device": (PASSIVE_LEVEL, "IrqlIoPassive3"),
    "build_device_io_control_request": (APC_LEVEL, "IrqlIoPassive1"),
    "build_synchronous_fsd_request": (APC_LEVEL, "IrqlIoPassive1"),
    "get_device_object_pointer": (PASSIVE_LEVEL, "IrqlIoPassive5"),
    "register_shutdown_notification": (PASSIVE_LEVEL, "IrqlIoPassive5"),
    "create_file": (PASSIVE_LEVEL, "FileIoIrql"),
    "close_file": (PASSIVE_LEVEL, "FileIoIrql"),
    "allocate_irp": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "free_irp": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "cancel_irp": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "start_packet": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "queue_work_item": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "invalidate_device_state": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
    "invalidate_device_relations": (DISPATCH_LEVEL, "IrqlIoDispatchLte"),
}
KE_LIMITS: Limits = dict.fromkeys(
    ("reset_event", "clear_event", "pulse_event", "release_semaphore", "release_mutex", "set_timer", "cancel_timer"),
    (DISPATCH_LEVEL, "IrqlKeDispatchLte"),
)


def limited(limits: Limits) -> Callable[[ClassT], ClassT]:
    """Decorate a class, of the I/O manager or of the kernel, so that its routines look at the IRQL first."""

    def decorate(cls: ClassT) -> ClassT:
        for name, (limit, rule) in limits.items():
            setattr(cls, name, _checked(getattr(cls, name), name, limit, rule))
        return cls

    return decorate


def _checked(plain: Any, name: str, limit: int, rule: str) -> Any:
    @wraps(plain)
    def routine(self: Any, *arguments: Any, **options: Any) -> Any:
        kernel = getattr(self, "ke", self)
        level = kernel.irql
        if level > limit and culprit.find(sys._getframe(1)).device is not None:  # the model knows what it does
            self.verifier.report(rule, details=f"{name} at IRQL {level}")
        return plain(self, *arguments, **options)

    return routine
