"""What the server says of itself, read as it means it."""

from __future__ import annotations

import pytest

from vecfill.postgres.server import milliseconds


@pytest.mark.parametrize("value", ["0", "1", "1500ms", "7s", "90s", "60s", "9min", "2h", "36h", "2d"])
def test_a_timeout_is_what_the_server_takes_it_to_be(connect, value):
    connect.execute("SELECT set_config('statement_timeout', %s, false)", [value])
    shown, meant = connect.execute(
        "SELECT current_setting('statement_timeout'), setting::int FROM pg_settings WHERE name = 'statement_timeout'"
    ).fetchone()
    assert milliseconds(shown) == meant
