"""YAML 1.2 as files are read: what a bare word means, what is refused, and where each part stands."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hilbridge.files.yaml12 import MAX_SIZE, load, parse
from hilbridge.model.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # In YAML 1.1, and so in PyYAML, each of these is something else.
        ("1:20", "1:20"),
        ("1:20:30", "1:20:30"),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("0403", 403),
        ("00123", 123),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("2026-10-01", "2026-10-01"),
        ("=", "="),
        ("0o17", 15),
        ("1e3", 1000.0),
        # The rest of the core schema.
        ("0x1F", 31),
        ("-0x1F", "-0x1F"),
        ("-12", -12),
        ("+12", 12),
        ("12.", 12.0),
        ("-.5", -0.5),
        ("1.5E-3", 0.0015),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        (".", "."),
        ("-", None),  # an empty entry of a list, see below
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("nil", "nil"),
        ('"12"', "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("!!int 0x10", 16),
        ("!!bool true", True),
        ("!!float 3", 3.0),
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("=> ", "=>"),
    ],
)
def test_what_a_bare_word_means(text: str, value: object) -> None:
    found = parse(f"key: {text}\n").value["key"] if text != "-" else parse("-\n").value[0]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_one() -> None:
    assert math.isnan(parse("a: .nan").value["a"])


def test_a_merge_key_is_an_ordinary_key() -> None:
    assert parse("<<: {a: 1}").value == {"<<": {"a": 1}}


def test_the_tables_of_pyyaml_itself_stay_as_they_were() -> None:
    assert yaml.safe_load("a: on") == {"a": True}


TREE = """\
banner:
  - text: hello
  - {after_ms: 20, text: world}
prompt:   '=> '
empty:
"""


def test_each_part_has_its_place() -> None:
    document = parse(TREE, "boards/widget.yaml")
    assert document.where(()) == "boards/widget.yaml:1:1"
    assert document.where(("banner",)) == "boards/widget.yaml:2:3"
    assert document.where(("banner",), key=True) == "boards/widget.yaml:1:1"
    assert document.where(("banner", 0, "text")) == "boards/widget.yaml:2:11"
    assert document.where(("banner", 1)) == "boards/widget.yaml:3:5"
    assert document.where(("banner", 1, "after_ms"), key=True) == "boards/widget.yaml:3:6"
    assert document.where(("prompt",)) == "boards/widget.yaml:4:11"
    assert document.where(("empty",)) == "boards/widget.yaml:5:7"


def test_what_is_not_there_stands_where_it_would_be() -> None:
    document = parse(TREE, "w.yaml")
    assert document.where(("banner", 0, "after_ms")) == document.where(("banner", 0))
    assert document.where(("banner", 7, "text")) == document.where(("banner",))
    assert document.where(("nothing",), key=True) == "w.yaml:1:1"


def test_how_a_scalar_is_spelled_is_kept() -> None:
    document = parse("a: 00123\nb: 'x'\nc: [1]\n")
    assert document.source(("a",)) == "00123"
    assert document.source(("b",)) == "x"
    assert document.source(("c",)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "1:1: the file is empty"),
        ("a: 1\nb: 2\na: 3\n", "3:1: a: this key is already on line 1"),
        ("a: {b: 1, 'b': 2}\n", "1:11: a.b: this key is already on line 1"),
        ("a: &x 1\n", "1:4: anchors (&) and aliases (*) are not used here: write the value out"),
        ("a: *x\n", "1:4: anchors (&) and aliases (*) are not used here: write the value out"),
        ("\ta: 1\n", "1:1: a tab in the indentation: YAML is indented with spaces"),
        ("a:\n  b: 1\n \tc: 2\n", "3:2: a tab in the indentation: YAML is indented with spaces"),
        ("a: \t1\n", "1:4: a tab where YAML wants a space"),
        (
            "a: !!python/name:os.system\n",
            "1:4: the tag '!!python/name:os.system' is not allowed: files hold plain data only",
        ),
        ("a: !!set {b}\n", "1:4: the tag '!!set' is not allowed: files hold plain data only"),
        ("a: !!map [b]\n", "1:4: the tag '!!map' is not allowed: files hold plain data only"),
        ("a: ! 12\n", "1:4: the tag '!' is not allowed: files hold plain data only"),
        ("a: !!int twelve\n", "1:4: 'twelve' is no !!int"),
        ("a: !!bool yes\n", "1:4: 'yes' is no !!bool"),
        ("a: 1\n---\nb: 1\n", "2:1: a second document begins here: one file holds one"),
        ("true: 1\n", '1:1: a key must be text; quote it: "true"'),
        ("? [a]\n: 1\n", "1:3: a key must be text"),
        ("a: b: c\n", "1:5: a ':' where no key can stand; quote a text that holds ': '"),
        ("a: 1\n  b: 2\n", "2:4: a ':' where no key can stand; quote a text that holds ': '"),
        ("- a\nb: 1\n", "2:1: this does not line up with what stands above it; check the indentation"),
        ("a: %x\n", "1:4: a text cannot begin with '%': put it in quotes"),
        ("a: 'x\n\n\n", "1:4: this quote is never closed"),
        ("a: {b: 1\n\n", "1:4: this bracket is never closed"),
        ("a: \x07\n", '1:4: the character U+0007 is not allowed in YAML; in double quotes it is written "\\x07"'),
        ("a: " + "9" * 5000 + "\n", "1:4: a number of 5000 digits: quote it if it is text"),
        ("[" * 100_000, "1:41: nested deeper than 40 levels"),
        ("a: " * 1000, "1:5: a ':' where no key can stand; quote a text that holds ': '"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    assert str(caught.value) == f"f.yaml:{message}"
    assert caught.value.exit_code == 3


def test_deep_nesting_in_a_block_is_bounded_too() -> None:
    text = "".join(f"{' ' * depth}a:\n" for depth in range(60))
    with pytest.raises(ConfigError, match=r"^f\.yaml:40:40: nested deeper than 40 levels$"):
        parse(text, "f.yaml")


def test_a_file_is_named_as_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "widget.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert load("boards/widget.yaml").where(("a",)) == "boards/widget.yaml:1:4"
    assert load(Path("boards") / "widget.yaml").name == "boards/widget.yaml"


def test_a_byte_order_mark_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    document = load(file)
    assert document.value == {"a": 1}
    assert document.where(("a",), key=True) == f"{file}:1:1"


def test_bytes_that_are_not_utf8_are_found(tmp_path: Path) -> None:
    file = tmp_path / "latin1.yaml"
    file.write_bytes("a: 1\nname: \u00fc caf\u00e9".encode()[:-1] + b"\xe9\n")
    with pytest.raises(ConfigError, match=r"latin1\.yaml:2:12: the byte 0xC3 is not UTF-8$"):
        load(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_SIZE + 1))
    (tmp_path / "just_right.yaml").write_bytes(b"a: 1\n" + b"#" * (MAX_SIZE - 5))
    for name, reason in [
        ("missing.yaml", "cannot be read: No such file or directory; check the name"),
        ("big.yaml/x", "cannot be read: Not a directory; check the name"),
        (".", "cannot be read: it is a directory"),
        ("fifo", "cannot be read: it is no plain file"),  # and is not waited for
        ("big.yaml", f"larger than {MAX_SIZE} bytes: that is no file of this kind"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"
    assert load(tmp_path / "just_right.yaml").value == {"a": 1}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=12
)


@given(PLAIN)
@settings(max_examples=150)
def test_what_pyyaml_writes_quoted_is_read_back(value: object) -> None:
    text = yaml.dump(value, default_style='"', allow_unicode=False, width=1_000_000)
    assert parse(text).value == value


@given(st.text(alphabet="ab:-[]{}'\"#&*!|>%@\\ \t\n0x1.~?,", max_size=60))
@settings(max_examples=400)
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        parse(text, "f.yaml")
    except ConfigError as error:
        told = str(error)
    else:
        return
    head, line, column, rest = told.split(":", 3)
    assert head == "f.yaml"
    assert 1 <= int(line) <= text.count("\n") + 2
    assert int(column) >= 1
    assert rest.strip()
    assert "\n" not in told
