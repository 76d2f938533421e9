"""Where the data folders are: ``device_profiles/`` and ``loopback_fixtures/``.

They live in one of two places. In a checkout, and so in an editable install and in an unpacked sdist, they are at the
top, beside the package, where readers look for them. In a wheel, and so in whatever pip installs, they are inside the
package, under ``hilbridge/_data/``, because site-packages is no place for top-level names such as these.

The answer is a real directory and not an ``importlib.resources`` handle: board files are opened by a process of their
own, and error messages name them. So hilbridge does not run from inside a zip file, and says so.
"""

from __future__ import annotations

from pathlib import Path

from hilbridge.model.errors import InternalFault

DATA_FOLDERS = ("device_profiles", "loopback_fixtures")

_PACKAGE = Path(__file__).resolve().parents[1]


def data_dir(name: str) -> Path:
    """The absolute path of the data folder `name`, one of `DATA_FOLDERS`.

    Raises `InternalFault` for another name, and when the folder was not installed.
    """
    if name not in DATA_FOLDERS:
        raise InternalFault(f"there is no data folder {name!r}; hilbridge ships {' and '.join(DATA_FOLDERS)}")
    return find_data_dir(_PACKAGE, name)


def find_data_dir(package: Path, name: str) -> Path:
    """Find folder `name` for the package that lives in the directory `package`.

    The folder inside the package comes first: an installed package must not be led astray by what happens to lie beside
    it. The one beside it counts only next to a pyproject.toml, which tells a checkout from a site-packages directory.
    """
    inside = package / "_data" / name
    if inside.is_dir():
        return inside
    root = package.parent
    beside = root / name
    if beside.is_dir() and (root / "pyproject.toml").is_file():
        return beside
    raise InternalFault(
        f"hilbridge's data folder {name!r} is missing: it is neither {inside} nor, in a checkout, {beside}. "
        "Install hilbridge again (pip install --force-reinstall hilbridge); from inside a zip file it does not run"
    )
