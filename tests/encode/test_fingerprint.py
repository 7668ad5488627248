"""A model's identity by the content of its files, whatever their size and time say."""

from __future__ import annotations

import json
import os

import pytest

from vecfill.config.model import Model
from vecfill.encode.model import fingerprint
from vecfill.encode.model.fingerprint import files_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "sentence_bert_config.json", "model.safetensors"):
        (model / name).write_text('{"some": 1}')
    return model


def files(folder):
    return files_of(Model(name=str(folder)))["files"]


@pytest.mark.parametrize("name", ["tokenizer.json", "sentence_bert_config.json", "model.safetensors"])
def test_a_change_that_leaves_size_and_time_shows(folder, name):
    before, times = files(folder), (folder / name).stat()
    (folder / name).write_text('{"some": 2}')
    os.utime(folder / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files(folder) != before


@pytest.mark.parametrize("trusted", [True, False])
def test_the_model_s_own_code_counts_where_it_is_run(folder, trusted):
    model = Model(name=str(folder), trust_remote_code=trusted)
    (folder / "custom").mkdir()
    (folder / "custom" / "modeling.py").write_text("SCALE = 1")
    before = files_of(model)
    (folder / "custom" / "modeling.py").write_text("SCALE = 2")
    assert (files_of(model) != before) == trusted


def test_settled_files_are_read_once(folder, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SETTLED_NS", -(10**18))
    before, place = files(folder), folder.parent / "cache" / "vecfill" / "files.json"
    known = json.loads(place.read_text())
    assert set(known) == {str(file) for file in folder.iterdir()}
    place.write_text(json.dumps({name: [*state[:-1], "another"] for name, state in known.items()}))
    assert files(folder) != before
    place.write_text(json.dumps({name: [0, *state[1:]] for name, state in known.items()}))
    assert files(folder) == before


@pytest.mark.parametrize("damaged", ["", "[1]", "7", '{"a": 1', "null", "\x00"])
def test_damaged_notes_cost_a_repetition(folder, damaged):
    before, place = files(folder), folder.parent / "cache" / "vecfill" / "files.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(damaged)
    assert files(folder) == before
    place.write_text(json.dumps({str(file): 5 for file in folder.iterdir()}))
    assert files(folder) == before
