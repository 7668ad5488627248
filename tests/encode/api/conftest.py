"""Short waits: these tests wait as long as a server asks, not for our own back-off."""

from __future__ import annotations

import pytest
from tenacity import wait_random_exponential

from vecfill.config.api import BASE_URL_VARIABLE, KEY_VARIABLES
from vecfill.encode.api import retries


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(retries, "BACKOFF", wait_random_exponential(multiplier=0.02, max=30))
    for name in (*KEY_VARIABLES, BASE_URL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
