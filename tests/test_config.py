from pathlib import Path

import pytest

import vecfill
from vecfill.config.settings import OPTIONS, Settings
from vecfill.errors import ConfigError

CONFIGS = sorted((Path(vecfill.__file__).parents[2] / "configs").glob("*[!s].toml"))  # all but api-prices

FLOORS = {
    "table": (None, "from file", "from environment", "from flag"),
    "column": ("embedding", "from file", "from environment", "from flag"),
    "database": (None, "from file", "from environment", "from flag"),
    "dtype": ("auto", "float16", "bfloat16", "float32"),
    "limit": (None, 1, 2, 3),
    "gpus_per_actor": (None, 0.25, 0.5, 1.0),
    "trust_remote_code": (False, True, True, True),
}
"""Values of a setting: the default, then what each source in turn says."""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        file = tmp_path / "vecfill.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def toml(value):
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.mark.parametrize("name", FLOORS)
@pytest.mark.parametrize("top", range(4), ids=["default", "file", "environment", "flag"])
def test_the_highest_source_wins(write, monkeypatch, name, top):
    _, in_file, in_environment, in_flag = FLOORS[name]
    file = write(f"{name} = {toml(in_file)}") if top >= 1 else None
    if top >= 2:
        monkeypatch.setenv(f"VECFILL_{name.upper()}", str(in_environment))
    flags = {name: str(in_flag)} if top == 3 else {name: None}
    assert getattr(Settings.load(flags, file), name) == FLOORS[name][top]


def test_a_file_s_false_and_an_environment_s_false_count(write, monkeypatch):
    file = write("trust_remote_code = true")
    monkeypatch.setenv("VECFILL_TRUST_REMOTE_CODE", "false")
    assert Settings.load({"trust_remote_code": None}, file).trust_remote_code is False
    assert Settings.load({"trust_remote_code": True}, file).trust_remote_code is True


def test_database_url_stands_between_our_own_variable_and_the_file(write, monkeypatch):
    file = write('database = "in file"')
    monkeypatch.setenv("DATABASE_URL", "url")
    assert Settings.load({}, file).database == "url"
    monkeypatch.setenv("VECFILL_DATABASE", "ours")
    assert Settings.load({}, file).database == "ours"
    monkeypatch.delenv("VECFILL_DATABASE")
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings.load({}, file).database == "in file"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tenant", ("tenant",)),
        ('["tenant", "id"]', ("tenant", "id")),
        (' ["a, b"]', ("a, b",)),
        ("[]", ()),
        ("a, b", ("a, b",)),
    ],
)
def test_several_names_in_the_environment_and_in_a_file(write, monkeypatch, text, expected):
    monkeypatch.setenv("VECFILL_KEY", text)
    assert Settings.load({}).key == expected
    monkeypatch.delenv("VECFILL_KEY")
    assert Settings.load({}, write(f"key = {list(expected)!r}")).key == expected


def test_flags_that_repeat_replace_what_the_file_lists(write):
    file = write('set = ["a = 1", "b = 2"]\nkey = "id"')
    assert Settings.load({"set": ("c = 3",), "key": ()}, file).set == ("c = 3",)
    assert Settings.load({"set": (), "key": ()}, file).key == ("id",)


def test_a_target_of_the_file_stands_above_its_other_keys(write):
    settings = Settings.load({}, write('table = "a"\nmodel = "m"\n[[target]]\ntable = "b"\nwhere = "x"'))
    assert (settings.table, settings.model, settings.where) == ("b", "m", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tabel = 'a'",
            r"vecfill\.toml: unknown key tabel: remove it, or use one of database, password_command, table",
        ),
        ("[[target]]\ntabel = 'a'", "unknown key tabel"),
        ("[model]\nname = 'm'", r"model in .*vecfill\.toml {'name': 'm'}: input should be a valid string"),
        ("limit = 0", r"limit in .*vecfill\.toml 0: input should be greater than 0"),
        ("engine = 'spark'", r"engine in .*vecfill\.toml 'spark': input should be 'auto', 'ray' or 'inline'"),
        ("dim = 16001", "dim in .* 16001: input should be less than or equal to 16000"),
        ("key = [1]", "key in .* 1: input should be a valid string"),
        ("[target]\ntable = 'a'", r"write a target as \[\[target\]\], with double brackets"),
        ("[[target]]\n[[target]]\nlimit = 0", r"limit in .*vecfill\.toml, target 2 0: input should be greater"),
        ("[[target]]\ntable = 'a'\n[[target]]", r"has 2 targets, and this verb takes one: pick it by --table: a, None"),
        ("table = =", r"--config .*vecfill\.toml is not TOML: .*line 1"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(write, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Settings.load({}, write(text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"--config /no/such\.toml cannot be read: No such file"):
        Settings.load({}, Path("/no/such.toml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Settings.load({}, tmp_path)
    (tmp_path / "latin1.toml").write_bytes(b"table = '\xe9'")
    with pytest.raises(ConfigError, match="is not TOML"):
        Settings.load({}, tmp_path / "latin1.toml")


@pytest.mark.parametrize(
    ("flags", "variables", "message"),
    [
        ({"limit": "-1"}, {}, "--limit '-1': input should be greater than 0"),
        ({"max_seconds": "soon"}, {}, "--max-seconds 'soon': input should be a valid number"),
        ({}, {"VECFILL_LIMIT": "many"}, "VECFILL_LIMIT 'many': input should be a valid integer"),
        ({"limit": "0"}, {"VECFILL_LIMIT": "5"}, "--limit '0': input should be greater than 0"),
        ({}, {"VECFILL_KEY": "[id"}, r"VECFILL_KEY '\[id': value error"),
        ({}, {"VECFILL_DEVICE": "tpu"}, "VECFILL_DEVICE 'tpu': input should be 'auto', 'cuda' or 'cpu'"),
    ],
)
def test_values_that_do_not_fit_name_where_they_come_from(monkeypatch, flags, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        Settings.load(flags)


def test_the_database_never_shows(write):
    for name in ("database", "password_command"):
        file = write(f"{name} = ['postgresql://u:sekret@h/x']")
        with pytest.raises(ConfigError, match=rf"{name} in .*: input should be a valid string") as caught:
            Settings.load({}, file)
        assert "sekret" not in str(caught.value)
        assert "sekret" not in repr(Settings.load({name: "sekret"}))
    assert "sekret" not in repr(Settings.load({"database": "postgresql://u:sekret@h/x"}))


def test_one_load_leaves_nothing_for_the_next(write):
    assert Settings.load({}, write("limit = 5")).limit == 5
    assert Settings.load({}).limit is None
    with pytest.raises(ConfigError):
        Settings.load({}, write("limit = 'x'"))
    assert Settings.load({}).limit is None


def test_what_is_needed_says_how_to_give_it():
    with pytest.raises(ConfigError, match="--table is missing: give it, or set VECFILL_TABLE, or write table = … in"):
        Settings.load({"model": "m"}).need("model", "table")
    Settings.load({"model": "m", "table": "t"}).need("model", "table")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_the_examples_load(file):
    settings = Settings.load({}, file)
    settings.need("table", "text", "model")
    assert settings.database is None


def test_there_is_an_example_for_each_kind_of_user():
    assert len(CONFIGS) == 5


def test_every_setting_is_described():
    assert all(option.info.description for option in OPTIONS.values())


def test_bytes_that_are_no_text_are_refused_and_backslashes_are_not():
    with pytest.raises(ConfigError, match=r"--text '\{title\}\\udcff' is not UTF-8"):
        Settings.load({"text": "{title}\udcff"})
    assert Settings.load({"text": "é {title}\\udcff"}).text == "é {title}\\udcff"
