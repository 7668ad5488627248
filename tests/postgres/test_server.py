"""What the server says of itself, read as it means it."""

from __future__ import annotations

import pytest

from vecfill.postgres.server import milliseconds


@pytest.mark.parametrize("value", ["0", "1", "1500ms", "7s", "90s", "60s", "9min", "2h", "36h", "2d"])
def test_a_timeout_is_what_the_server_takes_it_to_be(connect, value):
    name = "idle_in_transaction_session_timeout"
    connect.execute("SELECT set_config(%s, %s, false)", [name, value])
    query = "SELECT current_setting(name), setting::int FROM pg_settings WHERE name = %s"
    shown, meant = connect.execute(query, [name]).fetchone()
    assert milliseconds(shown) == meant
