"""A provider's blocks, and what each request to it is answered, without an I/O manager around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from hilbridge.model.codes import WmiMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault
from hilbridge.model.guid import normal_guid
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_SUCCESS,
    STATUS_WMI_GUID_NOT_FOUND,
    STATUS_WMI_INSTANCE_NOT_FOUND,
    STATUS_WMI_ITEMID_NOT_FOUND,
    STATUS_WMI_READ_ONLY,
    NtStatus,
)
from hilbridge.model.wmi import WMIREGISTER, WMIUPDATE, WmiBlock, WmiProvider, WmiRegGuid, Wnode
from tests.support import System, TinyDriver

STANDARD = "{BBA21300-6DD3-11D2-B844-00C04FAD5171}"
CHANNELS = "{8209EC2A-2D6B-11D2-BA49-00A0C9062910}"
ABSENT = "{00000000-0000-0000-0000-000000000001}"


def standard(_device: Any) -> dict[str, object]:
    return {"ConnectorType": 1, "Capacity": 2000, "ErrorCount": 0}


PROVIDER = WmiProvider(
    {
        STANDARD.lower(): WmiBlock("ToasterDeviceInformation", standard),
        CHANNELS: WmiBlock("Channel", {"A": lambda _: {"Level": 1}, "B": lambda _: {"Level": 2}}),
    }
)


@pytest.fixture
def device() -> DeviceObject[Any]:
    return System().stack(TinyDriver("toaster"))


def ask(
    device: DeviceObject[Any], minor: int, guid: object = STANDARD, instance: str | int = 0, item: str = ""
) -> tuple[NtStatus, object]:
    wnode = Wnode(instance, item)
    return PROVIDER.answer(device, minor, guid, wnode), wnode.data


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (STANDARD, STANDARD),
        (STANDARD.lower(), STANDARD),
        (STANDARD.strip("{}"), None),
        (STANDARD.replace("-", ""), None),
        (STANDARD + "\n", None),
        ("{BBA21300-6DD3-11D2-B844-00C04FAD517G}", None),
        ("", None),
        (None, None),
        (0, None),
        (b"{}", None),
    ],
)
def test_a_guid_has_one_form(written: object, normal: str | None) -> None:
    assert normal_guid(written) == normal


# -- building one --------------------------------------------------------------------------------------------------------


def nothing(_device: Any) -> dict[str, object]:
    return {}


BAD: dict[str, tuple[Mapping[str, WmiBlock], str]] = {
    "no GUID": ({"Toaster": WmiBlock("Toaster", nothing)}, "WMI block Toaster: 'Toaster' is no GUID in braces"),
    "the same GUID": ({STANDARD: WmiBlock("One", nothing), STANDARD.lower(): WmiBlock("Two", nothing)}, "Two .* twice"),
    "the same name": ({STANDARD: WmiBlock("One", nothing), CHANNELS: WmiBlock("One", nothing)}, "One .* twice"),
    "no instance": ({STANDARD: WmiBlock("One", {})}, "One has no instances"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_provider_that_cannot_be_is_refused_and_the_block_named(what: str) -> None:
    blocks, words = BAD[what]
    with pytest.raises(DriverFault, match=words):
        WmiProvider(blocks)


def test_a_provider_without_blocks_can_be(device: DeviceObject[Any]) -> None:
    assert WmiProvider({}).registration(device) == []


# -- questions with an answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [WmiMinor.REGINFO, WmiMinor.REGINFO_EX], ids=lambda minor: minor.name)
@pytest.mark.parametrize("data_path", [WMIREGISTER, WMIUPDATE])
def test_the_registration_names_blocks_and_instances(
    device: DeviceObject[Any], minor: WmiMinor, data_path: int
) -> None:
    assert device.name == "\\Device\\toaster0"
    assert ask(device, minor, data_path) == (
        STATUS_SUCCESS,
        [
            WmiRegGuid(STANDARD, "ToasterDeviceInformation", ("toaster0_0",)),
            WmiRegGuid(CHANNELS, "Channel", ("A", "B")),
        ],
    )


def test_the_instance_of_an_unnamed_device_is_named_after_its_driver() -> None:
    unnamed = System().stack(TinyDriver("filter", named=False))
    assert PROVIDER.registration(unnamed)[0].instances == ("filter_0",)


def test_all_data_is_that_of_every_instance(device: DeviceObject[Any]) -> None:
    assert ask(device, WmiMinor.QUERY_ALL_DATA) == (STATUS_SUCCESS, {"toaster0_0": standard(device)})
    assert ask(device, WmiMinor.QUERY_ALL_DATA, CHANNELS.lower()) == (
        STATUS_SUCCESS,
        {"A": {"Level": 1}, "B": {"Level": 2}},
    )


@pytest.mark.parametrize(("instance", "level"), [(0, 1), (1, 2), ("A", 1), ("B", 2)])
def test_an_instance_is_asked_by_number_or_by_name(device: DeviceObject[Any], instance: str | int, level: int) -> None:
    assert ask(device, WmiMinor.QUERY_SINGLE_INSTANCE, CHANNELS, instance) == (STATUS_SUCCESS, {"Level": level})


SWITCHES = [
    WmiMinor.ENABLE_EVENTS,
    WmiMinor.DISABLE_EVENTS,
    WmiMinor.ENABLE_COLLECTION,
    WmiMinor.DISABLE_COLLECTION,
]


@pytest.mark.parametrize("minor", SWITCHES, ids=lambda minor: minor.name)
def test_switching_on_and_off_succeeds_and_does_nothing(device: DeviceObject[Any], minor: WmiMinor) -> None:
    assert ask(device, minor) == (STATUS_SUCCESS, None)
    assert ask(device, minor, ABSENT) == (STATUS_WMI_GUID_NOT_FOUND, None)


def test_the_answer_is_a_copy(device: DeviceObject[Any]) -> None:
    kept: dict[str, object] = {"Level": 1}
    wnode = Wnode()
    WmiProvider({STANDARD: WmiBlock("Kept", lambda _: kept)}).answer(
        device, WmiMinor.QUERY_SINGLE_INSTANCE, STANDARD, wnode
    )
    kept["Level"] = 2
    assert wnode.data == {"Level": 1}


# -- questions without one -----------------------------------------------------------------------------------------------

OF_AN_INSTANCE = [
    WmiMinor.QUERY_SINGLE_INSTANCE,
    WmiMinor.CHANGE_SINGLE_INSTANCE,
    WmiMinor.CHANGE_SINGLE_ITEM,
    WmiMinor.EXECUTE_METHOD,
]


@pytest.mark.parametrize("minor", [WmiMinor.QUERY_ALL_DATA, *OF_AN_INSTANCE], ids=lambda minor: minor.name)
@pytest.mark.parametrize("guid", [ABSENT, "nonsense", "", None, 1])
def test_an_unknown_block(device: DeviceObject[Any], minor: WmiMinor, guid: object) -> None:
    assert ask(device, minor, guid) == (STATUS_WMI_GUID_NOT_FOUND, None)


@pytest.mark.parametrize("minor", OF_AN_INSTANCE, ids=lambda minor: minor.name)
@pytest.mark.parametrize("instance", [2, -1, "C", "", "a"])
def test_an_unknown_instance(device: DeviceObject[Any], minor: WmiMinor, instance: str | int) -> None:
    assert ask(device, minor, CHANNELS, instance) == (STATUS_WMI_INSTANCE_NOT_FOUND, None)


def test_nothing_can_be_changed(device: DeviceObject[Any]) -> None:
    assert ask(device, WmiMinor.CHANGE_SINGLE_INSTANCE) == (STATUS_WMI_READ_ONLY, None)
    assert ask(device, WmiMinor.CHANGE_SINGLE_ITEM, item="Capacity") == (STATUS_WMI_READ_ONLY, None)
    assert ask(device, WmiMinor.CHANGE_SINGLE_ITEM, item="capacity") == (STATUS_WMI_ITEMID_NOT_FOUND, None)


def test_there_are_no_methods(device: DeviceObject[Any]) -> None:
    assert ask(device, WmiMinor.EXECUTE_METHOD) == (STATUS_INVALID_DEVICE_REQUEST, None)


@pytest.mark.parametrize("minor", list(WmiMinor), ids=lambda minor: minor.name)
@pytest.mark.parametrize("buffer", [None, b"", bytearray(64)])
def test_what_is_no_wnode_is_too_small(device: DeviceObject[Any], minor: WmiMinor, buffer: object) -> None:
    assert PROVIDER.answer(device, minor, STANDARD, buffer) == STATUS_BUFFER_TOO_SMALL


# -- functions that do not do as they should -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 5, "Level", [("Level", 1)], {1: "Level"}], ids=repr)
def test_a_function_that_returns_no_mapping_is_named(device: DeviceObject[Any], answer: object) -> None:
    wrong = cast("Callable[..., dict[str, object]]", lambda _device: answer)
    provider = WmiProvider({STANDARD: WmiBlock("Broken", wrong)})
    with pytest.raises(
        DriverFault, match=r"driver toaster: the function of WMI block Broken returned .* return a mapping"
    ):
        provider.answer(device, WmiMinor.QUERY_SINGLE_INSTANCE, STANDARD, Wnode())


def test_what_a_function_raises_is_passed_on(device: DeviceObject[Any]) -> None:
    def broken(_device: Any) -> dict[str, object]:
        raise ZeroDivisionError

    provider = WmiProvider({STANDARD: WmiBlock("Broken", broken)})
    with pytest.raises(ZeroDivisionError):
        provider.answer(device, WmiMinor.QUERY_ALL_DATA, STANDARD, Wnode())


def test_a_wnode_says_what_it_asks() -> None:
    assert repr(Wnode("A", "Level", 3)) == "<WNODE instance 'A', item 'Level': 3>"
    assert repr(Wnode()) == "<WNODE instance 0: None>"
