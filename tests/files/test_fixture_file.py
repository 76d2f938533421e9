"""Fixture files of every kind, and how a shipped one is found by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hilbridge.files.board import Board
from hilbridge.files.fixture import Echo, NullModem, Source, find_fixture, load_fixture
from hilbridge.files.locate import data_dir
from hilbridge.model.errors import ConfigError, NameNotFound

FOLDER = data_dir("loopback_fixtures")


def test_the_shipped_fixtures() -> None:
    assert isinstance(load_fixture(FOLDER / "echo.yaml"), Echo)
    assert isinstance(load_fixture(FOLDER / "null_modem.yaml"), NullModem)
    source = load_fixture(FOLDER / "source.yaml")
    assert isinstance(source, Source)
    assert (source.bytes, source.line_length) == (1_000_000, 64)
    assert isinstance(load_fixture(FOLDER / "boards" / "demo.yaml"), Board)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "schema: 1\nkind: ehco\n",
            "2:7: kind: expected one of board, echo, null-modem, source, found the text 'ehco'",
        ),
        ("schema: 1\nkind: 1\n", "2:7: kind: expected one of board, echo, null-modem, source, found the number 1"),
        ("schema: 1\nkind: [echo]\n", "2:7: kind: expected one of board, echo, null-modem, source, found a list"),
        ("schema: 1\n", "1:1: kind: expected one of board, echo, null-modem, source"),
        ("- echo\n", "1:1: expected a mapping (key: value), found a list"),
        ("kind: echo\n", "1:1: the key 'schema' is missing"),
        ("kind: echo\nschema: true\n", "2:9: schema: expected 1, found the boolean true"),
        ("schema: 1\nkind: echo\nbaud: 1\n", "3:1: baud: unknown key; known here: schema, kind, description"),
        ("schema: 1\nkind: echo\ndescripton: x\n", "3:1: descripton: unknown key; did you mean 'description'?"),
        ("schema: 1\nkind: echo\ndescription: 007\n", "3:14: description: expected text, found the number 007"),
        ("schema: 1\nkind: source\nbytes: 1e6\n", "3:8: bytes: expected a whole number, found the number 1e6"),
        ("schema: 1\nkind: source\nbytes: true\n", "3:8: bytes: expected a whole number, found the boolean true"),
        (
            "schema: 1\nkind: source\nbytes: 0\n",
            "3:8: bytes: must be at least 1 and at most 268435456, found the number 0",
        ),
        ("schema: 1\nkind: board\nechoo: true\n", "3:1: echoo: unknown key; did you mean 'echo'?"),
    ],
)
def test_a_broken_fixture_file(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "fixture.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_fixture(file)
    assert str(caught.value) == f"{file}:{told}"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("echo", "echo.yaml"),
        ("null_modem", "null_modem.yaml"),
        ("null-modem", "null_modem.yaml"),
        ("boards/demo", "boards/demo.yaml"),
        ("demo", "boards/demo.yaml"),
    ],
)
def test_a_shipped_fixture_is_found_by_name(name: str, path: str) -> None:
    assert find_fixture(name) == FOLDER / path


def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_fixture("echo.yaml") == Path("echo.yaml")  # not the shipped one, though the file is not there
    assert find_fixture("echo") == FOLDER / "echo.yaml"
    (tmp_path / "echo").write_text("")
    assert find_fixture("echo") == Path("echo")


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(NameNotFound) as caught:
        find_fixture("boards/dmeo")
    assert str(caught.value) == (
        "boards/dmeo: unknown fixture; did you mean 'boards/demo'? A file of your own is named with its .yaml"
    )
    assert caught.value.exit_code == 4


def test_a_pty_echo_does_not_pay_for_pydantic() -> None:
    program = (
        "import sys; from hilbridge.files.fixture import find_fixture, load_fixture;"
        "load_fixture(find_fixture('echo'));"
        "import hilbridge.testing.fixture_process, hilbridge.testing.peers.echo;"
        "sys.exit(' '.join({'pydantic', 'pydantic_core'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""
    assert done.returncode == 0
