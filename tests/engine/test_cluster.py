"""What happens beside the start of a cluster."""

import sys

import pytest

from vecfill.engine.cluster import importing


def test_a_module_is_imported_by_the_end_of_the_body(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with importing("colorsys"):
        pass
    assert "colorsys" in sys.modules


def test_an_import_that_fails_is_raised_after_the_body():
    done = []
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), importing("vecfill.no_such_module"):
        done.append(True)
    assert done


def test_an_error_of_the_body_comes_before_one_of_the_import():
    with pytest.raises(ZeroDivisionError), importing("vecfill.no_such_module"):
        raise ZeroDivisionError
