"""The files that set a clone or an image up agree with one another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PROJECT_FILE["project"]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_every_dependency_is_pinned():
    asked = [*PROJECT["dependencies"], *(name for extra in PROJECT["optional-dependencies"].values() for name in extra)]
    assert {name_of(requirement) for requirement in asked} - {"vecfill"} <= {name_of(pin) for pin in PINS}


def test_pins_are_exact_and_fit_any_index():
    assert [pin for pin in PINS if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_the_image_has_the_same_torch():
    (torch,) = [pin for pin in PINS if pin.startswith("torch==")]
    assert f"pip install --no-cache-dir {torch}\n" in (ROOT / "Dockerfile.gpu").read_text()


def test_the_image_passes_the_linter():
    hadolint = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run([hadolint, ROOT / "Dockerfile.gpu"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")
    bad = subprocess.run([hadolint, "-"], input="FROM python\n", capture_output=True, text=True, check=False)
    assert "DL3006" in bad.stdout  # and it is one that finds fault


def test_the_build_sees_what_the_image_copies_and_nothing_else():
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile.gpu").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == sources
    assert "*" in lines
    shipped = PROJECT_FILE["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {path.split("/")[0] for path in shipped} <= sources


SCRIPTS = [
    "setup",
    "demo",
    "demo-picture",
    "test",
    "gpu-check",
    "gpu-pack",
    "infinity",
    "dockerfile-check",
    "cron/vecfill-cron",
]


@pytest.mark.parametrize("script", [*(f"scripts/{name}" for name in SCRIPTS), ".ci/run"])
def test_scripts_are_executable(script):
    assert os.access(ROOT / script, os.X_OK)


def test_the_wheel_ships_the_price_table_and_the_templates(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        assert files.read("vecfill/api-prices.toml") == (ROOT / "configs" / "api-prices.toml").read_bytes()
        templates = (ROOT / "pipeline").glob("vecfill/bench/templates/*.j2")
        assert {str(path.relative_to(ROOT / "pipeline")) for path in templates} <= set(files.namelist())
        assert "vecfill/bench/templates/api.html.j2" in files.namelist()


def test_the_server_of_the_recipe_is_pinned_and_has_the_same_torch():
    pins = [line for line in (ROOT / "scripts/infinity-requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert not [pin for pin in pins if name_of(pin) == "torch"]
