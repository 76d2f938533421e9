"""``hilbridge new driver NAME``: write a driver that runs, with its tests, to be changed into one's own.

What is written are the modules in `hilbridge.cli.skeletons`, under another name: they are checked and tested as they are.
"""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from hilbridge.cli import output
from hilbridge.model.errors import UsageFault
from hilbridge.pnp.registry import DRIVERS

DESCRIPTION = (
    "Write a driver that runs, is tested, and passes the verifier: NAME.py and test_NAME.py, to be changed into yours."
)

EXAMPLES = """\
examples:
  hilbridge new driver meter
  hilbridge new driver spy --filter --dir drivers
"""

_OWN = re.compile(r"from hilbridge\.cli\.skeletons import \w+ as skeleton\n")
_END_OF_IMPORTS = re.compile(r"(import pytest\n(?:from .*\n)*)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """WHAT NAME [--dir DIR] [--filter]."""
    parser.add_argument("what", metavar="WHAT", choices=["driver"], help="driver")
    parser.add_argument("name", metavar="NAME", help="of the module: letters, digits and underscores")
    parser.add_argument("--dir", metavar="DIR", type=Path, default=Path(), help="where to write it (here)")
    parser.add_argument(
        "--filter", action="store_true", help="a filter, which stands on top of another driver's device"
    )


def run(args: argparse.Namespace) -> int:
    """Write both files, or neither; never over another one."""
    name: str = args.name
    _check_name(name)
    kind = "filter" if args.filter else "driver"
    folder: Path = args.dir
    files = {folder / f"{name}.py": skeleton(kind, name), folder / f"test_{name}.py": skeleton(f"test_{kind}", name)}
    if not folder.is_dir():
        raise UsageFault(f"there is no folder {folder}; make it first")
    for file in files:
        if file.exists():
            raise UsageFault(f"{file} exists already; choose another name, or another folder with --dir")
    _write(files)
    module, test = files
    output.data(f"{module}\n{test}\n")
    output.talk(
        f"next: `python -m pytest {test}` runs its tests, `hilbridge verify {module}` looks for broken rules; "
        f"then change {module}"
    )
    return 0


def _write(files: Mapping[Path, str]) -> None:
    """All of them, or none: what was begun is taken away again if the disk is full."""
    begun: list[Path] = []
    for file, text in files.items():
        try:
            with file.open("x", encoding="utf-8") as stream:
                begun.append(file)
                stream.write(text)
        except OSError as error:
            for one in begun:
                one.unlink(missing_ok=True)
            raise UsageFault(f"{file} cannot be written: {error.strerror}") from error


def skeleton(which: str, name: str) -> str:
    """The text of a skeleton, under its new name."""
    text = resources.files("hilbridge.cli.skeletons").joinpath(f"{which}.py").read_text(encoding="utf-8")
    if which.startswith("test_"):
        # The order of imports is that of a user's project, to which all of these are foreign, but the driver.
        text = _OWN.sub("", text).replace("import pytest\n\nimport hilbridge\n", "import hilbridge\nimport pytest\n")
        text = _END_OF_IMPORTS.sub(r"\1\nimport skeleton\n", text, count=1)
    return text.replace("skeleton", name).replace("Skeleton", _class_name(name))


def _class_name(name: str) -> str:
    """``usb_meter`` -> ``UsbMeter``."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_")) or name


def _check_name(name: str) -> None:
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name) or not name[0].isalpha():
        raise UsageFault(f"{name!r} is no name for a module: letters, digits and underscores, beginning with a letter")
    if name in DRIVERS or name in sys.stdlib_module_names or name in ("hilbridge", "pytest", "serial", "usb"):
        raise UsageFault(f"{name!r} is the name of another module or driver; choose one of your own")
