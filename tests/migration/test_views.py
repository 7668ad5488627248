"""Views over the column: ``swap --views recreate`` makes them again, and refuses by name what it cannot."""

from __future__ import annotations

import pytest
from tests.migration.moving import begin, move, phases, schema, searched_docs, swap_back, swap_it

from vecfill.errors import ConfigError

VIEWS = """
CREATE VIEW shown WITH (security_barrier = true) AS SELECT id, title, embedding FROM docs WHERE id > 0
  WITH CASCADED CHECK OPTION;
COMMENT ON VIEW shown IS 'it''s'; COMMENT ON COLUMN shown.title IS 'a title';
ALTER VIEW shown ALTER COLUMN title SET DEFAULT 'none';
GRANT SELECT (id), UPDATE (title) ON shown TO pg_monitor; GRANT SELECT ON shown TO PUBLIC;
CREATE VIEW above AS SELECT id, embedding <-> embedding AS distance FROM shown; GRANT SELECT ON above TO pg_monitor;
CREATE VIEW beside AS SELECT s.id FROM shown AS s JOIN above AS a USING (id) WHERE s.embedding IS NOT NULL;
"""


@pytest.fixture
def someone(connect):
    """A role that owns a view, and that default privileges name."""
    name = connect.execute("SELECT 'someone_' || current_database()").fetchone()[0]
    connect.execute(f"CREATE ROLE {name}")
    yield name
    connect.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def moved_docs(connect, database):
    searched_docs(connect, database)
    begin(database)
    move(database)


@pytest.mark.slow
def test_views_on_views_come_back_as_they_were(connect, database, someone, request):
    version = request.config.getoption("--pg-version")
    moved_docs(connect, database)
    connect.execute(f"{VIEWS} ALTER VIEW above OWNER TO {someone}")
    connect.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {someone}")
    before = schema(database, version, "-t", "shown", "-t", "above", "-t", "beside")
    swap_it(database, views="recreate")
    assert schema(database, version, "-t", "shown", "-t", "above", "-t", "beside") == before
    assert connect.execute("SELECT vector_dims(embedding) FROM shown LIMIT 1").fetchone() == (16,)
    swap_back(database, views="recreate")
    assert schema(database, version, "-t", "shown", "-t", "above", "-t", "beside") == before


USERS = {
    "materialized view kept": "CREATE MATERIALIZED VIEW kept AS SELECT * FROM shown; CREATE INDEX by_id ON kept (id)",
    "shown (trigger t)": "CREATE TRIGGER t INSTEAD OF UPDATE ON shown FOR EACH ROW"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "shown (rule r)": "CREATE RULE r AS ON DELETE TO shown DO INSTEAD NOTHING",
    "function f(shown)": "CREATE FUNCTION f(shown) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "table column public.uses.whole": "CREATE TABLE uses (whole shown)",
}


def test_what_cannot_be_made_again_is_refused_by_name_with_what_mends_it(connect, database):
    moved_docs(connect, database)
    for named, user in USERS.items():
        connect.execute(f"CREATE VIEW shown AS SELECT id, embedding FROM docs; {user}")
        with pytest.raises(ConfigError) as refused:
            swap_it(database, views="recreate")
        assert named in str(refused.value)
        connect.execute("DROP VIEW shown CASCADE")
    assert phases(connect)[-1] == "indexed"
    connect.execute(f"CREATE VIEW shown AS SELECT id, embedding FROM docs; {'; '.join(list(USERS.values())[:3])}")
    with pytest.raises(ConfigError) as refused:
        swap_it(database, views="recreate")
    for statement in ("CREATE INDEX by_id ON public.kept", "CREATE TRIGGER t INSTEAD OF", "CREATE RULE r AS"):
        assert statement in str(refused.value)
