"""Specs check themselves, and everything about an option follows from its one declaration."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from vecfill.config.api import ApiOptions
from vecfill.config.connection import DatabaseOptions
from vecfill.config.doctor import DoctorOptions
from vecfill.config.engine import EngineOptions
from vecfill.config.hooks import HookOptions
from vecfill.config.limits import WriteLimits
from vecfill.config.migrate import IndexOptions, LockOptions, MigrateOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.config.options import chosen, options_of
from vecfill.config.output import Output
from vecfill.config.plan import PlanOptions
from vecfill.config.queue_options import QueueOptions
from vecfill.config.retry import RetryOptions
from vecfill.config.run import ReportFile, RunOptions
from vecfill.config.settings import OPTIONS, OUTPUT, Settings
from vecfill.config.spec import Spec, option, spec
from vecfill.config.status import StatusOptions
from vecfill.config.target import Target
from vecfill.config.track import TrackOptions
from vecfill.config.verify import VerifyOptions
from vecfill.config.watch import WatchOptions
from vecfill.errors import ConfigError

SPECS = [
    Target(table="t", key=("a", "b"), where="x"),
    Model(name="openai:m", api=ApiOptions(max_requests=3, key_command="c")),
    RunOptions(engine=EngineOptions(engine="ray"), write_limits=WriteLimits(max_slot_wal="1GB"), limit=5),
    DatabaseOptions(database="d"),
    ReportFile(report="rows.jsonl"),
    Output(json=True),
]


@pytest.mark.parametrize("made", SPECS, ids=lambda made: type(made).__name__)
def test_they_compare_by_value_pickle_and_do_not_change(made):
    copy = pickle.loads(pickle.dumps(made))
    assert (copy, hash(copy)) == (made, hash(made))
    name = fields(made)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunOptions(limit=0), "--limit 0: input should be greater than 0"),
        (lambda: RunOptions(limit="many"), "--limit 'many': input should be a valid integer"),
        (lambda: replace(RunOptions(), max_seconds=-1), "--max-seconds -1: input should be greater than 0"),
        (lambda: EngineOptions(engine="spark"), "--engine 'spark': input should be 'auto', 'ray' or 'inline'"),
        (lambda: EngineOptions(max_connections=2), "--max-connections 2: input should be greater than or equal to 3"),
        (
            lambda: EngineOptions(max_connections=4, writers=3),
            "3 writers, a reader and the run itself need 5 connections but --max-connections is 4",
        ),
        (lambda: EngineOptions(actors=0), "--actors 0: input should be greater than 0"),
        (lambda: Target(table="t", dim=16_001), "--dim 16001: input should be less than or equal to 16000"),
        (lambda: Target(table="t", key="id"), "--key 'id': input should be a valid tuple"),
        (lambda: Target(text="t"), "Target needs a value for table"),
        (lambda: Target(table="t", tabel="u"), "Target has no field tabel: it has table, text, text_sql, column"),
        (lambda: ApiOptions(give_up_after=0), "give_up_after 0: input should be greater than 0"),
        (lambda: ApiOptions(request_timeout=float("inf")), "--request-timeout inf: input should be a finite number"),
        (lambda: HookOptions(on_fail=""), "--on-fail: an empty text means nothing here: give a value, or leave it out"),
        (lambda: WatchOptions(metrics_host=" "), "--metrics-host ' ': an empty text"),
        (lambda: SwapOptions(after=""), "--after '': an empty text"),
        (lambda: Target(table="t", queue=QueueOptions(table="q", order=("",))), "--queue-order ('',): an empty text"),
        (lambda: Model(name="hash:8", prompt="passage: "), "--prompt is 'passage: ' but hash:8, which stands in"),
        (lambda: Model(name="hash:8", prompt_name="passage"), "--prompt-name is 'passage' but hash:8"),
        (lambda: Model(name=None), "--model None: input should be a valid string"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line_of_ours(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_empty_text_is_a_value_where_it_means_something():
    """No condition, no prompt, an empty status: each in place of what a file or a model says."""
    assert Target(table="t", where="", queue=QueueOptions(table="q", pending="")).where == ""
    assert Model(name="m", prompt="").prompt == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda secret: ApiOptions(key=secret),
        lambda secret: ApiOptions(key_command=secret),
        lambda secret: DatabaseOptions(database=secret, password_command=secret),
    ],
)
def test_a_secret_shows_in_no_repr_and_no_message(make):
    assert "sekret" not in repr(make("sekret"))
    with pytest.raises(ConfigError) as caught:
        make(["sekret"])
    assert "sekret" not in str(caught.value)


@spec
class Extra(Spec):
    """A spec of a stranger."""

    most_doors: int = option("Open at most N doors.", default=2, ge=1, le=9)
    colour: str | None = option("Paint it.", default=None, name="door_colour", metavar="COLOUR", unset="white")


def test_flag_variable_help_and_bounds_come_from_the_declaration():
    doors, colour = options_of(Extra)
    assert (doors.flag, doors.variable, doors.metavar, doors.default) == (
        "--most-doors",
        "VECFILL_MOST_DOORS",
        "N",
        "2",
    )
    assert doors.bounds == ">= 1, <= 9"
    assert doors.help == "Open at most N doors.  [env: VECFILL_MOST_DOORS; default: 2]"
    assert (colour.flag, colour.field, colour.metavar, colour.default) == ("--door-colour", "colour", "COLOUR", "white")


def test_settings_become_specs_and_specs_within_specs():
    flags = {"table": "t", "model": "openai:m", "max_requests": "7", "api_key_command": "c", "limit": "3"}
    settings = Settings.load({**flags, "max_rate": "0.5", "writers": "2", "key": ("a", "b")})
    assert settings.of(Target) == Target(table="t", key=("a", "b"))
    assert settings.of(Model) == Model(name="openai:m", api=ApiOptions(max_requests=7, key_command="c"))
    expected = RunOptions(limit=3, engine=EngineOptions(writers=2), write_limits=WriteLimits(max_rate=0.5))
    assert settings.of(RunOptions) == expected
    assert settings.of(Model, name="other").name == "other"
    with pytest.raises(ConfigError, match="--model is missing"):
        Settings.load({}).of(Model)


def test_without_sources_the_settings_are_the_defaults_of_the_specs():
    settings = Settings.load({"table": "t", "model": "m"})
    assert settings.of(Target) == Target(table="t")
    assert settings.of(Model) == Model(name="m")
    assert settings.of(RunOptions) == RunOptions()
    assert settings.of(ReportFile) == ReportFile()


def test_what_was_chosen_has_no_secrets_and_no_defaults():
    api = ApiOptions(key="hush", key_command="print hush", max_cost=1.0)
    options = RunOptions(limit=5, write_limits=WriteLimits(max_rate=9.0))
    found = chosen(DatabaseOptions(database="postgresql://u:hush@h/d"), Model(name="openai:m", api=api), options)
    assert found == {"model": "openai:m", "max_cost": 1.0, "limit": 5, "max_rate": 9.0}


def test_names_are_unique_over_all_specs():
    found = options_of(
        DatabaseOptions,
        Target,
        Model,
        RunOptions,
        ReportFile,
        TrackOptions,
        RetryOptions,
        StatusOptions,
        VerifyOptions,
        DoctorOptions,
        WatchOptions,
        MigrateOptions,
        LockOptions,
        IndexOptions,
        SwapOptions,
        PlanOptions,
        HookOptions,
        Output,
    )
    assert len({one.name for one in found}) == len(found) == len(OPTIONS) + len(OUTPUT)
