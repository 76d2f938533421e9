"""The matcher: what it costs grows with the data only, and the memory that it takes is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hilbridge.bridge.expect import LineStart, Matcher, Pattern, exacts, regexes
from tests.bridge.expectkit import found_all, pieces

# ----------------------------------------------------------------------------------------- the cost is that of the data

MEGABYTE = 1_000_000
LINE = b"[   12.345678] usb 1-1: new high-speed USB device number 7 using xhci_hcd\r\n"


def work_per_byte(total: int, sizes: Sequence[int], patterns: Sequence[Pattern[str]], window: int) -> float:
    """Characters searched per byte of `total` bytes in which nothing is found."""
    matcher = Matcher(window, encoding="utf-8")
    for piece in pieces((LINE * (total // len(LINE) + 1))[:total], sizes):
        matcher.feed(piece)
        assert matcher.search(patterns) is None
    assert matcher.received == total
    return matcher.scanned / total


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [(1,), (64,), (4096,), (1, 4096, 3, 700), (100_000,)],
    ids=lambda sizes: "-".join(map(str, sizes)),
)
@pytest.mark.parametrize(
    "patterns",
    [
        exacts("U-Boot", str),
        regexes(["autoboot", "=> "], str),
        regexes([r"U-Boot \d+", "panic"], str),
        (LineStart("=> "),),
    ],
    ids=["exact", "plain", "regex", "prompt"],
)
def test_a_megabyte_costs_per_byte_what_ten_kilobytes_cost(
    patterns: tuple[Pattern[str], ...], sizes: tuple[int, ...]
) -> None:
    window = 4096 if min(sizes) > 1 else 256  # a window per byte is a lot of searching for one test
    total = MEGABYTE if min(sizes) > 1 else MEGABYTE // 8
    small = work_per_byte(10_000, sizes, patterns, window)
    large = work_per_byte(total, sizes, patterns, window)
    assert large <= 2 * small
    assert large <= sum(p.reach if p.reach is not None else window for p in patterns) + len(patterns)


@pytest.mark.slow
def test_a_megabyte_byte_by_byte() -> None:
    patterns = exacts("U-Boot", str)
    assert work_per_byte(MEGABYTE, [1], patterns, 4096) <= 6


def test_a_retried_search_goes_on_where_it_was() -> None:
    matcher = Matcher(64, encoding="utf-8")
    for piece in pieces(LINE * 1000, [100]):
        matcher.feed(piece)
        assert matcher.search(regexes(r"never \d", str)) is None  # compiled anew each time, and yet the same
    assert matcher.scanned <= len(LINE) * 1000 * 1.7


def test_a_search_without_news_costs_nothing() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(LINE)
    assert matcher.search(regexes(r"never \d", str)) is None
    before = matcher.scanned
    for _ in range(10):
        assert matcher.search(regexes(r"never \d", str)) is None
    assert matcher.scanned == before


def test_a_loop_over_a_list_reads_a_long_text_once() -> None:
    """The pattern that is not there is not looked for again behind each line."""
    count = 10_000
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"line 123\n" * count)
    patterns = regexes([r"line (\d+)\n", "END", r"panic: \w+"], str)
    assert sum(1 for _ in found_all(matcher, patterns)) == count
    assert matcher.scanned == 3 * matcher.received


# ---------------------------------------------------------------------------------------------------- memory is bounded


def kept(matcher: Matcher[str]) -> int:
    """Characters in the matcher's hands, wherever they are."""
    return len(matcher._tail) + sum(map(len, matcher._old)) + sum(map(len, matcher._new))


@pytest.mark.parametrize("searching", [True, False])
@pytest.mark.parametrize("size", [1, 10, 997, 5000])
def test_memory_is_bounded(size: int, searching: bool) -> None:
    matcher = Matcher(16, encoding="utf-8", scrollback=1000)
    most = blocks = 0
    for number, piece in enumerate(pieces(LINE * 500, [size])):
        matcher.feed(piece)
        if searching:
            assert matcher.search(regexes(["never"] if number % 2 else [r"nev\wr"], str)) is None
        most = max(most, kept(matcher), len(matcher._raw) // 2)
        blocks = max(blocks, len(matcher._old) + len(matcher._new))
    assert most <= 4 * 1000 + 2 * size
    assert blocks <= (1000 // 32 + 3 if searching else 2 * 1000 // min(size, 16) + 2)
    assert 1000 <= len(matcher.text) <= 1000 + 16 + 2 * 1000 * (not searching)
    assert matcher.text == (LINE * 500).decode()[-len(matcher.text) :]
    assert matcher.dropped == len(LINE) * 500 - len(matcher.text)
    assert matcher.raw == LINE.join([b""] * 501)[-1000:]


def test_text_that_was_searched_is_not_copied_again() -> None:
    """Copies are no searches and `scanned` does not see them, so this looks at the parts."""
    matcher = Matcher(16, encoding="utf-8")
    first = ""
    for piece in pieces(LINE * 20, [1]):
        matcher.feed(piece)
        assert matcher.search(regexes(r"nev\wr", str)) is None
        first = first or (matcher._old[0] if matcher._old else "")
    assert matcher._old[0] is first
    assert len(first) >= 2 * 16


def test_a_short_match_does_not_copy_the_long_text_behind_it() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(LINE * 1000)
    copies = 0
    for _ in range(1000):
        tail = matcher._tail
        assert matcher.search(exacts("\n", str)) is not None
        copies += matcher._tail is not tail
    assert copies <= 20


def test_patterns_that_are_never_the_same_are_forgotten() -> None:
    matcher = Matcher(encoding="utf-8")
    for number in range(1000):
        matcher.feed(b".")
        assert matcher.search(exacts(f"line {number}", str)) is None
    assert len(matcher._known) <= 101


def test_text_in_front_of_many_matches_is_not_kept() -> None:
    matcher = Matcher(encoding="utf-8")
    for _ in range(1000):
        matcher.feed(b"x" * 99 + b"\n" + b"y")
        assert matcher.search(exacts("\n", str)) is not None
        assert kept(matcher) <= 400
    assert matcher.text == "y"


def test_take_empties_the_stream() -> None:
    matcher = Matcher(4, encoding="utf-8", scrollback=100)
    for piece in pieces(b"0123456789" * 100, [9]):
        matcher.feed(piece)
        assert matcher.search(exacts("never", str)) is None
    matcher.feed("é".encode()[:1])
    taken = matcher.take()
    assert taken == ("0123456789" * 100)[-len(taken) :]
    assert 100 <= len(taken) <= 104
    assert (matcher.text, matcher.dropped, matcher.raw) == ("", 0, "é".encode()[:1])
    matcher.feed("é".encode()[1:])
    assert matcher.text == "é"
