"""What a serial port publishes: that it is true at that moment, and that there is an end of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hilbridge import Bridge, DeviceFault, DeviceUnsupported
from hilbridge.drivers.serial import wmi
from hilbridge.drivers.serial.extension import LOG_SIZE
from hilbridge.drivers.serial.info import LARGEST_QUEUE
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DIRQL_LOWEST
from hilbridge.model.errors import DeviceGone, NtStatusError
from hilbridge.model.status import STATUS_DEVICE_NOT_READY, STATUS_WMI_GUID_NOT_FOUND
from hilbridge.testing.interleave import Granularity, Race, explore
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import MAX, Port, end_of
from tests.support import now

MakePort = Callable[..., Port]

# wmidata.h of the Windows SDK.
GUIDS = {
    "MSSerial_PortName": "{A0EC11A8-B16C-11D1-BD98-00A0C906BE2D}",
    "MSSerial_CommInfo": "{EDB16A62-B16C-11D1-BD98-00A0C906BE2D}",
    "MSSerial_HardwareConfiguration": "{270B9B86-B16D-11D1-BD98-00A0C906BE2D}",
    "MSSerial_PerformanceInformation": "{56415ACC-B16D-11D1-BD98-00A0C906BE2D}",
    "MSSerial_CommProperties": "{8209EC2A-2D6B-11D2-BA49-00A0C9062910}",
}


def ask(port: Port, block: str) -> dict[str, object]:
    return port.bridge.io.query_wmi(port.extension.device, block)


# -- what there is -------------------------------------------------------------------------------------------------------


def test_the_blocks_have_the_names_and_guids_of_windows(port: Port) -> None:
    device = port.extension.device
    assert port.bridge.io.wmi_blocks(device) == [(device, guid, name, ("Serial0_0",)) for name, guid in GUIDS.items()]


def test_everything_at_once(port: Port) -> None:
    found = port.bridge.io.wmi_properties(port.extension.device)
    assert list(found) == list(GUIDS)
    assert found == {name: ask(port, guid) for name, guid in GUIDS.items()}


def test_a_port_that_nobody_asks_about_gets_no_request() -> None:
    asked: list[int] = []

    class Line(VirtualLine):
        @property
        def has_modem_lines(self) -> bool:
            asked.append(1)
            return True

    port = Port(line=Line())
    port.settle()
    assert asked == []
    assert ask(port, "MSSerial_CommInfo")["SupportDTRDSR"] is True
    assert asked == [1]
    port.close()


def test_the_name_is_the_ports() -> None:
    port = Port(name="target")
    assert ask(port, "MSSerial_PortName") == {"PortName": "target"}
    port.close()


def test_the_interrupt_is_that_of_the_port(port: Port) -> None:
    interrupt = port.extension.interrupt
    assert interrupt is not None
    found = ask(port, "MSSerial_HardwareConfiguration")
    assert found == {"IrqVector": interrupt.vector.number, "IrqLevel": interrupt.vector.irql, "InterruptType": 1}
    level = found["IrqLevel"]
    assert isinstance(level, int) and level >= DIRQL_LOWEST


def test_the_queues_are_those_of_the_driver(port: Port) -> None:
    assert ask(port, "MSSerial_CommProperties") == {
        "dwServiceMask": 1,
        "dwMaxTxQueue": 0,
        "dwMaxRxQueue": LARGEST_QUEUE,
        "dwCurrentRxQueue": LOG_SIZE,
    }


# -- settings ------------------------------------------------------------------------------------------------------------

CODED = ("BaudRate", "BitsPerByte", "Parity", "StopBits")


@pytest.mark.parametrize(
    ("given", "coded"),
    [
        ((9600, 7, "E", 2), (9600, 7, 2, 2)),
        ((115200, 8, "N", 1), (115200, 8, 0, 0)),
        ((1200, 5, "O", 1.5), (1200, 5, 1, 1)),
        ((300, 6, "M", 1), (300, 6, 4, 0)),
        ((300, 6, "S", 1), (300, 6, 3, 0)),
    ],
    ids=str,
)
def test_the_settings_have_the_numbers_of_the_class(
    make_port: MakePort, given: tuple[object, ...], coded: tuple[int, ...]
) -> None:
    port = make_port(**dict(zip(("baudrate", "bytesize", "parity", "stopbits"), given, strict=True)))
    found = ask(port, "MSSerial_CommInfo")
    assert tuple(found[name] for name in CODED) == coded


def test_a_setting_is_seen_when_it_has_been_carried_out(tight: Port) -> None:
    write = tight.handle.submit_write(b"abc")
    change = tight.set_baud_rate(4800)
    assert not now(change.done)
    assert ask(tight, "MSSerial_CommInfo")["BaudRate"] == 115200
    tight.accept(3)
    assert write.done and change.done
    assert ask(tight, "MSSerial_CommInfo")["BaudRate"] == 4800


def test_a_setting_that_the_line_refuses_is_not_seen() -> None:
    class Stubborn(VirtualLine):
        def configure(self, settings: object) -> None:
            if getattr(settings, "baudrate", 0) == 300:
                raise DeviceUnsupported("not so slow")

    port = Port(line=Stubborn())
    assert port.set_baud_rate(300).done
    assert ask(port, "MSSerial_CommInfo")["BaudRate"] == 115200
    port.close()


@pytest.mark.parametrize("modem_lines", [True, False])
def test_modem_lines_are_those_of_the_line(modem_lines: bool) -> None:
    class Line(VirtualLine):
        has_modem_lines = modem_lines

    port = Port(line=Line())
    found = ask(port, "MSSerial_CommInfo")
    assert (found["SupportDTRDSR"], found["SupportRTSCTS"]) == (modem_lines, modem_lines)
    port.close()


def test_it_is_busy_while_it_is_open(port: Port) -> None:
    assert ask(port, "MSSerial_CommInfo")["IsBusy"] is True
    port.handle.close()
    assert ask(port, "MSSerial_CommInfo")["IsBusy"] is False
    reader = port.open("r")
    assert ask(port, "MSSerial_CommInfo")["IsBusy"] is True
    reader.close()
    writer = port.open("w")
    assert ask(port, "MSSerial_CommInfo")["IsBusy"] is True
    writer.close()


# -- the counter ---------------------------------------------------------------------------------------------------------


def received(port: Port) -> object:
    return ask(port, "MSSerial_PerformanceInformation")["ReceivedCount"]


def test_bytes_are_counted_once_whether_read_or_not(port: Port) -> None:
    assert received(port) == 0
    port.feed(b"abcdef")
    assert received(port) == 6
    assert port.handle.read(4) == b"abcd"
    assert received(port) == 6
    port.handle.ioctl(ser.IOCTL_HILBRIDGE_UNREAD, b"cd")
    assert received(port) == 6
    port.purge(ser.SERIAL_PURGE_RXCLEAR)
    port.feed(b"g")
    assert received(port) == 7


def test_to_count_takes_nothing_from_a_read_that_waits(port: Port) -> None:
    read = port.handle.submit_read(4)
    port.feed(b"ab")
    assert received(port) == 2
    port.feed(b"cd")
    assert end_of(read)[1] == b"abcd"
    assert received(port) == 4


def test_to_count_does_not_move_the_time_outs_of_a_read(port: Port) -> None:
    port.set_timeouts(interval=10, constant=MAX - 1)
    read = port.handle.submit_read(4)
    port.feed(b"a")
    port.pass_time(9)
    assert received(port) == 1 and not read.done
    port.pass_time(1)
    assert end_of(read)[1] == b"a"


# -- the end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unplug", [Port.unplug, lambda port: port.bridge.unplug(port.name)], ids=["the cable", "the bridge"]
)
def test_a_port_that_has_gone_publishes_nothing(port: Port, unplug: Callable[[Port], None]) -> None:
    device, io = port.extension.device, port.bridge.io
    assert io.wmi_properties(device)
    unplug(port)
    assert io.wmi_properties(device) == {}
    with pytest.raises(NtStatusError, match="there are: none at all") as caught:
        io.query_wmi(device, GUIDS["MSSerial_PortName"])
    assert caught.value.status == STATUS_WMI_GUID_NOT_FOUND
    port.handle.close()
    port.settle()
    assert device not in io._wmi


def test_the_functions_say_that_the_line_has_gone_where_they_need_it(port: Port) -> None:
    device = port.extension.device
    port.unplug()
    for function in (wmi.comm_info, wmi.hardware):
        with pytest.raises(DeviceGone, match="is gone"):
            function(device)
    assert wmi.performance(device) == {"ReceivedCount": 0}


def test_a_port_that_is_stopped_says_what_it_knows_without_its_hardware(port: Port) -> None:
    device, name = port.extension.device, port.name
    port.bridge.stop(name)
    assert wmi.port_name(device) == {"PortName": name}
    for function in (wmi.comm_info, wmi.hardware):
        with pytest.raises(DeviceFault, match=f"{name} is stopped: its hardware is lent") as refused:
            function(device)
        assert refused.value.status == STATUS_DEVICE_NOT_READY
    port.bridge.start(name)
    assert list(port.bridge.io.wmi_properties(device)) == list(GUIDS)


def test_a_port_that_does_not_start_publishes_nothing() -> None:
    class Broken(VirtualLine):
        def configure(self, settings: object) -> None:
            raise DeviceUnsupported("no such rate")

    with Bridge.manual() as bridge:
        with pytest.raises(DeviceUnsupported):
            bridge.plug(Broken())
        assert bridge.io._wmi == {}


def test_the_verifier_finds_nothing_wrong_with_all_this() -> None:
    with Bridge.manual(verify=True) as bridge:
        for _ in range(2):
            name = bridge.plug(VirtualLine())
            with bridge.open(name, access="r"):
                device = next(d for d in bridge.stack(name) if d.driver_object.name == "serial")
                assert list(bridge.io.wmi_properties(device)) == list(GUIDS)
            bridge.unplug(name)
        assert bridge.findings == []
        assert bridge.io.drivers["serial"].devices == []


def test_asked_while_the_cable_is_pulled_it_answers_whole_or_not_at_all() -> None:
    outcomes: set[str] = set()

    def build() -> Race:
        port = Port()
        device, io = port.extension.device, port.bridge.io
        io.wmi_blocks(device)
        result: list[str] = []

        def asks() -> None:
            try:
                found = io.query_wmi(device, "MSSerial_CommInfo")
                result.append(f"{len(found)} properties")
            except NtStatusError:
                result.append("no such block")
            except DeviceGone:
                result.append("gone")

        def check() -> None:
            port.settle()
            port.handle.close()
            port.settle()
            assert port.bridge.acknowledge_faults() == []
            assert not io._wmi
            outcomes.update(result)

        return Race({"asks": asks, "pulls": port.unplug}, check, close=port.close)

    explore(
        build,
        granularity=Granularity.LINES,
        preemptions=1,
        modules=("hilbridge.iomgr.wmi", "hilbridge.iomgr.wmiquery", "hilbridge.drivers.serial"),
    )
    assert outcomes == {"11 properties", "no such block"}


def test_nobody_has_to_open_the_port_to_ask(port: Port) -> None:
    port.handle.close()
    assert port.extension.device.device_stack.files == []
    assert ask(port, GUIDS["MSSerial_PortName"]) == {"PortName": port.name}
    assert port.extension.device.reference_count == 0
