"""The matcher: what it finds, which patterns it refuses, and what its errors say."""

from __future__ import annotations

import re
from typing import Any

import pexpect
import pexpect.expect
import pexpect.spawnbase
import pytest

from hilbridge.bridge.expect import (
    ExpectMismatch,
    ExpectTimeout,
    LineStart,
    Match,
    Matcher,
    describe,
    exacts,
    last_lines,
    regexes,
)
from hilbridge.model.errors import DeviceTimeout, HilbridgeError, UsageFault
from tests.bridge.expectkit import pieces

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
