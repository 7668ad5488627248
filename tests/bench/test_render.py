"""What reports as files need: packages, a folder, templates that show all that they are given."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from vecfill.bench.render import check_folder, check_installed, render, write_files
from vecfill.errors import ConfigError


def test_a_missing_package_is_named_with_its_extra():
    check_installed("jinja2", "psutil", "matplotlib")
    with pytest.raises(ConfigError, match=r"^not installed: no_such_package: pip install 'vecfill\[bench\]'$"):
        check_installed("psutil", "no_such_package")


def test_files_go_into_a_folder_that_is_made(tmp_path):
    check_folder(tmp_path / "a" / "b")
    written = write_files(tmp_path / "a" / "b", {"text": "Łódź", "bytes": b"\xff"})
    assert [path.read_bytes() for path in written] == ["Łódź".encode(), b"\xff"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory: name another folder"):
        check_folder(tmp_path / "file" / "folder")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_files(tmp_path / "nowhere", {"text": ""})


PIPELINE = {
    **{name: [] for name in ("drawings", "columns", "groups", "ratios", "contenders", "machine")},
    **{"legend": "<b>", "command": "a && b"},
}


def test_a_page_escapes_what_is_put_in_and_needs_all_of_it():
    page = render("pipeline.html.j2", **PIPELINE)
    assert "<p>&lt;b&gt;</p>" in page
    assert "<pre>a &amp;&amp; b</pre>" in page
    with pytest.raises(UndefinedError):
        render("pipeline.html.j2")
