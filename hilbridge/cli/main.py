"""``hilbridge VERB ...``: finds the verb's module, runs it, and turns whatever happens into an exit code and one line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import NoReturn, Protocol, cast

from hilbridge.cli import output
from hilbridge.model.errors import HilbridgeError, InternalFault, UsageFault

VERBS = {
    "demo": ("hilbridge.cli.demo", "talk to a scripted board: no hardware needed; --story explains one read"),
    "list": ("hilbridge.cli.list", "the serial ports of this machine, and who holds them"),
    "send": ("hilbridge.cli.send", "send text to a port, and wait for an answer if asked to"),
    "expect": ("hilbridge.cli.expect", "wait until a port says something that matches"),
    "verify": ("hilbridge.cli.verify", "exercise a driver under the verifier, and say which rules it breaks"),
    "new": ("hilbridge.cli.new", "write a driver that runs, with its tests, to be changed into yours"),
    "bench": ("hilbridge.cli.bench", "check a bench file, and whether its devices are there; its JSON Schema"),
    "crash": ("hilbridge.cli.crash", "print the crash dump of a driver that has failed"),
}
"""Verb -> the module that does it, imported when it is asked for, and what the help says of it."""

EPILOG = """\
examples:
  hilbridge demo
  hilbridge list
  hilbridge send /dev/ttyUSB0 version --newline lf --expect "=> "
  hilbridge expect /dev/ttyUSB0 "login:" --timeout 30

hilbridge VERB --help says more. Data go to stdout, talk and errors to stderr.

exit codes:
  0 done              4 not found        8 time-out
  1 a check failed    5 busy             9 a driver's mistake
  2 usage             6 permission      70 a mistake of hilbridge itself: please report it
  3 a file is wrong   7 device lost    130, 143 ended by SIGINT, SIGTERM; 141 stdout was closed
"""

_SIGINT, _SIGTERM, _SIGPIPE = (128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE))


class Verb(Protocol):
    """What a verb's module has."""

    DESCRIPTION: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Fill in the parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code. Raises `HilbridgeError`."""


class CommandLineFault(UsageFault):
    """The words of the command line make no sense. No traceback would say more."""


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is an error as any other: one line, with the next step."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise CommandLineFault(f"{message}; `{self.prog} --help` shows how it goes")

    def print_help(self, file: object = None) -> None:
        """To stdout; argparse's own would not tell when that fails."""
        output.data(self.format_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: that of the process); returns its exit code."""
    run = _Run(list(sys.argv[1:] if argv is None else argv))
    with _Signals() as signals:
        try:
            code = run()
            output.flush()
            return code
        except KeyboardInterrupt:
            return _SIGTERM if signals.terminated else _SIGINT
        except BrokenPipeError:
            output.give_up()
            return _SIGPIPE
        except Exception as error:  # noqa: BLE001 - the last one who can say it
            return _report(error, verbose=run.verbose)


class _Run:
    """One command line."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self.verbose = False

    def __call__(self) -> int:
        """Understand it, and do it. Returns the verb's exit code; 0 for a help or the version."""
        try:
            return self._do()
        except SystemExit as end:  # that is how argparse ends after a help
            return end.code if isinstance(end.code, int) else 0

    def _do(self) -> int:
        verb, before, after = _split(self._words)
        top = _top_parser()
        self.verbose = top.parse_args(before).verbose
        if verb is None:
            top.error("a verb is missing: there are " + ", ".join(VERBS))
        module = cast("Verb", import_module(VERBS[verb][0]))
        parser = Parser(f"hilbridge {verb}", module.DESCRIPTION, module.EXAMPLES)
        module.add_arguments(parser)
        _add_verbose(parser)
        args = parser.parse_args(after)
        self.verbose = args.verbose = self.verbose or args.verbose
        with _log_to_stderr() if self.verbose else contextlib.nullcontext():
            return module.run(args)


def _split(words: list[str]) -> tuple[str | None, list[str], list[str]]:
    """The verb, the options before it, and what comes after it."""
    for index, word in enumerate(words):
        if not word.startswith("-"):
            if word not in VERBS:
                raise CommandLineFault(f"there is no verb {word!r}; {_nearest(word)}`hilbridge --help` lists them")
            return word, words[:index], words[index + 1 :]
    return None, words, []


def _nearest(word: str) -> str:
    from difflib import get_close_matches

    return "".join(f"did you mean {verb!r}? " for verb in get_close_matches(word, VERBS, 1))


def _top_parser() -> Parser:
    verbs = "\n".join(f"  {verb:8} {says}" for verb, (_, says) in VERBS.items())
    parser = Parser("hilbridge", f"A hardware-in-the-loop bridge to serial and USB devices.\n\nverbs:\n{verbs}", EPILOG)
    parser.usage = "hilbridge [-v] VERB ..."
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    _add_verbose(parser)
    return parser


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on stderr; with a traceback if it fails")


class _Version(argparse.Action):
    """Reads the version when it is asked for: that takes longer than all the rest."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from hilbridge._version import version

        output.data(f"hilbridge {version()}\n")
        parser.exit()


def _report(error: Exception, *, verbose: bool) -> int:
    """Say it in one line, with the next step; returns the exit code."""
    if verbose and not isinstance(error, CommandLineFault):
        output.talk("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, HilbridgeError) and not isinstance(error, InternalFault):
        line, code = str(error), error.exit_code
    else:
        said = str(error) if isinstance(error, HilbridgeError) else f"{type(error).__name__}: {error}"
        hint = "" if verbose else ", with what the same command says with -v"
        line, code = f"a mistake of hilbridge itself: {said}; please report it{hint}", HilbridgeError.exit_code
    output.talk("hilbridge: " + " ".join(line.split("\n")).strip())
    if isinstance(error, output.OutputFault):
        output.give_up()
    return code


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What the library logs is shown while the command runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger = logging.getLogger("hilbridge")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Signals:
    """SIGTERM ends a command as Ctrl-C does: everything is closed, boards and locks included; only the code differs."""

    def __init__(self) -> None:
        self.terminated = False
        self._mine = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> _Signals:
        if self._mine:
            self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine:
            signal.signal(signal.SIGTERM, self._before)

    def _terminate(self, _number: int, frame: FrameType | None) -> None:
        self.terminated = True
        # While a bridge is open SIGINT has a handler that does not strike in the middle of a request. This one is as good
        # a reason to end, and has to strike as carefully.
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            handler(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt
