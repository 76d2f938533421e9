"""Tests of the serial driver that know nothing of time, once more: with a UART in place of the line that has no pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hilbridge.virtual.uart import VirtualUart
from tests.drivers.serial import test_ioctl, test_purge, test_read, test_removal, test_write
from tests.drivers.serial.serialkit import Port, ports_of


class UartPort(Port):
    """The far end speaks, and time passes until all that it says has been heard."""

    def __init__(self, *, loop: bool = False, **options: Any) -> None:
        uart = VirtualUart(loop=loop)
        super().__init__(line=uart, **options)  # type: ignore[arg-type]
        self.uart = uart

    def settle(self) -> None:
        super().settle()
        self.pass_time((self.uart.untaken + 5) * 10_000 / 115_200)


@pytest.fixture
def make_port() -> Iterator[Callable[..., Port]]:
    yield from ports_of(UartPort)


@pytest.fixture(params=[None, True], ids=["plain", "verified"])
def port(make_port: Callable[..., Port], request: pytest.FixtureRequest) -> Port:
    return make_port(verify=request.param)


# Without what looks at a line that holds more than a UART's FIFO, or hands it over in no time.
# -- reading
test_of_what_is_there = test_read.test_read_of_what_is_there_ends_at_once
test_last_byte = test_read.test_read_waits_and_ends_with_its_last_byte
test_order = test_read.test_reads_are_served_in_the_order_of_their_arrival
test_large_and_small = test_read.test_a_small_read_does_not_overtake_a_large_one
test_younger = test_read.test_a_read_that_could_end_waits_behind_an_older_one
test_minimum_takes_all = test_read.test_minimum_takes_all_that_is_there
test_minimum_waits = test_read.test_minimum_waits_until_there_are_as_many
test_terminator = test_read.test_terminator_takes_up_to_it_and_leaves_the_rest
test_terminator_in_pieces = test_read.test_terminator_that_arrives_in_pieces
test_terminator_absent = test_read.test_terminator_that_does_not_come_within_the_length
test_cancelled = test_read.test_cancelled_read_leaves_its_bytes
test_cancelled_queue = test_read.test_bytes_of_a_cancelled_read_go_to_the_next_in_the_queue
test_late_cancel = test_read.test_a_late_cancel_does_not_hit_the_next_read
test_timed_out = test_read.test_timed_out_read_shows_its_bytes_and_consumes_none
test_access = test_read.test_reading_needs_the_access
# -- writing, settings, modem lines
test_writing_needs_the_access = test_write.test_writing_needs_the_access
test_rate = test_ioctl.test_baud_rate_is_a_plain_number
test_rate_of_zero = test_ioctl.test_baud_rate_of_zero_is_refused
test_line_control = test_ioctl.test_line_control_takes_what_is_possible_and_refuses_the_rest
test_timeouts = test_ioctl.test_timeouts_are_kept_as_they_are
test_modem_status = test_ioctl.test_modem_status_and_dtrrts_have_the_bits_of_ntddser
test_break = test_ioctl.test_break
test_comm_status = test_ioctl.test_comm_status_of_a_read_that_waits
test_peek = test_ioctl.test_peek_shows_and_does_not_take
test_unread = test_ioctl.test_unread_bytes_are_read_again_first
# -- purge
test_idle_purge = test_purge.test_purge_of_an_idle_port_does_nothing
test_one_reader = test_purge.test_rxclear_is_about_one_reader_only
test_beginning = test_purge.test_rxclear_in_the_middle_of_a_line_forgets_its_beginning
# -- removal
test_holds_bytes = test_removal.test_read_that_holds_bytes_ends_with_success_and_the_others_with_gone
test_holds_nothing = test_removal.test_read_that_holds_nothing_ends_with_gone
test_rest_first = test_removal.test_reads_after_the_removal_give_the_rest_first
test_again = test_removal.test_the_news_comes_again_and_again
test_iteration = test_removal.test_iteration_gives_every_line_and_then_the_news
test_every_reader = test_removal.test_every_reader_gets_the_rest_for_itself
test_lingers = test_removal.test_device_lingers_until_its_last_handle_is_closed
test_twice = test_removal.test_unplugging_twice_is_unplugging_once
