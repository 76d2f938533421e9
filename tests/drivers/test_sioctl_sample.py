"""The sample of transfer methods: one string goes in by each of the four, and what comes back is where it belongs."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault, NameNotFound
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
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.observe.verifier.options import Verify

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


def without(tmp_path: Path, *lines: str) -> Any:
    """A copy of the sample in which these lines are missing."""
    source = inspect.getsource(sioctl)
    for line in lines:
        assert source.count(f"{line}\n") == 1
        source = source.replace(line, "pass")
    file = tmp_path / "leaky.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("leaky", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UNLOCK, FREE = "mdl.unlock_pages()", "device.io.free_mdl(mdl)"
PROBE = next(
    number for number, line in enumerate(inspect.getsource(sioctl).splitlines(), 1) if "probe_and_lock_pages(" in line
)


@pytest.mark.parametrize("verify", [False, True])
def test_a_lock_that_is_left_behind_is_found_when_the_handle_is_closed(tmp_path: Path, verify: bool) -> None:
    """The driver that has left it is named, and the line on which it has locked; and both buffers come back."""
    said, memory = bytearray(SAID), bytearray(ROOM)
    with Bridge.manual(verify=verify) as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver=without(tmp_path, UNLOCK, FREE))
        handle = bridge.open("IOCTL")
        for code in ANSWERING:
            assert handle.ioctl(code, SAID, size=ROOM) == MESSAGE
        assert send(handle, IOCTL_NEITHER, said, memory).status == STATUS_SUCCESS
        assert bridge.faults == [], "the application has its answer, and the driver may still unlock"
        for buffer in (said, memory):
            with pytest.raises(BufferError):
                buffer.clear()
        handle.close()
        (fault,) = bridge.faults
        assert isinstance(fault, BugCheck)
        assert (fault.code, fault.driver, fault.place) == (0xCB, "leaky", f"{tmp_path / 'leaky.py'}:{PROBE}")
        said.clear()
        memory.clear()
        with pytest.raises(BugCheck, match="0xCB DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS"):
            bridge.open("IOCTL")
        bridge.acknowledge_faults()


def test_an_mdl_that_is_freed_while_it_is_locked_is_found_at_once(tmp_path: Path) -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver=without(tmp_path, UNLOCK))
        with pytest.raises(BugCheck, match=r"0xC4 .*0xB8") as caught, bridge.open("IOCTL") as handle:
            handle.ioctl(IOCTL_NEITHER, SAID, size=ROOM)
        assert caught.value.driver == "leaky"
        bridge.acknowledge_faults()


def test_an_mdl_that_is_not_freed_is_found_at_unload(tmp_path: Path) -> None:
    with pytest.raises(DriverFault, match="MdlLeaked"), Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="IOCTL", driver=without(tmp_path, FREE))
        with bridge.open("IOCTL") as handle:
            assert handle.ioctl(IOCTL_NEITHER, SAID, size=ROOM) == MESSAGE
        assert bridge.findings == []
    assert [finding.rule.name for finding in bridge.findings] == ["MdlLeaked"], "once for each line, not for each MDL"


def test_without_memory_for_an_mdl_neither_is_refused() -> None:
    """With failures that the verifier forces; all else is served."""
    refused = 0
    with Bridge.manual(verify=Verify(seed=1, low_resources=0.3)) as bridge:
        while not bridge.devices():
            with contextlib.suppress(DriverFault):
                bridge.plug("virtual:null", name="IOCTL", driver="sioctl")
        with bridge.open("IOCTL") as handle:
            for _ in range(20):
                said, memory = bytearray(SAID), bytearray(ROOM)
                request = send(handle, IOCTL_NEITHER, said, memory)
                assert request.status in (STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES)
                refused += request.status == STATUS_INSUFFICIENT_RESOURCES
                said.clear()
                memory.clear()
        assert bridge.findings == []
        bridge.acknowledge_faults()
    assert 0 < refused < 20


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
