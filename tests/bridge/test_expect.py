"""The matcher: what it finds does not depend on how the data came in pieces; what it costs grows with the data only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pexpect
import pexpect.expect
import pexpect.spawnbase
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilbridge.bridge.expect import (
    ExpectMismatch,
    ExpectTimeout,
    LineStart,
    Match,
    Matcher,
    Pattern,
    describe,
    exacts,
    last_lines,
    regexes,
)
from hilbridge.model.errors import DeviceFault, DeviceTimeout, HilbridgeError, UsageFault
from hilbridge.model.status import STATUS_DEVICE_DATA_ERROR

many = settings(max_examples=300)


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def found_all(matcher: Matcher[str], patterns: Sequence[Pattern[str]]) -> Iterator[tuple[int, str, str, int, Any]]:
    while (match := matcher.search(patterns)) is not None:
        yield match.index, match.text, match.before, match.dropped, match.groups()


# -------------------------------------------------------------------------------------------------------- what is found


def test_the_earliest_match_wins_whatever_its_place_in_the_list() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"one two three")
    match = matcher.search(regexes(["three", "two"], str))
    assert match == Match(1, "two", "one ", 0, match.found if match else None)
    assert matcher.text == " three"


def test_of_two_matches_at_one_place_the_pattern_named_first_wins() -> None:
    for patterns, expected in [(["ab", "abc"], "ab"), (["abc", "ab"], "abc")]:
        matcher = Matcher(encoding="utf-8")
        matcher.feed(b"xabcx")
        match = matcher.search(exacts(patterns, str))
        assert match is not None
        assert (match.index, match.text) == (0, expected)


def test_a_match_may_be_split_over_any_number_of_pieces() -> None:
    matcher = Matcher(encoding="utf-8")
    for byte in b"\r\nlogin":
        matcher.feed(bytes([byte]))
        assert matcher.search(exacts("login: ", str)) is None
    matcher.feed(b": ")
    match = matcher.search(exacts("login: ", str))
    assert match is not None
    assert match.before == "\r\n"
    assert matcher.text == ""


def test_a_regular_expression_gives_its_groups() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"temp=21.5C\n")
    match = matcher.search(regexes(r"(?P<what>\w+)=(\d+)\.(\d)(x)?", str))
    assert match is not None
    assert match.groups() == ("temp", "21", "5", None)
    assert match.group("what") == match.group(1) == "temp"
    assert match.group() == match.group(0) == match.text == "temp=21.5"
    assert match.group(2, 3) == ("21", "5")
    assert match.groupdict() == {"what": "temp"}


def test_exact_text_has_group_zero_only() -> None:
    matcher = Matcher()
    matcher.feed(b"a.c")
    match = matcher.search(exacts(b".", bytes))
    assert match is not None
    assert (match.before, match.text, match.group(), match.groups(), match.groupdict()) == (b"a", b".", b".", (), {})
    assert match.group(0, 0) == (b".", b".")
    with pytest.raises(IndexError, match="no such group"):
        match.group(1)


def test_a_greedy_pattern_takes_what_is_there() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"n=12")
    match = matcher.search(regexes(r"\d+", str))
    matcher.feed(b"34")
    assert match is not None
    assert match.text == "12"
    assert matcher.text == "34"


def test_a_greedy_pattern_takes_more_than_a_window_if_it_is_there() -> None:
    matcher = Matcher(4, encoding="utf-8")
    matcher.feed(b"<" + b"x" * 1000 + b">")
    match = matcher.search(regexes(r"<.*>", str))
    assert match is not None
    assert len(match.text) == 1002


def test_dollar_means_the_end_of_what_has_arrived() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"ok, then")
    assert matcher.search(regexes(r"ok$", str)) is None
    matcher.feed(b" ok")
    assert matcher.search(regexes(r"ok$", str)) is not None


def test_a_dot_matches_newlines_in_text_and_not_in_what_the_user_compiled() -> None:
    cases: list[tuple[str | re.Pattern[str], bool]] = [
        ("a.b", True),
        (re.compile("a.b"), False),
        (re.compile("(?s)a.b"), True),
    ]
    for pattern, expected in cases:
        matcher = Matcher(encoding="utf-8")
        matcher.feed(b"a\nb")
        assert (matcher.search(regexes(pattern, str)) is not None) is expected


@pytest.mark.parametrize("pattern", [r"\Afoo", r"^foo", r"(?m)^foo", r"\bfoo", r"(?<!.)foo", r"(?<!\w)foo"])
def test_what_an_earlier_match_took_is_not_there_for_the_next(pattern: str) -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"xfoo and more of it, to be longer than what was taken")
    assert matcher.search(regexes(pattern, str)) is None
    assert matcher.search(exacts("x", str)) is not None
    match = matcher.search(regexes(pattern, str))
    assert match is not None
    assert match.before == ""


@pytest.mark.parametrize("pattern", [r"\Afoo", r"^foo", r"\bfoo", r"(?<!x)foo", r"(?<!x{8})foo"])
def test_the_edge_of_the_window_is_not_the_beginning_of_the_stream(pattern: str) -> None:
    for count in range(1, 120):  # wherever the edge happens to be
        matcher = Matcher(8, encoding="utf-8")
        for _ in range(count):
            matcher.feed(b"xxxxxxxx")
            assert matcher.search(regexes(pattern, str)) is None
        matcher.feed(b"foo")
        assert matcher.search(regexes(pattern, str)) is None


def test_the_edge_of_the_scroll_back_is_not_the_beginning_of_the_stream() -> None:
    for extra in range(20):
        matcher = Matcher(4, encoding="utf-8", scrollback=8)
        for byte in b"foo" * 40 + b"f" * extra:
            matcher.feed(bytes([byte]))
            assert matcher.search(exacts("bar", str)) is None
        assert matcher.dropped
        assert matcher.search(regexes([r"\A", r"\A.", r"^."][1:], str)) is None


def test_lookbehind_sees_what_was_searched_before() -> None:
    matcher = Matcher(8, encoding="utf-8")
    for byte in b"." * 100 + b"abcdefgh" + b"X":
        assert matcher.search(regexes(r"(?<=abcdefgh)X", str)) is None
        matcher.feed(bytes([byte]))
    match = matcher.search(regexes(r"(?<=abcdefgh)X", str))
    assert match is not None
    assert match.before == "." * 100 + "abcdefgh"


def test_a_match_as_long_as_the_window_is_found_wherever_it_lies() -> None:
    for lead in range(60):
        matcher = Matcher(8, encoding="utf-8")
        match = None
        for byte in b"." * lead + b"<123456>":
            assert match is None
            matcher.feed(bytes([byte]))
            match = matcher.search(regexes(r"<\d+>", str))
        assert match is not None
        assert match.before == "." * lead


@pytest.mark.parametrize("length", [5, 40, 3000])
def test_exact_text_may_be_longer_than_the_window(length: int) -> None:
    wanted = "".join(chr(65 + i % 23) for i in range(length))
    matcher = Matcher(4, encoding="utf-8", scrollback=64)
    match = None
    for piece in pieces(("-" * 5000 + wanted).encode(), [3, 1, 17]):
        matcher.feed(piece)
        match = match or matcher.search(exacts(wanted, str))
    assert match is not None
    assert match.text == wanted
    assert match.before == "-" * 64
    assert match.dropped == 5000 - 64


def test_a_line_start_is_the_front_of_the_stream_or_follows_cr_or_lf() -> None:
    prompt = [LineStart("=> ")]
    for text, before in [("=> ", ""), ("a => \r=> ", "a => \r"), ("a\n=> ", "a\n"), ("x=> => ", None)]:
        matcher = Matcher(encoding="utf-8")
        matcher.feed(text.encode())
        match = matcher.search(prompt)
        assert (match.before if match else None) == before


def test_a_line_start_is_what_follows_an_earlier_match() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"x=> and more of it, to be longer than what was taken")
    assert matcher.search(exacts("x", str)) is not None
    assert matcher.search([LineStart("=> ")]) is not None


def test_a_line_start_is_not_faked_by_an_earlier_match() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"a\nb=> c")
    assert matcher.search(exacts("\n", str)) is not None
    assert matcher.search([LineStart("=> ")]) is None
    matcher.feed(b" =>  and a longer text behind\n=> ")
    match = matcher.search([LineStart("=> ")])
    assert match is not None
    assert match.before == "b=> c =>  and a longer text behind\n"


def test_a_search_with_other_patterns_sees_everything_again() -> None:
    matcher = Matcher(4, encoding="utf-8")
    for byte in b"start" + b"." * 500:
        matcher.feed(bytes([byte]))
        assert matcher.search(regexes("never", str)) is None
    match = matcher.search(regexes("s.art", str))
    assert match is not None
    assert match.before == ""
    assert matcher.text == "." * 500


def test_what_is_known_of_a_pattern_does_not_hide_an_earlier_match_that_more_text_completes() -> None:
    patterns = regexes([r"<.*>|!", "x"], str)
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"x<1!")
    match = matcher.search(patterns)  # and "!" was seen on the way
    assert match is not None
    assert match.text == "x"
    matcher.feed(b"2>")
    match = matcher.search(patterns)
    assert match is not None
    assert match.text == "<1!2>"


def test_bytes_stay_bytes() -> None:
    matcher = Matcher()
    matcher.feed(b"\x00\xff\x80ok\xfe")
    match = matcher.search(regexes(re.compile(rb"ok"), bytes))
    assert match is not None
    assert (match.before, match.text, matcher.text, matcher.raw) == (b"\x00\xff\x80", b"ok", b"\xfe", b"\xfe")


# -------------------------------------------------------------------------------------------------- refused with reason


@pytest.mark.parametrize("pattern", ["a*", "$", "^", "(x)?", "(?=a)?", "", re.compile(""), "a|"])
def test_a_pattern_that_can_match_nothing_is_refused_at_once(pattern: str | re.Pattern[str]) -> None:
    with pytest.raises(UsageFault, match="empty"):
        regexes(pattern, str)


@pytest.mark.parametrize("pattern", [r"\b", r"(?=two)", r"(?<=one)", r"(?m)(?<=\n)^"])
def test_a_pattern_that_has_matched_nothing_is_refused_and_nothing_is_lost(pattern: str) -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed(b"one\ntwo")
    with pytest.raises(UsageFault, match="at least one character"):
        matcher.search(regexes(["never", pattern], str))
    assert matcher.text == "one\ntwo"
    assert matcher.search(exacts("two", str)) is not None


@pytest.mark.parametrize(
    ("compile_all", "pattern", "kind", "message"),
    [
        (regexes, "[", str, r"'\[' is not a regular expression: .*exact"),
        (regexes, [b"a"], str, "type str"),
        (regexes, re.compile("a"), bytes, "type bytes"),
        (exacts, re.compile("a"), str, "type str"),
        (exacts, ["a", pexpect.EOF], str, "exceptions, not patterns"),
        (exacts, [], str, "empty list"),
        (exacts, 7, str, "is no pattern"),
    ],
)
def test_wrong_patterns_are_refused_with_what_to_do(compile_all: Any, pattern: Any, kind: Any, message: str) -> None:
    with pytest.raises(UsageFault, match=message):
        compile_all(pattern, kind)


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"window": 100, "scrollback": 99}, {"encoding": "klingon"}, {"errors": "shrug"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    settings_: dict[str, Any] = {"encoding": "utf-8", **wrong}
    with pytest.raises(UsageFault):
        Matcher(**settings_)


# -------------------------------------------------------------------------------------------------------- text of bytes


@many
@given(st.binary(max_size=60), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_decoding_does_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    matcher = Matcher(encoding="utf-8")
    for piece in pieces(data, sizes):
        matcher.feed(piece)
        assert matcher.search(exacts("\x00\x01never", str)) is None or b"never" in data
    assert matcher.raw == data
    matcher.finish()
    assert matcher.text == data.decode("utf-8", "replace")
    assert matcher.received == len(data)


@many
@given(st.text("aé€😀|", max_size=40), st.binary(max_size=4), st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_the_received_bytes_behind_a_match_are_kept_as_they_were(text: str, junk: bytes, sizes: list[int]) -> None:
    data = text.encode() + b"!" + junk
    matcher = Matcher(encoding="utf-8")
    for piece in pieces(data, sizes):
        matcher.feed(piece)
    match = matcher.search(exacts("!", str))
    assert match is not None
    assert match.before == text
    assert matcher.raw == junk
    matcher.feed(b"\xff")
    assert matcher.raw == junk + b"\xff"


def test_bytes_behind_undecodable_ones_are_encoded_again() -> None:
    matcher = Matcher(encoding="utf-8")
    matcher.feed("\xff|é".encode("latin-1") + b"\xe2\x82")
    assert matcher.search(exacts("|", str)) is not None
    assert matcher.raw == "\ufffd".encode() + b"\xe2\x82"
    matcher.feed(b"\xac")
    assert matcher.text == "\ufffd€"


def test_strict_decoding_fails_with_the_bytes_and_goes_on() -> None:
    matcher = Matcher(encoding="utf-8", errors="strict")
    matcher.feed(b"fine \xe2\x82")
    with pytest.raises(DeviceFault, match=r"not utf-8.*baud rate") as caught:
        matcher.feed(b"bad")
    assert caught.value.partial == b"\xe2\x82bad"
    assert caught.value.status == STATUS_DEVICE_DATA_ERROR
    matcher.feed(b"again")
    assert matcher.text == "fine again"


# ---------------------------------------------------------------------------------------- the same however it is cut up

# Lists of which no match can start earlier and yet be complete later than one of another pattern, and no match can go
# on behind its end: for others what has arrived decides, as it does in pexpect.
LISTS = [
    exacts(["ab"], str),
    exacts(["a\nb", "b=>", "é1b"], str),
    (LineStart("=>"),),
    (LineStart("=>"), *exacts("ab", str)),
    regexes([r"a\d\n"], str),
    regexes([r"(?<=\n)a(b)", r"1{1,3}\n"], str),
    regexes([r"(?<!a)b\n", r"=[^\n]{0,4}\n"], str),
    regexes([r"(a|b)(?==>)"], str),
    regexes([r"\bab", r"\A1\n"], str),
    regexes([re.compile(r"^ab", re.MULTILINE), "=>"], str),
    regexes([re.compile("AB", re.IGNORECASE)], str),
]


def searched_by_hand(text: str, patterns: Sequence[Pattern[str]]) -> tuple[list[tuple[int, str, str]], str]:
    """All matches of a text that is there as a whole, with nothing but `re`."""
    compiled = [
        re.compile(p.regex.pattern, p.regex.flags)
        if hasattr(p, "regex")
        else re.compile(("(?:\\A|(?<=[\\r\\n]))" if isinstance(p, LineStart) else "") + re.escape(p.text))  # type: ignore[attr-defined]
        for p in patterns
    ]
    found = []
    while hits := [(m.start(), index, m) for index, c in enumerate(compiled) if (m := c.search(text))]:
        start, index, match = min(hits, key=lambda hit: hit[:2])
        found.append((index, match.group(), text[:start]))
        text = text[match.end() :]
    return found, text


@many
@given(
    st.text("ab1=>\né", max_size=120),
    st.sampled_from(LISTS),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([8, 9, 13, 4096]),
)
def test_any_cut_gives_what_one_piece_gives(
    text: str, patterns: tuple[Pattern[str], ...], sizes: list[int], window: int
) -> None:
    expected, rest = searched_by_hand(text, patterns)
    for cut in [sizes, [1], [len(text.encode()) + 1]]:
        matcher = Matcher(window, encoding="utf-8")
        found: list[tuple[int, str, str]] = []
        for piece in pieces(text.encode(), cut):
            matcher.feed(piece)
            found += [hit[:3] for hit in found_all(matcher, patterns)]
        assert found == expected
        assert matcher.text == rest


@many
@given(
    st.text("ab1=>\n", max_size=200),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.lists(st.sampled_from(LISTS), min_size=2, max_size=4),
)
def test_alternating_searches_find_what_fresh_ones_find(
    text: str, sizes: list[int], lists: list[tuple[Pattern[str], ...]]
) -> None:
    """What a search remembers of an earlier one never hides a match: a matcher without memory is the reference."""
    matcher = Matcher(4096, encoding="utf-8")
    for piece, patterns in zip(pieces(text.encode(), sizes), itertools.cycle(lists), strict=False):
        matcher.feed(piece)
        fresh = Matcher(4096, encoding="utf-8")
        fresh.feed(matcher.raw)
        assert list(found_all(matcher, patterns)) == list(found_all(fresh, patterns))
        assert matcher.text == fresh.text


@many
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 300), st.integers(8, 40))
def test_the_scroll_back_is_the_same_however_it_came(sizes: list[int], length: int, scrollback: int) -> None:
    lead = "".join(chr(97 + i % 26) for i in range(length))
    matcher = Matcher(8, encoding="utf-8", scrollback=scrollback)
    match = None
    for piece in pieces(lead.encode() + b"!=", sizes):
        matcher.feed(piece)
        match = match or matcher.search(regexes("!.?=", str)) or matcher.search(exacts("!=", str))
    assert match is not None
    assert match.before == lead[-scrollback:]
    assert match.dropped == max(0, length - scrollback)


# ---------------------------------------------------------------------------------------------------- pexpect is a peer


@many
@given(
    st.lists(
        st.binary(min_size=1, max_size=12).map(lambda raw: bytes(b"ab1\n"[byte % 4] for byte in raw)), max_size=12
    ),
    st.lists(st.sampled_from(["ab", r"\d+", "a+", "b.", "^b", "1$", r"\Ba", "a.*b", r"(\n)1"]), min_size=1, max_size=3),
)
def test_pexpect_finds_the_same_in_the_same_pieces(chunks: list[bytes], patterns: list[str]) -> None:
    spawn = pexpect.spawnbase.SpawnBase(encoding="utf-8")
    searcher = pexpect.expect.searcher_re([re.compile(pattern, re.DOTALL) for pattern in patterns])
    matcher = Matcher(4096, encoding="utf-8")
    ours = regexes(patterns, str)
    for chunk in chunks:
        expecter = pexpect.expect.Expecter(spawn, searcher)
        theirs = expecter.new_data(chunk.decode())
        matcher.feed(chunk)
        match = matcher.search(ours)
        while theirs is not None or match is not None:
            assert match is not None
            assert (match.index, match.before, match.text) == (theirs, spawn.before, spawn.after)
            theirs = pexpect.expect.Expecter(spawn, searcher).existing_data()
            match = matcher.search(ours)
        assert matcher.text == spawn.buffer


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


# -------------------------------------------------------------------------------------------------- errors and messages


def test_the_errors_say_who_is_to_blame() -> None:
    late = ExpectTimeout("late", expected="'x'", waited=1.5, partial=b"abc")
    assert isinstance(late, DeviceTimeout)
    assert isinstance(late, TimeoutError)
    assert (str(late), late.expected, late.waited, late.partial, late.exit_code) == ("late", "'x'", 1.5, b"abc", 8)
    match = Match(0, "panic", "")
    wrong = ExpectMismatch("wrong", match=match, partial=b"panic")
    assert isinstance(wrong, HilbridgeError)
    assert (str(wrong), wrong.match, wrong.partial, wrong.exit_code) == ("wrong", match, b"panic", 1)


def test_messages_name_patterns_shortly() -> None:
    assert describe(exacts("a\n", str)) == "'a\\n'"
    assert describe(regexes([b"a+", re.compile(b"b")], bytes)) == "any of b'a+', b'b'"
    assert describe([LineStart("=> ")]) == "'=> ' at the start of a line"
    assert len(describe(exacts("x" * 1000, str))) < 100


def test_the_last_lines_are_escaped_and_bounded() -> None:
    assert last_lines("") == "''"
    assert last_lines("a\r\n\x1b[0mb") == "'a\\r\\n\\x1b[0mb'"
    assert last_lines("".join(f"{i}\n" for i in range(9))) == "...'4\\n5\\n6\\n7\\n8\\n'"
    assert last_lines(b"x" * 5000, characters=10) == "...b'xxxxxxxxxx'"
    assert "\n" not in last_lines("a\x0bb\u2028c\n" * 100)
