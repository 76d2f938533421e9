"""``hilbridge verify MODULE``: exercise a driver under the verifier, plainly and with forced failures."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hilbridge.cli import output
from hilbridge.cli.options import add_json
from hilbridge.model.errors import DriverFault, UsageFault

DESCRIPTION = (
    "Plug a driver in on virtual hardware and virtual time, use it in every way that an application may, and report the "
    "rules of the driver model that it breaks. First plainly, then with failures that are forced by a seed."
)

EXAMPLES = """\
examples:
  hilbridge verify mydriver.py
  hilbridge verify package.module --rounds 50
  hilbridge verify mydriver.py --seed 7 --rounds 1     the round of an earlier report once more
"""

ROUNDS = 10
LOW_RESOURCES, CANCEL, DELAY = 0.1, 0.2, 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODULE [--seed N] [--rounds N] [--json]."""
    parser.add_argument("module", metavar="MODULE", help="a file, package.module, or the name of a driver of ours")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first round with forced failures (1)")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help=f"with forced failures; 0 for none ({ROUNDS})"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 9 if a rule was broken or the driver raised."""
    from hilbridge.observe.verifier.options import Verify
    from hilbridge.observe.verifier.rules import RULES
    from hilbridge.testing.exercise import exercise

    if args.rounds < 0:
        raise UsageFault(f"--rounds {args.rounds}: at least 0")
    driver = _load(args.module)
    plain = Verify(fast_io=False)
    findings, faults = exercise(driver, plain)
    known = {(f.rule.name, f.place) for f in findings}
    for seed in range(args.seed, args.seed + args.rounds):
        forced = Verify(fast_io=False, seed=seed, low_resources=LOW_RESOURCES, cancel=CANCEL, delay=DELAY)
        more, also = exercise(driver, forced)
        fresh = [f for f in more if (f.rule.name, f.place) not in known]
        known |= {(f.rule.name, f.place) for f in fresh}
        findings += fresh
        faults += [f"{fault} (seed {seed})" for fault in also if fault not in faults]
    if args.json:
        output.document(
            {
                "module": args.module,
                "rules": len(RULES),
                "rounds": 1 + args.rounds,
                "findings": [finding.as_dict() for finding in findings],
                "faults": faults,
            }
        )
    else:
        here = f"{Path.cwd()}/"
        for found in (*findings, *faults):
            output.data(f"{found}\n\n".replace(here, ""))
        broken = f"{len(findings)} broken" if findings else "no finding"
        raised = f", {len(faults)} other faults" if faults else ""
        output.data(f"{args.module}: {len(RULES)} rules, {1 + args.rounds} rounds: {broken}{raised}\n")
    return DriverFault.exit_code if findings or faults else 0


def _load(what: str) -> str | ModuleType:
    """A file is imported by its path; anything else is what `Bridge.plug` takes as a driver's name."""
    if not what.endswith(".py"):
        return what
    path = Path(what)
    if not path.is_file():
        raise UsageFault(f"there is no file {what}; give a file, package.module, or the name of a driver of ours")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageFault(f"{what} cannot be imported as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DriverFault(f"{what} raised {type(error).__name__} while it was imported: {error}") from error
    return module
