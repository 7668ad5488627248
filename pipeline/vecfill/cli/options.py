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
    from vecfill.postgres.database import Database

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"

AS_NAME = {"json": "as_json"}
"""Parameter names of switches whose own names would hide a module."""


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
    from vecfill.postgres.database import Database

    return Database.resolve(settings.database, password_command=settings.password_command)


class Flag(click.Option):
    """The flag of a declared option."""

    def __init__(self, *args: Any, declared: Option, **more: Any) -> None:
        super().__init__(*args, **more)
        self.declared = declared


def _flag(option: Option, *, name: str | None = None, envvar: str | None = None) -> Callable[[F], F]:
    short = option.marks["short"]
    spellings = [*([short] if short else []), option.spelling, name or option.name]
    value = {"is_flag": True} if option.is_switch else {"multiple": option.repeats, "metavar": option.metavar}
    return click.option(*spellings, cls=Flag, declared=option, default=None, envvar=envvar, help=option.help, **value)


def output_options(function: F) -> F:
    """Adds the switches of ``Output``; they come as one argument, ``output``."""
    names = {option.name: AS_NAME.get(option.name, option.name) for option in OUTPUT.values()}

    @functools.wraps(function)
    def with_output(*, config: Path | None, **rest: Any) -> Any:
        given = {name: rest.pop(parameter) for name, parameter in names.items()}
        output = load_output(given, config)
        wishes = click.get_current_context().find_root().ensure_object(dict)
        wishes["json"] = output.json  # an error that ends the command is then JSON too
        return function(config=config, output=output, **rest)

    command = cast(F, with_output)
    for option in reversed(list(OUTPUT.values())):
        command = _flag(option, name=names[option.name], envvar=option.variable)(command)
    return command
