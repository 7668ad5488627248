import pytest

from vecfill.encode.hash_encoder import HashEncoder


@pytest.fixture
def jobs(connect):
    connect.execute("CREATE TABLE jobs (id int PRIMARY KEY, title text, company text, embedding vector(8))")
    for row, title in enumerate(["nurse", "chef", "[bold]welder[/bold]\n" + "x" * 100]):
        vector = HashEncoder(8).encode_query(title).tolist()
        connect.execute("INSERT INTO jobs VALUES (%s, %s, 'ACME', %s::real[])", [row, title, vector])
    connect.execute("UPDATE jobs SET company = NULL WHERE title = 'chef'")
    return connect


@pytest.fixture
def search(vecfill, database):
    return lambda *arguments: vecfill("search", "-d", database, "-t", "public.jobs", "-m", "hash:8", *arguments)


def test_json_is_one_object(jobs, search):
    ended = search("chef", "--show", "title, company", "--limit", "2", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.json["table"], ended.json["distance"], ended.json["index"]) == ("public.jobs", "cosine", None)
    first, second = ended.json["hits"]
    assert first == {"key": "1", "distance": first["distance"], "values": {"title": "chef", "company": None}}
    assert abs(first["distance"]) < 1e-6 < second["distance"]


def test_the_table_shows_values_as_they_are(jobs, search):
    ended = search("nurse", "--show", "title,company")
    assert (ended.code, ended.err) == (0, "")
    assert "public.jobs, every row compared, no index used" in ended.out
    for words in ("cosine distance", "key", "title", "company", "0.0000", "nurse", "ACME"):
        assert words in ended.out
    assert "[bold]welder[/bold] " + "x" * 39 + "…" in ended.out
    assert ended.out.index("nurse") < ended.out.index("chef")


def test_the_table_names_the_index(jobs, search):
    jobs.execute("CREATE INDEX near ON jobs USING hnsw (embedding vector_l2_ops)")
    jobs.execute(f"ALTER DATABASE {jobs.info.dbname} SET enable_seqscan = off")
    out = search("nurse").out
    assert "public.jobs, through index near" in out
    assert "l2 distance" in out


def test_condition_key_and_column_are_options(jobs, search):
    jobs.execute("ALTER TABLE jobs RENAME embedding TO vec")
    jobs.execute("CREATE UNIQUE INDEX ON jobs (title); ALTER TABLE jobs ALTER title SET NOT NULL")
    ended = search("nurse", "--column", "vec", "--key", "title", "--where", "company IS NULL", "--json")
    assert [hit["key"] for hit in ended.json["hits"]] == ["chef"]


def test_a_zero_vector_is_json_too(jobs, search):
    jobs.execute("UPDATE jobs SET embedding = '[0,0,0,0,0,0,0,0]'")
    assert [hit["distance"] for hit in search("nurse", "--json").json["hits"]] == [None] * 3


@pytest.mark.parametrize(
    ("where", "said"), [(None, "no row of public.jobs has a vector"), ("id > 9", "that meets --where")]
)
def test_no_hits_is_a_hint_and_no_failure(jobs, search, where, said):
    arguments = ["nurse"] if where else ["nurse", "--json"]
    if where is None:
        jobs.execute("UPDATE jobs SET embedding = NULL")
    ended = search(*arguments, *(["--where", where] if where else []))
    assert ended.code == 0
    assert said in ended.err
    assert "`vecfill run` fills them" in ended.err
    assert ended.out == "" if where else ended.json["hits"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["  "], "vecfill: the text to search for is blank"),
        (
            ["nurse", "--show", "titel"],
            "vecfill: --show titel: public.jobs has no such column; its columns are comp",
        ),
        (["nurse", "-m", "hash:9"], "vecfill: embedding column public.jobs.embedding is vector(8) but model hash:9"),
        (["nurse", "-m", "/no/such/folder"], "vecfill: model /no/such/folder: there is no folder"),
        (["nurse", "--where", "nonsense"], "vecfill: --where does not work as SQL on public.jobs"),
        (
            ["nurse", "--where", "1 / (id - id) = 1"],
            "vecfill: --where or --text fails on the rows of public.jobs: division",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_and_exit_2(jobs, search, arguments, said):
    ended = search(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1


def test_limit_must_be_positive_and_the_text_given(search):
    assert search("nurse", "--limit", "0").code == 2
    ended = search()
    assert ended.code == 2
    assert "Missing argument 'TEXT'" in ended.err


def test_the_text_to_embed_plays_no_part(jobs, search, monkeypatch):
    monkeypatch.setenv("VECFILL_TEXT", "{no_such_column}")
    monkeypatch.setenv("VECFILL_SET", "no_such_column = 1")
    assert search("nurse", "--json").json["hits"][0]["key"] == "0"
