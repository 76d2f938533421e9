from __future__ import annotations

from pathlib import Path

import pytest

from hilbridge.files.locate import DATA_FOLDERS, data_dir, find_data_dir
from hilbridge.model.errors import InternalFault

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", DATA_FOLDERS)
def test_checkout_finds_the_folder_at_its_top(name: str) -> None:
    assert data_dir(name) == TOP / name
    assert any(data_dir(name).iterdir()), "an empty folder would not reach the wheel"


def test_another_name_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(InternalFault, match=r"no data folder 'drivers'.*device_profiles and loopback_fixtures"):
        data_dir("drivers")


def test_installed_package_has_the_folder_inside(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "hilbridge"
    inside = package / "_data" / "device_profiles"
    inside.mkdir(parents=True)
    assert find_data_dir(package, "device_profiles") == inside


def test_installed_package_ignores_what_lies_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "hilbridge"
    inside = package / "_data" / "device_profiles"
    inside.mkdir(parents=True)
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert find_data_dir(package, "device_profiles") == inside


def test_folder_beside_the_package_counts_only_in_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "hilbridge"
    package.mkdir()
    beside = tmp_path / "device_profiles"
    beside.mkdir()
    with pytest.raises(InternalFault):
        find_data_dir(package, "device_profiles")
    (tmp_path / "pyproject.toml").touch()
    assert find_data_dir(package, "device_profiles") == beside


def test_missing_folder_names_both_places_and_the_remedy(tmp_path: Path) -> None:
    package = tmp_path / "hilbridge"
    with pytest.raises(InternalFault) as caught:
        find_data_dir(package, "device_profiles")
    message = str(caught.value)
    assert str(package / "_data" / "device_profiles") in message
    assert str(tmp_path / "device_profiles") in message
    assert "Install hilbridge again" in message
    assert "\n" not in message
