"""Facts in the cache folder: what was saved, or nothing."""

from __future__ import annotations

import pytest

from vecfill.encode.remembered import Remembered

FACTS = {
    "agrees": True,
    "limits": [3, 512],
    "dtype": "float32",
    "cosine": 0.1 + 0.2,
    "rates": {"runs": 1e9},
    "best": None,
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = Remembered("proofs", {"device": "cpu"})
    kept.save(FACTS)
    return kept.place


def test_what_was_saved_is_read_under_the_same_conditions(place):
    assert Remembered("proofs", {"device": "cpu"}).read() == FACTS
    assert Remembered("proofs", {"device": "cuda"}).read() is None
    place.rename(Remembered("proofs", {"device": "cuda"}).place)
    assert Remembered("proofs", {"device": "cuda"}).read() is None


@pytest.mark.parametrize(
    "damage", [("512", "51"), ("float32", "float16"), ("true", "false"), ("digest", "other"), ("}", "")]
)
def test_a_damaged_file_holds_nothing(place, damage):
    text = place.read_text()
    assert damage[0] in text
    place.write_text(text.replace(*damage))
    assert Remembered("proofs", {"device": "cpu"}).read() is None


def test_a_folder_in_its_place_holds_nothing(place):
    place.unlink()
    place.mkdir()
    assert Remembered("proofs", {"device": "cpu"}).read() is None
