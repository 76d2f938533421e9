"""Frames on a wire, and what a receiver with other settings makes of them."""

from __future__ import annotations

import pytest

from hilbridge.model.hardware import LineSettings
from hilbridge.virtual.wire import BREAK, Received, bits_of, duration, parity_bit, sample


def line(rate: int = 9600, bits: int = 8, parity: str = "N", stop: float = 1) -> LineSettings:
    return LineSettings(rate, bits, parity, stop)


@pytest.mark.parametrize(
    ("settings", "bits"),
    [(line(), 10), (line(bits=7, parity="E"), 10), (line(parity="O", stop=2), 12), (line(bits=5, stop=1.5), 7.5)],
)
def test_bits_of_a_character(settings: LineSettings, bits: float) -> None:
    assert bits_of(settings) == bits


def test_duration_is_rounded_once() -> None:
    assert duration(line(), 1) == 1_041_667
    assert duration(line(), 1000) == 1_041_666_667
    assert duration(line(bits=5, stop=1.5, rate=1000), 3) == 22_500_000


@pytest.mark.parametrize(
    ("data", "parity", "bit"),
    [(0b101, "E", 0), (0b101, "O", 1), (0b1, "E", 1), (0b1, "O", 0), (0, "M", 1), (0b1, "S", 0)],
)
def test_parity_bit(data: int, parity: str, bit: int) -> None:
    assert parity_bit(data, parity) == bit


@pytest.mark.parametrize("parity", "NEOMS")
@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_equal_settings_bring_every_character(bits: int, parity: str) -> None:
    settings = line(bits=bits, parity=parity)
    for byte in range(256):
        assert sample(byte, settings, settings) == (Received(byte & ((1 << bits) - 1)),)


@pytest.mark.parametrize("rate", [9300, 9900])
def test_a_rate_that_is_off_by_three_per_cent_does_no_harm(rate: int) -> None:
    for byte in range(256):
        assert sample(byte, line(rate), line()) == (Received(byte),)


@pytest.mark.parametrize("rate", [8900, 10400])
def test_a_rate_that_is_off_by_eight_per_cent_does(rate: int) -> None:
    wrong = [byte for byte in range(256) if sample(byte, line(rate), line()) != (Received(byte),)]
    assert len(wrong) > 100


def test_every_wrong_parity_is_noticed() -> None:
    for byte in range(128):
        (received,) = sample(byte, line(bits=7, parity="O"), line(bits=7, parity="E"))
        assert received == Received(byte, parity=True)


def test_receiver_that_is_twice_as_fast() -> None:
    """U is 1010..., the lowest bit first: the receiver samples each bit twice, and its ninth and tenth sample, data bit 7 and
    the stop bit, in the sender's data bit 3, which is 0.
    """
    first, second = sample(0x55, line(), line(19200))
    assert first == Received(0b01100110, framing=True)
    # It waits for the next falling edge, between the data bits 4 and 5: then 00 (one of them its start bit), 11, 00, and idle.
    assert second == Received(0b11100110)


def test_zeros_for_a_receiver_that_is_twice_as_fast_are_a_break() -> None:
    assert sample(0, line(), line(19200)) == (Received(0, framing=True, is_break=True),)


def test_receiver_that_is_half_as_fast() -> None:
    """Its start bit is over in our data bit 0, its data bits 0, 1, 2 are our 2, 4, 6; behind them the wire is idle."""
    assert sample(0, line(19200), line()) == (Received(0b11111000),)
    assert sample(0b01010000, line(19200), line()) == (Received(0b11111110),)


def test_start_bit_that_is_too_short_is_noise() -> None:
    assert sample(0xFF, line(115200), line(9600)) == ()


def test_stop_bit_that_is_a_parity_bit_is_a_framing_error() -> None:
    assert sample(0b1, line(parity="O"), line()) == (Received(0b1, framing=True),)


def test_seven_bits_read_as_eight_have_the_stop_bit_on_top() -> None:
    assert sample(0x41, line(bits=7), line()) == (Received(0xC1),)


def test_break_is_a_break_for_everybody() -> None:
    for receiver in (line(), line(300), line(115200, 5, "E")):
        assert sample(BREAK, line(), receiver) == (Received(0, framing=True, is_break=True),)
