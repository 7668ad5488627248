"""Flags made from the settings, so that help, environment and files tell of the same things."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from vecfill.config import ENV_PREFIX, Settings, switches

F = TypeVar("F", bound=Callable[..., Any])

DATABASE = ("database", "password_command")
TARGET = ("table", "text", "column", "key", "where", "set", "dim")
MODEL = (
    "model",
    "revision",
    "prompt",
    "prompt_name",
    "truncate_dim",
    "max_tokens",
    "dtype",
    "device",
    "trust_remote_code",
    "base_url",
    "api_key_command",
    "tokenizer",
    "max_concurrency",
    "request_inputs",
    "request_tokens",
    "request_timeout",
    "max_requests",
    "max_cost",
    "price_per_million",
)
CARRIED_OUT = (
    "engine",
    "ray_address",
    "actors",
    "gpus_per_actor",
    "writers",
    "max_connections",
    "report",
    "limit",
    "max_seconds",
    "max_rate",
    "max_replication_lag",
    "max_slot_wal",
    "dedupe",
    "allow_mixed",
    "yes",
)

_SHORT = {"database": "-d", "table": "-t", "model": "-m"}


def settings_options(*names: str) -> Callable[[F], F]:
    """Adds a flag for each setting named, and ``--config``; the values come as keyword arguments, None where absent."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = _option(name, Settings.model_fields[name])(function)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar=f"{ENV_PREFIX}CONFIG",
            help=f"TOML file with these settings; see configs/.  [env: {ENV_PREFIX}CONFIG]",
        )(function)

    return decorate


def _option(name: str, field: FieldInfo) -> Callable[[F], F]:
    flag = "--" + name.replace("_", "-")
    if field.default is True:
        flag += "/--no-" + flag.removeprefix("--")
    spellings = [*([_SHORT[name]] if name in _SHORT else []), flag, name]
    help_text = f"{field.description}  [env: {ENV_PREFIX}{name.upper()}{_default(field)}]"
    if field.annotation is bool:
        return click.option(*spellings, is_flag=True, default=None, help=help_text)
    return click.option(
        *spellings, multiple=field.default == (), default=None, metavar=_metavar(name, field), help=help_text
    )


def _default(field: FieldInfo) -> str:
    return f"; default: {field.default}" if field.default not in (None, (), False) else ""


_METAVARS = {
    "database": "URL",
    "password_command": "COMMAND",
    "base_url": "URL",
    "api_key_command": "COMMAND",
    "table": "NAME",
    "text": "TEMPLATE",
    "column": "NAME",
    "key": "NAME",
    "where": "SQL",
    "set": "SQL",
    "report": "FILE",
}


def _metavar(name: str, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(get_args(field.annotation))
    kinds = {int: "N", float: "X"}
    inner = next((kind for kind in (field.annotation, *get_args(field.annotation)) if kind in kinds), None)
    return kinds[inner] if inner else _METAVARS.get(name, "TEXT")


def output_options(function: F) -> F:
    """Adds ``--json``, ``--quiet`` and ``--verbose``, each also by what the file of ``--config`` says."""

    @functools.wraps(function)
    def with_file(*, config: Path | None, as_json: bool, quiet: bool, verbose: bool, **rest: Any) -> Any:
        said = switches(config)
        on = {
            "as_json": as_json or said["json"],
            "quiet": quiet or said["quiet"],
            "verbose": verbose or said["verbose"],
        }
        return function(config=config, **on, **rest)

    options = (
        _switch("--verbose", "verbose", "Also what Ray says, and tracebacks."),
        _switch("--quiet", "quiet", "Only errors on stderr."),
        _switch("--json", "as_json", "One JSON object on stdout."),
    )
    return functools.reduce(lambda command, option: option(command), options, cast(F, with_file))


def _switch(flag: str, name: str, help_text: str) -> Callable[[F], F]:
    variable = f"{ENV_PREFIX}{flag.removeprefix('--').upper()}"
    return click.option(flag, name, is_flag=True, envvar=variable, help=f"{help_text}  [env: {variable}]")


def log_to_stderr(*, quiet: bool, verbose: bool) -> None:
    """Sends our own log to stderr: what matters by default, errors alone or everything as asked."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s" if verbose else "%(message)s"))
    logger = logging.getLogger("vecfill")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    # What psycopg ignores while it closes a broken line adds nothing to our own line about it.
    logging.getLogger("psycopg").setLevel(logging.NOTSET if verbose else logging.ERROR)
