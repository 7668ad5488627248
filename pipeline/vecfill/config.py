"""Settings: flag > environment > file > default. One class is the truth for flags, files and docs."""

from __future__ import annotations

import json
import os
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from vecfill.errors import ConfigError

ENV_PREFIX = "VECFILL_"

SECRET = ("database", "password_command")
"""Settings that may hold a password: no message shows their value."""

SWITCHES = ("json", "quiet", "verbose")
"""What a command prints, not what it does: no settings, but in a file beside them."""

Names = Annotated[tuple[str, ...], NoDecode]
"""Several texts: a repeated flag, a list in a file, in the environment one text or a JSON list."""

_FILE: ContextVar[dict[str, Any]] = ContextVar("vecfill_file", default={})  # noqa: B039 -- never changed
"""What the file being loaded says: pydantic-settings makes its sources inside the constructor."""


class Settings(BaseSettings):
    """Everything that a run can be told. A field's description is the help text of its flag."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    database: str | None = Field(
        None, repr=False, description="Where the data is: postgresql://user@host/name, or 'embedded'."
    )
    password_command: str | None = Field(
        None, repr=False, description="Program that prints the password, with its arguments; run at each connect."
    )

    table: str | None = Field(None, description='Table in SQL notation: public.jobs, or "Odd Schema"."order".')
    text: str | None = Field(
        None,
        description=r"What to embed: a template such as '{title} at {company}\n{description}', or one column's name.",
    )
    column: str = Field("embedding", description="Embedding column: vector, halfvec or real[].")
    key: Names = Field(
        (),
        description="Column of the key, a unique index over NOT NULL columns; repeatable.  [default: the primary key]",
    )
    where: str | None = Field(None, description="SQL condition that rows must meet, such as \"status = 'open'\".")
    set: Names = Field(
        (), description="Assignment made together with the vector, such as 'updated_at = now()'; repeatable."
    )
    dim: int | None = Field(
        None, gt=0, le=16_000, description="Dimension, where neither the column's type nor a vector in it tells."
    )

    model: str | None = Field(
        None,
        description="Model: a hub id, a folder, package:NAME/sub/folder, openai:NAME (an API) or hash:DIM (none).",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    prompt: str | None = Field(None, description="Text put before each text, such as 'passage: '.")
    prompt_name: str | None = Field(None, description="Name of one of the model's own prompts.")
    truncate_dim: int | None = Field(None, gt=0, description="Keep the first N dimensions (Matryoshka models).")
    max_tokens: int | None = Field(
        None, gt=0, description="Truncate texts to N tokens.  [default: the model's own limit]"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Type that the model computes in; auto is bfloat16 where the device is fast at it and the vectors "
        "agree, else float32.",
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="Where the model computes; auto takes a GPU where there is one."
    )
    trust_remote_code: bool = Field(False, description="Run the Python code that a hub model brings along.")
    base_url: str | None = Field(
        None, description="Endpoint for openai:NAME, such as http://127.0.0.1:7997/v1.  [default: OpenAI's]"
    )
    api_key_command: str | None = Field(
        None, repr=False, description="Command that prints the API's key, where neither variable holds it."
    )
    tokenizer: str | None = Field(
        None,
        description="The API's own tokenizer, a hub id or a folder, to truncate by; else counts are estimates.",
    )
    max_concurrency: int = Field(16, gt=0, description="Requests to the API at once at most, from each encoder.")
    request_inputs: int = Field(2_048, gt=0, description="Texts in a request at most.")
    request_tokens: int = Field(300_000, gt=0, description="Tokens in a request at most.")
    request_timeout: float = Field(60.0, gt=0, description="Seconds that a request may take.")
    max_requests: int | None = Field(None, gt=0, description="End before the API gets more than N requests.")
    max_cost: float | None = Field(None, ge=0, description="End before the API's tokens cost more than X USD.")
    price_per_million: float | None = Field(
        None, ge=0, description="USD a million tokens of the API.  [default: of configs/api-prices.toml]"
    )
    dedupe: bool = Field(True, description="Compute each distinct text once.")
    allow_mixed: bool = Field(
        False, description="Go on although the vectors that are there were made by another model."
    )

    yes: bool = Field(False, description="Go on also where the forecast is above a bound, without being asked.")

    engine: Literal["auto", "ray", "inline"] = Field(
        "auto",
        description="ray: on a cluster or all of this machine; inline: in this process; auto: whichever ends sooner.",
    )
    ray_address: str | None = Field(None, description="Ray cluster to join, such as ray-head:6379 or auto.")
    actors: int | None = Field(None, gt=0, description="Encoders.  [default: one a GPU, or one with all cores]")
    gpus_per_actor: float | None = Field(
        None, gt=0, description="GPUs that an encoder reserves; a fraction shares one.  [default: 1]"
    )
    writers: int | None = Field(
        None, gt=0, description="Writers on Ray, each with a connection.  [default: 1, or 2 a GPU up to 4]"
    )
    max_connections: int | None = Field(
        None, ge=3, description="Most connections to the database at a time, those of all workers together."
    )
    report: Path | None = Field(
        None, description="File to write anew, with a JSON line for each row that was not updated: key, outcome, why."
    )
    limit: int | None = Field(None, gt=0, description="Stop after N rows.")
    max_rate: float | None = Field(None, gt=0, description="Write at most N rows a second.")
    max_replication_lag: str | None = Field(
        None, description="Pause while a standby is further behind: a time such as 30s, or WAL such as 256MB."
    )
    max_slot_wal: str | None = Field(
        None, description="Pause while a replication slot keeps more WAL than this, such as 10GB."
    )
    max_seconds: float | None = Field(None, gt=0, description="Stop after N seconds, with what is in flight committed.")

    @field_validator("key", "set", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, str):
            return json.loads(value) if value.lstrip().startswith("[") else (value,)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then ``VECFILL_*``, then ``DATABASE_URL``, then the file."""
        url = os.environ.get("DATABASE_URL")
        wider = InitSettingsSource(settings_cls, init_kwargs={"database": url} if url else {})
        return init_settings, env_settings, wider, InitSettingsSource(settings_cls, init_kwargs=_FILE.get())

    @classmethod
    def load(cls, flags: dict[str, Any], file: Path | None = None) -> Self:
        """Reads all sources, where there is to be one target.

        Raises:
            ConfigError: as ``load_all``; the file has several targets, and ``--table`` picks none of them.
        """
        first, *others = cls.load_all(flags, file)
        if others:
            names = ", ".join(str(one.table) for one in (first, *others))
            raise ConfigError(
                f"--config {file} has {len(others) + 1} targets, and one is needed: --table picks: {names}"
            )
        return first

    @classmethod
    def load_all(cls, flags: dict[str, Any], file: Path | None = None) -> list[Self]:
        """Reads all sources, once for each target of the file.

        Args:
            flags: what the command line gave; None and empty tuples count as not given. They hold for all targets, but
                for the table: of several targets it picks those of this name.
            file: TOML; a ``[[target]]`` table may set anything, and stands above the file's other keys.

        Raises:
            ConfigError: a value that does not fit, an unknown key, a file that cannot be read; no target of the table.
        """
        common, targets = _read(file) if file else ({}, [])
        common = {name: value for name, value in common.items() if name not in SWITCHES}
        if len(targets) <= 1:
            return [cls._load(flags, {**common, **(targets[0] if targets else {})}, str(file))]
        laid = {f"{file}, target {number}": {**common, **target} for number, target in enumerate(targets, 1)}
        wanted = flags.get("table") or os.environ.get(_variable("table"))
        picked = {place: values for place, values in laid.items() if wanted in (None, "", values.get("table"))}
        if not picked:
            names = ", ".join(str(values.get("table")) for values in laid.values())
            raise ConfigError(f"--table {wanted}: --config {file} has no target of this table: there are {names}")
        return [cls._load(flags, values, place) for place, values in picked.items()]

    @classmethod
    def _load(cls, flags: dict[str, Any], values: dict[str, Any], place: str) -> Self:
        """One target's settings; ``place`` says where in the file ``values`` stand."""
        for name, value in flags.items():
            if isinstance(value, str) and not _is_unicode(value):
                raise ConfigError(f"{_flag(name)} {value!a} is not UTF-8: write it in this terminal's encoding")
        given = {name: value for name, value in flags.items() if value is not None and value != ()}

        token = _FILE.set(values)
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError(_explained(error, given, place)) from error
        finally:
            _FILE.reset(token)

    def need(self, *names: str) -> None:
        """Checks that these settings have a value.

        Raises:
            ConfigError: one has none; the message says how to give it.
        """
        for name in names:
            if getattr(self, name) is None:
                raise ConfigError(
                    f"{_flag(name)} is missing: give it, or {_variable(name)}, or {name} = … in the file of --config"
                )


def _is_unicode(text: str) -> bool:
    """Whether the text holds no byte that the terminal's encoding could not explain (a lone surrogate)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def switches(file: Path | None) -> dict[str, bool]:
    """What the file says of the output: ``json``, ``quiet``, ``verbose``; false where it says nothing.

    Raises:
        ConfigError: the file cannot be read, or one of them is neither true nor false.
    """
    values = _read(file)[0] if file else {}
    for name in SWITCHES:
        if not isinstance(values.get(name, False), bool):
            raise ConfigError(f"{name} in {file} is {values[name]!r}: write true or false")
    return {name: values.get(name, False) for name in SWITCHES}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _read(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file's settings, and what each of its targets says above them."""
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file} cannot be read: {error.strerror}: check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} is not TOML: {error}: see configs/ for examples") from error
    targets = values.pop("target", [])
    if not isinstance(targets, list) or not all(isinstance(target, dict) for target in targets):
        raise ConfigError(f"--config {file}: a target is written as [[target]], with double brackets")
    return values, targets


def _explained(error: ValidationError, given: dict[str, Any], file: str) -> str:
    """One line for the first thing that is wrong: where, the value, the limit."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        return f"{file}: unknown key {name}: take it out, or write one of {known}"
    place = _flag(name) if name in given else _variable(name) if _variable(name) in os.environ else f"{name} in {file}"
    value = "" if name in SECRET else f" {first['input']!r}"
    return f"{place}{value}: {first['msg'][0].lower()}{first['msg'][1:]}"
