"""`Bridge.from_bench`: the devices of a file under their names, and the twins only if they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hilbridge import Bridge, BridgeClosed, ConfigError, DeviceBusy, DeviceGone, DeviceNotFound, NameNotFound
from hilbridge.bridge import benchports
from hilbridge.files.bench import VARIABLE
from hilbridge.hal.enumerate import Port
from hilbridge.testing import fixture
from tests.files.benchkit import FOLDER, FULL, bench_file
from tests.hal.halkit import Pty, held

BOARD = 'schema: 1\nkind: board\nbanner:\n  - text: "hello\\n"\nprompt: "=> "\ncommands:\n  - {command: id, answer: "B1\\n"}\n'


def devices(*lines: str) -> str:
    return "schema: 1\ndevices:\n" + "".join(f"  {line}\n" for line in lines)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Path]:
    return lambda *lines: bench_file(tmp_path, devices(*lines))


def adapter(node: str, serial_number: str = "A50285BI", *, location: str = "1-2", pid: int = 0x6001) -> Port:
    return Port(node, "FT232R", 0x0403, pid, serial_number, "FTDI", "FT232R USB UART", location)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The ports that this machine has."""

    def has(*there: Port) -> None:
        monkeypatch.setattr(benchports, "ports", lambda: list(there))

    return has


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a bridge nor a board may be started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(Bridge, "__init__", started)
    monkeypatch.setattr(fixture, "start_fixture", started)


# ------------------------------------------------------------------------------------------------------ the hardware


def test_devices_get_their_names_settings_drivers_and_filters(bench: Callable[..., Path], pty: Pty) -> None:
    file = bench(
        f"board: {{at: {pty.path}, line: {{baudrate: 9600, stopbits: 2}}, filters: [counter]}}",
        "nothing: {at: 'virtual:toasterbus', driver: 'null'}",
        "Probe: {at: 'virtual:loop', driver: serial}",
    )
    with Bridge.from_bench(file) as bridge:
        plugged = {device["name"]: device for device in bridge.devices()}
        assert list(plugged) == ["board", "nothing", "Probe"]
        assert [top.partition(" ")[0] for top in plugged["board"]["stack"]][:2] == ["counter", "serial"]
        assert plugged["nothing"]["stack"][0].startswith("null ")
        assert plugged["board"]["moniker"] == pty.path
        assert len(plugged["Probe"]["stack"]) == len(plugged["board"]["stack"]) - 1
        settings = bridge.pnp.node("board").settings
        assert settings is not None
        assert (settings.baudrate, settings.stopbits, settings.bytesize) == (9600, 2, 8)
        assert bridge.bench is not None and bridge.bench.path == file
        with bridge.open("board") as port:
            port.write(b"abc")
            assert pty.hear(3) == b"abc"
    with pytest.raises(BridgeClosed):
        bridge.open("board")


def test_options_are_those_of_a_bridge(bench: Callable[..., Path]) -> None:
    with Bridge.from_bench(bench("loop: {at: 'virtual:loop'}"), _manual=True) as bridge:
        assert bridge.machine.step() is False
        with bridge.open("loop") as port:
            port.write(b"x")
            assert port.read(1) == b"x"


def test_the_file_is_found_by_the_variable(bench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(bench("loop: {at: 'virtual:loop'}")))
    with Bridge.from_bench() as bridge:
        assert [device["name"] for device in bridge.devices()] == ["loop"]


def test_without_a_file_nothing_is_taken_from_where_one_stands(
    bench: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, nothing_starts: None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(bench("loop: {at: 'virtual:loop'}").parent)
    with pytest.raises(NameNotFound, match="no bench file"):
        Bridge.from_bench()


def test_a_relative_path_is_relative_to_the_file(bench: Callable[..., Path], tmp_path: Path, pty: Pty) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "board").symlink_to(pty.path)
    with Bridge.from_bench(bench("board: {at: ./links/board}")) as bridge, bridge.open("board") as port:
        port.write(b"abc")
        assert pty.hear(3) == b"abc"


# ------------------------------------------------------------------------------------------------------------- match


@pytest.mark.parametrize(
    "match",
    [
        '{usb: "0403:6001", serial_number: B}',
        "{serial_number: B}",
        "{location: 1-2.3}",
        '{usb: "0403:6015"}',
        "{manufacturer: FTDI, product: FT232R USB UART, location: 1-2.3}",
    ],
)
def test_a_match_finds_its_port(bench: Callable[..., Path], machine: Callable[..., None], pty: Pty, match: str) -> None:
    pid = 0x6015 if "6015" in match else 0x6001
    machine(Port("/dev/ttyS0"), adapter("/dev/ttyUSB7", "A"), adapter(pty.path, "B", location="1-2.3", pid=pid))
    with Bridge.from_bench(bench(f"board: {{match: {match}}}")) as bridge:
        assert bridge.devices()[0]["moniker"] == pty.path


def test_ids_are_compared_without_case(bench: Callable[..., Path], machine: Callable[..., None], pty: Pty) -> None:
    machine(adapter(pty.path, pid=0xABCD))
    Bridge.from_bench(bench('board: {match: {usb: "0403:ABCD"}}')).close()


def test_no_port_that_matches(bench: Callable[..., Path], machine: Callable[..., None], nothing_starts: None) -> None:
    machine(Port("/dev/ttyS0"), adapter("/dev/ttyUSB0", "evil\x1b[2J"))
    file = bench('board: {match: {usb: "0403:6001", serial_number: "B"}}')
    with pytest.raises(DeviceNotFound) as caught:
        Bridge.from_bench(file)
    assert str(caught.value) == (
        f"{file}:3:18: board: no port has usb 0403:6001, serial_number B; "
        "there are /dev/ttyS0, /dev/ttyUSB0 (0403:6001, serial_number evil?[2J, location 1-2)"
    )


def test_no_port_at_all(bench: Callable[..., Path], machine: Callable[..., None], nothing_starts: None) -> None:
    machine()
    with pytest.raises(DeviceNotFound, match="this machine has no serial port at all"):
        Bridge.from_bench(bench('board: {match: {usb: "0403:6001"}}'))


def test_several_ports_that_match(
    bench: Callable[..., Path], machine: Callable[..., None], nothing_starts: None
) -> None:
    machine(*(adapter(f"/dev/ttyUSB{n}", str(n), location=f"1-{n}") for n in range(14)))
    file = bench('board: {match: {usb: "0403:6001"}}')
    with pytest.raises(ConfigError) as caught:
        Bridge.from_bench(file)
    said = str(caught.value)
    assert said.startswith(f"{file}:3:18: devices.board.match: 14 ports have usb 0403:6001: /dev/ttyUSB0 (0403:6001, ")
    assert "/dev/ttyUSB11 (" in said and "/dev/ttyUSB12" not in said
    assert said.endswith(", and 2 more; tell them apart by serial_number or location")


def test_two_devices_that_are_one_port(
    bench: Callable[..., Path], machine: Callable[..., None], pty: Pty, nothing_starts: None
) -> None:
    machine(adapter(pty.path))
    file = bench(f"board: {{at: {pty.path}}}", 'probe: {match: {usb: "0403:6001"}}')
    with pytest.raises(ConfigError) as caught:
        Bridge.from_bench(file)
    assert str(caught.value) == f"{file}:4:10: devices.probe: is {pty.path}, and so is 'board'"


def test_every_device_that_is_missing_is_named(
    bench: Callable[..., Path], machine: Callable[..., None], nothing_starts: None
) -> None:
    machine()
    file = bench("a: {at: /dev/ttyNONE0}", "b: {at: 'virtual:loop'}", "c: {match: {serial_number: x}}")
    with pytest.raises(DeviceNotFound) as caught:
        Bridge.from_bench(file)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{file}:3:11: a: /dev/ttyNONE0 does not exist")
    assert second.startswith(f"{file}:5:14: c: no port has serial_number x")


def test_hardware_that_is_missing_is_not_replaced_by_its_twin(
    bench: Callable[..., Path], machine: Callable[..., None], nothing_starts: None
) -> None:
    machine()
    with pytest.raises(DeviceNotFound):
        Bridge.from_bench(bench("board: {match: {serial_number: x}, virtual: {at: 'virtual:loop'}}"))


# ------------------------------------------------------------------------------------------------------------- twins


def test_twins_take_the_place_of_hardware_that_is_not_there(bench: Callable[..., Path], tmp_path: Path) -> None:
    bench_file(tmp_path / "boards", BOARD, "b1.yaml")
    file = bench(
        "board: {match: {serial_number: nowhere}, line: {baudrate: 9600, parity: E}, virtual: {board: boards/b1.yaml}}",
        "probe: {at: /dev/ttyNONE0, virtual: {at: 'virtual:loop'}}",
    )
    with Bridge.from_bench(file, virtual=True) as bridge:
        board, probe = bridge.devices()
        assert (board["name"], probe["name"], probe["moniker"]) == ("board", "probe", "virtual:loop")
        assert board["moniker"].startswith("/dev/pts/")
        settings = bridge.pnp.node("board").settings
        assert settings is not None and settings.baudrate == 9600
        with bridge.open("board") as port:
            console = port.console(prompt="=> ")
            console.expect_exact("hello")  # from the first byte, though it was opened after the power came
            assert console.command("id").strip() == "B1"
    assert not Path(board["moniker"]).exists(), "the board's process is gone with the bridge"


def test_a_device_without_a_twin_is_an_error_that_names_it(bench: Callable[..., Path], nothing_starts: None) -> None:
    file = bench("board: {at: 'virtual:loop', virtual: {at: 'virtual:loop'}}", "probe: {at: 'virtual:loop'}")
    with pytest.raises(ConfigError) as caught:
        Bridge.from_bench(file, virtual=True)
    assert str(caught.value).startswith(f"{file}:4:3: devices.probe: has no twin: ")


# ---------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("name", FULL)
def test_a_broken_file_starts_nothing(name: str, nothing_starts: None) -> None:
    with pytest.raises(ConfigError) as caught:
        Bridge.from_bench(FOLDER / f"{name}.yaml", virtual=True)
    assert str(caught.value).splitlines() == FULL[name]


def test_what_cannot_be_opened_takes_down_what_was_up(
    bench: Callable[..., Path], tmp_path: Path, pty: Pty, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench_file(tmp_path, BOARD, "b1.yaml")
    served: list[fixture.RunningFixture] = []
    real = fixture.start_fixture

    def start(*args: object, **options: object) -> fixture.RunningFixture:
        served.append(real(*args, **options))  # type: ignore[arg-type]
        return served[-1]

    monkeypatch.setattr(fixture, "start_fixture", start)
    # A twin on a port that somebody else has: everything up to it is there, and then it fails.
    file = bench(
        "board: {at: /dev/ttyNONE0, virtual: {board: b1.yaml}}",
        f"probe: {{at: /dev/ttyNONE1, virtual: {{at: {pty.path}}}}}",
    )
    with held(pty.path, "flock") as holder, pytest.raises(DeviceBusy) as caught:
        Bridge.from_bench(file, virtual=True)
    assert f"(pid {holder.pid})" in str(caught.value)
    assert str(caught.value).endswith(f" (device 'probe' of {file}:4:3)")
    (board,) = served
    with pytest.raises(ProcessLookupError):
        os.kill(board.pid, 0)


def test_a_name_that_the_bench_has_is_taken(bench: Callable[..., Path]) -> None:
    with Bridge.from_bench(bench("board: {at: 'virtual:loop'}")) as bridge:
        bridge.unplug("board")
        bridge.plug("virtual:loop", name="board")
        assert [device["name"] for device in bridge.devices()] == ["board"]


def test_a_board_that_dies_is_a_device_that_is_gone(bench: Callable[..., Path], tmp_path: Path) -> None:
    bench_file(tmp_path, BOARD, "b1.yaml")
    file = bench("board: {at: 'virtual:loop', virtual: {board: b1.yaml}}")
    with Bridge.from_bench(file, virtual=True) as bridge, bridge.open("board") as port:
        assert port.read_until(b"=> ") == b"hello\r\n=> "
        port.write(b"id\n")
        assert port.read_until(b"=> ") == b"id\r\nB1\r\n=> ", "it got its power once"
        bridge.belongings.close()
        with pytest.raises(DeviceGone):
            port.read(100)
