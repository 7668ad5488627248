"""Short waits: what is waited for is asked for by the servers here, not guessed."""

from __future__ import annotations

import pytest

from vecfill.encode.api import key, trials


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(trials, "BACK_OFF_S", 0.02)
    for name in (*key.VARIABLES, "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
