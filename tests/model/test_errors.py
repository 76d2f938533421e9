"""One class per culprit, each also the builtin that a caller would catch anyway."""

from __future__ import annotations

import inspect

import pytest

from hilbridge.model import errors
from hilbridge.model.errors import BugCheck, DeviceGone, DeviceTimeout, HilbridgeError, NtStatusError, UsageFault
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DEVICE_NOT_CONNECTED, STATUS_IO_TIMEOUT

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, HilbridgeError)
}
BUILTINS = {
    "UsageFault": ValueError,
    "DriverFault": RuntimeError,
    "DeviceFault": OSError,
    "DeviceGone": ConnectionError,
    "DeviceNotFound": FileNotFoundError,
    "DevicePermission": PermissionError,
    "DeviceTimeout": TimeoutError,
    "ConfigError": ValueError,
    "InternalFault": RuntimeError,
}
EXIT_CODES = {
    "UsageFault": 2,
    "NameNotFound": 4,
    "ConfigError": 3,
    "DeviceNotFound": 4,
    "DeviceBusy": 5,
    "DevicePermission": 6,
    "DeviceGone": 7,
    "DeviceTimeout": 8,
    "BugCheck": 9,
    "DriverFault": 9,
    "InternalFault": 70,
}


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_each_culprit_is_also_the_builtin_that_one_would_catch(name: str, builtin: type[Exception]) -> None:
    assert issubclass(CLASSES[name], builtin)


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_exit_codes_of_the_command_line(name: str, code: int) -> None:
    assert CLASSES[name].exit_code == code


@pytest.mark.parametrize("kind", [k for k in CLASSES.values() if k not in (BugCheck, NtStatusError)])
def test_every_error_keeps_message_status_irp_and_partial_data(kind: type[HilbridgeError]) -> None:
    plain = kind("what happened")
    assert str(plain) == plain.message == "what happened"
    assert plain.status == kind.default_status
    assert (plain.irp_id, plain.partial, plain.information) == (None, b"", 0)
    full = kind("what", status=STATUS_CANCELLED, irp_id=0x1001, partial=b"abc")
    assert (full.status, full.irp_id, full.partial) == (STATUS_CANCELLED, 0x1001, b"abc")


def test_an_error_of_the_operating_systems_family_prints_its_message_and_not_errno() -> None:
    assert str(DeviceGone("the cable was pulled")) == "the cable was pulled"
    assert DeviceTimeout("late").status == STATUS_IO_TIMEOUT
    assert DeviceGone("gone").status == STATUS_DEVICE_NOT_CONNECTED


def test_raising_an_error_again_keeps_everything_but_the_old_traceback() -> None:
    first = UsageFault("no", irp_id=7, partial=b"x")
    first.information = 3
    with pytest.raises(UsageFault) as one:
        raise first
    twin = one.value.again()
    assert type(twin) is UsageFault and twin is not first
    assert twin.__traceback__ is None and twin.__cause__ is first
    assert (str(twin), twin.irp_id, twin.partial, twin.information) == ("no", 7, b"x", 3)


def test_a_bug_check_carries_windows_code_and_parameters() -> None:
    check = BugCheck(0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS", "irp", 3, hint="complete it once")
    assert (check.code, check.name, check.parameters) == (0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS", ("irp", 3))
    assert str(check) == "bug check 0x44 MULTIPLE_IRP_COMPLETE_REQUESTS (irp, 0x3): complete it once"
    assert str(BugCheck(0x2, "DEVICE_QUEUE_NOT_BUSY")) == "bug check 0x2 DEVICE_QUEUE_NOT_BUSY ()"
    assert check.again().code == 0x44


def test_a_status_error_is_what_c_would_have_returned() -> None:
    error = NtStatusError(STATUS_CANCELLED, "it was called off")
    assert error.status == STATUS_CANCELLED
    assert str(error) == "STATUS_CANCELLED: it was called off"


SAMPLES = [kind("what", irp_id=5) for kind in CLASSES.values() if kind not in (BugCheck, NtStatusError)]


@pytest.mark.parametrize(
    "error",
    [*SAMPLES, BugCheck(0x44, "NAME", "p"), NtStatusError(STATUS_CANCELLED, "x")],
    ids=lambda e: type(e).__name__,
)
def test_an_error_of_any_class_can_be_raised_again(error: HilbridgeError) -> None:
    twin = error.again()
    assert type(twin) is type(error)
    assert (str(twin), twin.status, twin.irp_id, twin.args) == (str(error), error.status, error.irp_id, error.args)
    assert twin.__traceback__ is None and twin.__cause__ is error
