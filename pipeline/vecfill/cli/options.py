"""Flags, made from the options that the specs declare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from vecfill.config.options import ENV_PREFIX, Option
from vecfill.config.settings import OUTPUT, Settings, load_output

if TYPE_CHECKING:
    from vecfill.postgres.session import Database

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"

AS_NAME = {"json": "as_json"}
"""Parameter of a switch whose own name would hide a module."""


def settings_options(options: Iterable[Option]) -> Callable[[F], F]:
    """Adds a flag for each option, and ``--config``; the values come as keyword arguments, None where absent."""

    def decorate(function: F) -> F:
        for option in reversed(list(options)):
            function = _flag(option)(function)
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar=CONFIG_VARIABLE,
            help=f"Read settings from this TOML file; see configs/.  [env: {CONFIG_VARIABLE}]",
        )(function)

    return decorate


def database_of(settings: Settings) -> Database:
    """Resolves the database that the settings, or libpq's environment, name.

    Raises:
        ConfigError: nothing names one.
    """
    from vecfill.postgres.session import Database

    return Database.named(settings.database, password_command=settings.password_command)


def _flag(option: Option, *, name: str | None = None, envvar: str | None = None) -> Callable[[F], F]:
    flag, short = option.flag, option.marks["short"]
    if option.is_switch and option.info.default is True:
        flag += "/--no-" + flag.removeprefix("--")
    spellings = [*([short] if short else []), flag, name or option.name]
    if option.is_switch:
        return click.option(*spellings, is_flag=True, default=None, envvar=envvar, help=option.help)
    return click.option(
        *spellings, multiple=option.repeats, default=None, envvar=envvar, metavar=option.metavar, help=option.help
    )


def output_options(function: F) -> F:
    """Adds the switches of ``Output``; they come as one argument, ``output``."""
    names = {option.name: AS_NAME.get(option.name, option.name) for option in OUTPUT.values()}

    @functools.wraps(function)
    def with_output(*, config: Path | None, **rest: Any) -> Any:
        given = {name: rest.pop(parameter) for name, parameter in names.items()}
        return function(config=config, output=load_output(given, config), **rest)

    command = cast(F, with_output)
    for option in reversed(list(OUTPUT.values())):
        command = _flag(option, name=names[option.name], envvar=option.variable)(command)
    return command
