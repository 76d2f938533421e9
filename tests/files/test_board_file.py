"""Board files: what they may say, and what a broken one is told. The corpus is in ``broken/``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from hilbridge.files.answers import fill, groups_used
from hilbridge.files.board import Board, load_board
from hilbridge.files.locate import data_dir
from hilbridge.files.validate import FileModel
from hilbridge.files.yaml12 import load
from hilbridge.model.errors import ConfigError

BROKEN = Path(__file__).with_name("broken")
BOARDS = data_dir("loopback_fixtures") / "boards"

# File in broken/ -> what is told, without the file's name. Faults of several lines are in the order of the file.
CORPUS: dict[str, str | list[str]] = {
    "alias": "3:9: anchors (&) and aliases (*) are not used here: write the value out",
    "answer_and_lines": "6:12: commands[0].lines: 'answer' and 'lines' exclude each other",
    "bad_escape": "3:11: there is no \\= in double quotes; take single quotes, or double the \\",
    "bad_indentation": "5:4: this does not line up with what stands above it; check the indentation",
    "banner_is_a_text": "3:9: banner: expected a list, found the text 'Welcome'",
    "bomb": "1:4: anchors (&) and aliases (*) are not used here: write the value out",
    "boots_for_ever": (
        "5:9: autoboot.then: this board would boot for ever without a pause; give it a count or an after_ms"
    ),
    "command_and_match": "5:12: commands[0].match: 'command' and 'match' exclude each other",
    "command_is_blank": "4:14: commands[0].command: must be one line that is not empty, without blanks at its ends",
    "command_twice": "7:14: commands[2].command: 'id' is already commands[0], which would always win",
    "commands_is_a_mapping": "4:3: commands: expected a list, found a mapping",
    "control_character": '3:10: the character U+001B is not allowed in YAML; in double quotes it is written "\\x1b"',
    "count_is_too_high": "3:19: autoboot.count: must be at most 99, found the number 100",
    "dedented": "5:3: this does not line up with what stands above it; check the indentation",
    "delay_is_a_fraction": "5:15: commands[0].delay_ms: expected a whole number, found the number 0.5",
    "delay_is_a_text": "5:15: commands[0].delay_ms: expected a whole number, found the text '20ms'",
    "delay_is_negative": "5:15: commands[0].delay_ms: must be at least 0, found the number -1",
    "delay_is_too_long": "4:15: banner[0].after_ms: must be at most 3600000, found the number 0xFFFFFFFF",
    "echo_is_nothing": "3:6: echo: expected true or false, found nothing",
    "echo_is_on": "3:7: echo: expected true or false, found the text 'on'; write true",
    "empty": "1:1: the file is empty",
    "encoding_is_unknown": "3:11: encoding: expected 'utf-8' or 'latin-1', found the text 'utf8'",
    "group_in_unknown": "3:10: unknown: uses {1}, but only {0}, the whole line, is known here",
    "group_is_not_there": "5:13: commands[0].answer: uses {2}, but 'match' has 1 group(s)",
    "group_of_an_exact_command": "7:9: commands[0].lines[1]: uses {1}, but a 'command' has no groups",
    "half_a_surrogate": "4:11: banner[0].text: '\\ud800' cannot be sent as utf-8",
    "key_is_a_boolean": '3:1: a key must be text; quote it: "true"',
    "key_is_a_number": '3:1: a key must be text; quote it: "1"',
    "key_twice": "5:1: prompt: this key is already on line 3",
    "line_is_a_number": '7:9: commands[0].lines[1]: expected text, found the number 00042; quote it: "00042"',
    "missing_kind": "1:1: the key 'kind' is missing",
    "missing_schema": "1:1: the key 'schema' is missing",
    "newline_is_unknown": "3:31: newline.output: expected 'crlf', 'lf' or 'cr', found the text 'crfl'",
    "no_command_and_no_match": "6:5: commands[1]: needs 'command' (exact text) or 'match' (a regular expression)",
    "not_a_mapping": "1:1: expected a mapping (key: value), found a list",
    "not_latin_1": "4:9: prompt: '\\u2192' cannot be sent as latin-1",
    "not_utf8": "3:12: the byte 0xE9 is not UTF-8",
    "open_bracket": "3:11: this bracket is never closed",
    "open_quote": "3:9: this quote is never closed",
    "own_tag": "3:9: the tag '!secret' is not allowed: files hold plain data only",
    "prompt_is_a_boolean": '3:9: prompt: expected text, found the boolean true; quote it: "true"',
    "prompt_is_a_number": '3:9: prompt: expected text, found the number 0123; quote it: "0123"',
    "python_object": "3:9: the tag '!!python/object/apply:os.system' is not allowed: files hold plain data only",
    "regex_is_broken": (
        "4:12: commands[0].match: no regular expression: missing ), unterminated subpattern at position 3"
    ),
    "several_faults": [
        "3:1: promt: unknown key; did you mean 'prompt'?",
        "4:7: echo: expected true or false, found the text 'yes'; write true",
        "6:5: commands[0].comand: unknown key; did you mean 'command'?",
    ],
    "stop_key_is_a_word": "5:13: autoboot.stop_key: must have at most 1 character(s), found the text 'space'",
    "stop_key_is_not_ascii": "4:13: autoboot.stop_key: must be an ASCII character",
    "tab": "4:1: a tab in the indentation: YAML is indented with spaces",
    "too_deep": "3:50: nested deeper than 40 levels",
    "two_documents": "3:1: a second document begins here: one file holds one",
    "unknown_key": "4:5: banner[0].txet: unknown key; did you mean 'text'?",
    "unknown_key_at_top": "3:1: promt: unknown key; did you mean 'prompt'?",
    "unknown_key_without_relative": (
        "3:1: baudrate: unknown key; known here: schema, kind, description, encoding, newline, banner, autoboot, "
        "prompt, echo, commands, unknown"
    ),
    "unquoted_at": "3:9: a text cannot begin with '@': put it in quotes",
    "unquoted_colon": "3:15: a ':' where no key can stand; quote a text that holds ': '",
    "unquoted_percent": "3:9: a text cannot begin with '%': put it in quotes",
    "wrong_kind": "2:7: kind: expected 'board', found the text 'bord'",
    "wrong_schema": "1:9: schema: expected 1, found the number 2",
}


def test_the_table_and_the_folder_agree() -> None:
    assert sorted(CORPUS) == sorted(file.stem for file in BROKEN.iterdir())
    assert len(CORPUS) >= 25


@pytest.mark.parametrize("name", CORPUS)
def test_a_broken_board_file_is_told_where_and_what(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    told = CORPUS[name]
    with pytest.raises(ConfigError) as caught:
        load_board(f"{name}.yaml")
    expected = [told] if isinstance(told, str) else told
    assert str(caught.value).splitlines() == [f"{name}.yaml:{line}" for line in expected]
    for line in str(caught.value).splitlines():
        assert re.match(r"\w+\.yaml:\d+:\d+: \S", line)


def test_the_frame_of_the_broken_files_is_good(tmp_path: Path) -> None:
    """The corpus would be worth little if its files failed for another reason."""
    shutil.copy(BROKEN / "unknown_key.yaml", tmp_path / "b.yaml")
    text = (tmp_path / "b.yaml").read_text()
    (tmp_path / "b.yaml").write_text(text.replace("txet", "text"))
    assert load_board(tmp_path / "b.yaml").banner[0].text == "hello"


@pytest.mark.parametrize("file", sorted(BOARDS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_shipped_boards_are_good(file: Path) -> None:
    board = load_board(file)
    assert board.description


def keys_of(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_of(inner)}
    if isinstance(value, list):
        return {key for inner in value for key in keys_of(inner)}
    return set()


def keys_of_model(model: type[FileModel]) -> set[str]:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    inner = {
        re.sub(r".*\.", "", found)
        for field in model.model_fields.values()
        for found in re.findall(r"[\w.]+", str(field.annotation))
    }
    return keys.union(*(keys_of_model(sub) for sub in FileModel.__subclasses__() if sub.__name__ in inner))


def test_the_template_shows_every_key_and_explains_it() -> None:
    template = BOARDS / "template.yaml"
    keys = keys_of_model(Board)
    assert {"after_ms", "stop_key", "delay_ms", "output", "schema"} < keys  # the walk found the inner models
    assert keys_of(load(template).value) == keys
    comments = "\n".join(line for line in template.read_text().splitlines() if line.lstrip().startswith("#"))
    for key, default in [("encoding", "utf-8"), ("tick_ms", "1000"), ("then", "silent"), ("count", "Default 2")]:
        assert key in template.read_text()
        assert default in comments


def test_the_story_board_answers_17_bytes() -> None:
    board = load_board(BOARDS / "story.yaml")
    assert (board.banner, board.autoboot, board.prompt, board.echo) == ([], None, "", False)
    assert [(entry.command, entry.answer, entry.delay_ms) for entry in board.commands] == [
        ("id", "HILBRIDGE-BOARD-1", 0)
    ]
    assert len(board.commands[0].answer or "") == 17


def test_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "least.yaml"
    file.write_text("schema: 1\nkind: board\n")
    board = load_board(file)
    assert (board.newline.input, board.newline.output, board.encoding) == ("any", "crlf", "utf-8")
    assert (board.echo, board.prompt, board.unknown, board.commands) == (True, "", "Unknown command '{0}'\n", [])


@pytest.mark.parametrize(
    ("text", "used", "filled"),
    [
        ("plain", [], "plain"),
        ("{0}!", [0], "whole line!"),
        ("{1}-{2}-{1}", [1, 2, 1], "A-B-A"),
        ("{{1}}", [], "{1}"),
        ('{"a": {1}, "b": {}}', [1], '{"a": A, "b": {}}'),
        ("{x} { 1 } {-1}", [], "{x} { 1 } {-1}"),
    ],
)
def test_groups_in_answers(text: str, used: list[int], filled: str) -> None:
    assert list(groups_used(text)) == used
    assert fill(text, ["whole line", "A", "B"]) == filled
