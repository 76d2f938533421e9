"""The matcher: what it finds does not depend on how the data came in pieces."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import pexpect
import pexpect.expect
import pexpect.spawnbase
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilbridge.bridge.expect import LineStart, Matcher, Pattern, exacts, regexes
from hilbridge.model.errors import DeviceFault
from hilbridge.model.status import STATUS_DEVICE_DATA_ERROR
from tests.bridge.expectkit import found_all, pieces

many = settings(max_examples=300)


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
