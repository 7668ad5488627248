"""Short waits: what is waited for is asked for by the servers here, not guessed."""

from __future__ import annotations

import pytest

from vecfill.config.api import BASE_URL_VARIABLE, KEY_VARIABLES
from vecfill.encode.api import trials


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(trials, "BACK_OFF_S", 0.02)
    for name in (*KEY_VARIABLES, BASE_URL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
