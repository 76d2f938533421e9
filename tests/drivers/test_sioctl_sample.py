"""The sample of transfer methods: one string goes in by each of the four, and what comes back is where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hilbridge import Bridge, DriverFault, NameNotFound
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.drivers.samples import sioctl
from hilbridge.drivers.samples.sioctl import (
    IOCTL_BUFFERED,
    IOCTL_IN_DIRECT,
    IOCTL_NEITHER,
    IOCTL_OUT_DIRECT,
    LINK,
    MESSAGE,
    METHODS,
    NAME,
    Extension,
)
from hilbridge.model.ioctl import ctl_code
from hilbridge.model.status import (
    STATUS_ACCESS_VIOLATION,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    NtStatus,
)

SAID = b"this string is from the application\0"
ANSWERING = (IOCTL_BUFFERED, IOCTL_OUT_DIRECT, IOCTL_NEITHER)
ROOM = 100


@pytest.fixture(params=[False, True], ids=["plain", "verified"])
def handle(request: pytest.FixtureRequest) -> Iterator[Handle]:
    with Bridge.manual(verify=request.param) as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver="sioctl")
        with bridge.open("IOCTL") as handle:
            yield handle
        assert bridge.faults == []
        if request.param:
            assert bridge.findings == []


def received(handle: Handle, code: int) -> tuple[bytes, ...]:
    extension: Extension = handle.bridge.stack("IOCTL")[0].extension
    return extension.received[code]


def send(handle: Handle, code: int, data: Any, second: Any) -> Request:
    """A control whose second buffer is the caller's own memory."""
    request = Request(handle, "control", len(second))
    handle.io.submit_ioctl(request, code, data, second=second)
    assert request.done
    return request


def outcome(request: Request) -> tuple[NtStatus, int]:
    return request.status, request.information


def test_the_codes_are_those_of_the_sample() -> None:
    assert {code: routine.__name__ for code, routine in METHODS.items()} == {
        0x9C402401: "in_direct",
        0x9C402406: "out_direct",
        0x9C402408: "buffered",
        0x9C40240F: "neither",
    }


# -- A3 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ANSWERING)
def test_a_string_goes_in_and_the_message_comes_back(handle: Handle, code: int) -> None:
    request = handle.submit_ioctl(code, SAID, size=ROOM)
    assert outcome(request) == (STATUS_SUCCESS, len(MESSAGE))
    assert request.data == MESSAGE
    assert received(handle, code) == (SAID,)


@pytest.mark.parametrize("code", ANSWERING)
@pytest.mark.parametrize("size", [1, 5, len(MESSAGE) - 1, len(MESSAGE), len(MESSAGE) + 1])
@pytest.mark.parametrize("data", [b"x", SAID, SAID * 10], ids=len)
def test_information_is_the_message_or_what_there_is_room_for(
    handle: Handle, code: int, size: int, data: bytes
) -> None:
    request = handle.submit_ioctl(code, data, size=size)
    assert outcome(request) == (STATUS_SUCCESS, min(size, len(MESSAGE)))
    assert request.data == MESSAGE[:size]
    assert received(handle, code) == (data,)


def test_in_direct_takes_both_buffers_and_writes_none(handle: Handle) -> None:
    more = bytearray(b"and this, too")
    request = send(handle, IOCTL_IN_DIRECT, SAID, more)
    assert outcome(request) == (STATUS_SUCCESS, len(more)), "MmGetMdlByteCount, whatever the message's length"
    assert received(handle, IOCTL_IN_DIRECT) == (SAID, b"and this, too")
    assert more == b"and this, too"


@pytest.mark.parametrize("code", [IOCTL_OUT_DIRECT, IOCTL_NEITHER])
def test_direct_and_neither_write_into_the_callers_memory(handle: Handle, code: int) -> None:
    memory = bytearray(b"-" * ROOM)
    request = send(handle, code, SAID, memory)
    assert outcome(request) == (STATUS_SUCCESS, len(MESSAGE))
    assert memory == MESSAGE.ljust(ROOM, b"-"), "and nothing behind it"


def test_buffered_does_not_touch_what_came_in(handle: Handle) -> None:
    said = bytearray(SAID)
    assert handle.ioctl(IOCTL_BUFFERED, said, size=ROOM) == MESSAGE
    assert said == SAID


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*METHODS, ctl_code(sioctl.SIOCTL_TYPE, 0x904, 0, 0)])
@pytest.mark.parametrize(("data", "size"), [(b"", ROOM), (SAID, 0), (b"", 0)])
def test_without_input_or_output_it_is_refused(handle: Handle, code: int, data: bytes, size: int) -> None:
    request = handle.submit_ioctl(code, data, size=size)
    assert outcome(request) == (STATUS_INVALID_PARAMETER, 0)


@pytest.mark.parametrize("method", range(4))
def test_other_codes_are_refused(handle: Handle, method: int) -> None:
    request = handle.submit_ioctl(ctl_code(sioctl.SIOCTL_TYPE, 0x904, method, 0), SAID, size=ROOM)
    assert outcome(request) == (STATUS_INVALID_DEVICE_REQUEST, 0)
    assert request.data == b""


def test_memory_that_cannot_be_written_is_probed(handle: Handle) -> None:
    request = send(handle, IOCTL_NEITHER, SAID, memoryview(bytes(ROOM)))
    assert outcome(request) == (STATUS_ACCESS_VIOLATION, 0)
    assert IOCTL_NEITHER not in handle.bridge.stack("IOCTL")[0].extension.received


# -- memory is given back ------------------------------------------------------------------------------------------------


def test_neither_gives_back_what_it_has_locked(handle: Handle) -> None:
    """A `bytearray` of which somebody has a view cannot be resized."""
    said, memory = bytearray(SAID), bytearray(ROOM)
    send(handle, IOCTL_NEITHER, said, memory)
    said.clear()
    memory.clear()


def test_neither_gives_it_back_when_it_fails_as_well(handle: Handle) -> None:
    said, kept = bytearray(SAID), bytearray(ROOM)
    view = memoryview(kept).toreadonly()
    assert send(handle, IOCTL_NEITHER, said, view).status == STATUS_ACCESS_VIOLATION
    view.release()
    said.clear()
    kept.clear()


def test_a_lock_that_is_left_behind_shows(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the two tests above would see it."""
    left: list[memoryview] = []

    def forgetful(irp: Any, control: Any) -> tuple[tuple[bytes, ...], int]:
        left.append(memoryview(control.type3_input_buffer))
        return (bytes(left[0]),), 0

    monkeypatch.setitem(METHODS, IOCTL_NEITHER, forgetful)
    said = bytearray(SAID)
    send(handle, IOCTL_NEITHER, said, bytearray(ROOM))
    with pytest.raises(BufferError):
        said.clear()
    left.pop().release()
    said.clear()


# -- its names, and its end ----------------------------------------------------------------------------------------------


def test_its_own_names() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver="sioctl")
        for name in ("IOCTL", NAME, LINK, "IoctlTest"):
            bridge.open(name).close()
        bridge.unplug("IOCTL")
        for name in ("IOCTL", NAME, LINK):
            with pytest.raises(NameNotFound):
                bridge.open(name)
        bridge.plug("virtual:null", name="IOCTL", driver=sioctl)


def test_a_link_that_is_taken_leaves_no_device_behind() -> None:
    with Bridge.manual() as bridge:
        bridge.io.create_symbolic_link(LINK, r"\Device\Other")
        with pytest.raises(DriverFault, match="STATUS_OBJECT_NAME_COLLISION"):
            bridge.plug("virtual:null", driver="sioctl")
        assert bridge.io.drivers["sioctl"].devices == []


def test_on_real_time() -> None:
    with Bridge() as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver="sioctl")
        with bridge.open("IOCTL") as handle:
            for code in ANSWERING:
                assert handle.ioctl(code, SAID, size=ROOM) == MESSAGE
