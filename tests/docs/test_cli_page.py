"""The page on the command line has every verb and every option, and no other."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from typing import cast

import pytest

from hilbridge.cli.main import VERBS, Verb
from tests.docs.mdkit import DOCS, code, section, table, tables_in

PAGE = DOCS / "reference" / "cli.md"
OPTION = re.compile(r"--[a-z]+")
OF_ALL = {"--help", "--verbose"}
PORT = "Options of send and expect: the port"


def options_of(verb: str) -> tuple[set[str], str]:
    """Long options of a verb, and its arguments as ``NAME TEXT``."""
    module = cast("Verb", import_module(VERBS[verb][0]))
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    options = {o for action in parser._actions for o in action.option_strings if o.startswith("--")}
    positional = [action for action in parser._actions if not action.option_strings]
    return options, "".join(f" [{a.metavar}]" if a.nargs == "?" else f" {a.metavar}" for a in positional)


def options_in(title: str) -> set[str]:
    rows = [row for rows in tables_in(section(PAGE, title)) if rows[0][0] == "Option" for row in rows[1:]]
    return {option for row in rows for entry in code(row[0]) for option in OPTION.findall(entry)}


def test_every_verb_is_in_the_table_with_the_words_of_its_help() -> None:
    listed = {code(row[0])[0]: row[1].replace("`", "") for row in table(PAGE, "Verb")}
    assert listed == {verb: says for verb, (_, says) in VERBS.items()}


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_a_verb(verb: str) -> None:
    there, arguments = options_of(verb)
    listed = options_in(f"hilbridge {verb}{arguments}")
    if verb in ("send", "expect"):
        listed |= options_in(PORT)
    assert listed == there


def test_options_of_all_verbs() -> None:
    above = PAGE.read_text(encoding="utf-8").partition("## ")[0]
    assert set(OPTION.findall(above)) >= {*OF_ALL, "--version"}
