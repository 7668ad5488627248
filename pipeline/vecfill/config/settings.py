"""Settings from their sources: flag > environment > ``DATABASE_URL`` > file > default."""

from __future__ import annotations

import functools
import json
import os
from contextvars import ContextVar
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, ValidationError, create_model
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from vecfill.config.connection import DatabaseOptions
from vecfill.config.doctor import DoctorOptions
from vecfill.config.hooks import HookOptions
from vecfill.config.migrate import IndexOptions, LockOptions, MigrateOptions, SwapOptions
from vecfill.config.model import Model
from vecfill.config.options import ENV_PREFIX, Option, inner_specs, options_of
from vecfill.config.output import Output
from vecfill.config.plan import PlanOptions
from vecfill.config.queue_options import QueueOptions
from vecfill.config.retry import RetryOptions
from vecfill.config.run import ReportFile, RunOptions
from vecfill.config.settings_environment import EnvironmentSource
from vecfill.config.settings_file import read_file
from vecfill.config.spec import Spec, refusal
from vecfill.config.status import StatusOptions
from vecfill.config.target import Target
from vecfill.config.track import TrackOptions
from vecfill.config.verify import VerifyOptions
from vecfill.config.watch import WatchOptions
from vecfill.errors import ConfigError

S = TypeVar("S", bound=Spec)

OPTIONS = {
    option.name: option
    for option in options_of(
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
        PlanOptions,
        MigrateOptions,
        LockOptions,
        IndexOptions,
        HookOptions,
        SwapOptions,
    )
}
"""Every setting by name."""

QUEUE_SETTINGS = tuple(option.name for option in options_of(QueueOptions))
"""Names of the settings of a queue table, which few verbs need."""

OUTPUT = {option.name: option for option in options_of(Output)}
"""The switches of the output, which only the top of a file may set."""

_FILE: ContextVar[dict[str, Any]] = ContextVar("vecfill_file", default={})  # noqa: B039 -- never changed
"""The values of the file being loaded: pydantic-settings makes its sources inside the constructor."""


class Settings(BaseSettings):
    """The settings of one target, each an attribute; ``of`` makes the specs from them."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    if TYPE_CHECKING:  # the attributes are the names in OPTIONS

        def __getattr__(self, name: str) -> Any: ...

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
        shared = InitSettingsSource(settings_cls, init_kwargs={"database": url} if url else {})
        return (
            init_settings,
            EnvironmentSource(settings_cls),
            shared,
            InitSettingsSource(settings_cls, init_kwargs=_FILE.get()),
        )

    @classmethod
    def load(cls, flags: dict[str, Any], file: Path | None = None) -> Settings:
        """Reads all sources for a verb that takes one target.

        Raises:
            ConfigError: as ``load_all``; or the file has several targets and ``--table`` picks none of them.
        """
        first, *others = cls.load_all(flags, file)
        if others:
            names = ", ".join(str(one.table) for one in (first, *others))
            raise ConfigError(
                f"--config {file} has {len(others) + 1} targets, and this verb takes one: pick it by --table: {names}"
            )
        return first

    @classmethod
    def load_all(cls, flags: dict[str, Any], file: Path | None = None) -> list[Settings]:
        """Reads all sources, once for each target of the file.

        Args:
            flags: values from the command line; None and empty tuples count as not given. They apply to every target,
                except that the table picks the targets of that name.
            file: TOML; a ``[[target]]`` may set anything, and overrides the top of the file.

        Raises:
            ConfigError: a value that does not fit, an unknown key, a file that cannot be read, no target of the table.
        """
        common, targets = read_file(file) if file else ({}, [])
        common = {name: value for name, value in common.items() if name not in OUTPUT}
        if len(targets) <= 1:
            return [_load(flags, {**common, **(targets[0] if targets else {})}, str(file))]
        by_place = {f"{file}, target {number}": {**common, **target} for number, target in enumerate(targets, 1)}
        wanted = flags.get("table") or os.environ.get(OPTIONS["table"].variable)
        picked = {place: values for place, values in by_place.items() if wanted in (None, "", values.get("table"))}
        if not picked:
            names = ", ".join(str(values.get("table")) for values in by_place.values())
            raise ConfigError(f"--table {wanted}: --config {file} has no target with this table: it has {names}")
        return [_load(flags, values, place) for place, values in picked.items()]

    def of(self, spec: type[S], **given: Any) -> S:
        """Makes a spec, and the specs inside it, from the settings.

        Args:
            spec: which one.
            given: fields to set to these values instead.

        Raises:
            ConfigError: a setting that the spec requires is missing, or the settings contradict one another.
        """
        own = [option for option in options_of(spec) if option.spec is spec and option.field not in given]
        self.need(*(option.name for option in own if option.required))
        values = {option.field: getattr(self, option.name) for option in own}
        inner = {field: self.of(kind) for field, kind in inner_specs(spec).items() if field not in given}
        return spec(**{**values, **inner, **given})

    def need(self, *names: str) -> Self:
        """Checks that these settings have a value.

        Raises:
            ConfigError: one has none; the message says how to give it.
        """
        for option in map(OPTIONS.__getitem__, names):
            if getattr(self, option.name) is None:
                raise ConfigError(
                    f"{option.flag} is missing: give it, or set {option.variable}, or write {option.name} = … in the "
                    "file of --config"
                )
        return self


def load_output(flags: dict[str, Any], file: Path | None) -> Output:
    """Reads the switches of the output.

    Args:
        flags: values from the command line and the environment; None counts as not given.
        file: settings file; its top may set the same switches.

    Raises:
        ConfigError: the file cannot be read, or a value in it does not fit.
    """
    values = read_file(file)[0] if file else {}
    found = {name: values[name] for name in OUTPUT if name in values}
    for name, value in found.items():
        if OUTPUT[name].is_switch and not isinstance(value, bool):
            raise ConfigError(f"{name} in {file} is {value!r}: write true or false")
    return Output(**{**found, **{name: value for name, value in flags.items() if value is not None}})


def _load(flags: dict[str, Any], values: dict[str, Any], place: str) -> Settings:
    """Reads the settings of one target; ``place`` names the part of the file that ``values`` come from."""
    for name, value in flags.items():
        if isinstance(value, str) and not _is_unicode(value):
            raise ConfigError(f"{OPTIONS[name].flag} {value!a} is not UTF-8: write it in this terminal's encoding")
    given = {name: value for name, value in flags.items() if value is not None and value != ()}

    token = _FILE.set(values)
    try:
        return _with_fields()(**given)
    except ValidationError as error:
        raise ConfigError(_explained(error, given, place)) from None
    finally:
        _FILE.reset(token)


@functools.cache
def _with_fields() -> type[Settings]:
    """The class with a field for each option; nothing is required, as any source may leave it out."""
    fields: dict[str, Any] = {option.name: _field(option) for option in OPTIONS.values()}
    return create_model("Settings", __base__=Settings, **fields)


def _field(option: Option) -> tuple[Any, Any]:
    info = copy(option.info)
    kind: Any = info.annotation
    if option.required:
        info.default, kind = None, kind | None
    if option.repeats:
        return Annotated[kind, NoDecode, BeforeValidator(_several)], info
    return kind, info


def _several(value: object) -> object:
    """Several values: a repeated flag, a list in a file, in the environment one text or a JSON list."""
    if isinstance(value, str):
        return json.loads(value) if value.lstrip().startswith("[") else (value,)
    return value


def _is_unicode(text: str) -> bool:
    """Whether the text is valid Unicode: a byte that the terminal's encoding cannot decode is a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explained(error: ValidationError, given: dict[str, Any], file: str) -> str:
    """Returns one line for the first value that does not fit: its source, the value, the limit."""
    first = error.errors()[0]
    option = OPTIONS.get(name := str(first["loc"][0]))
    if option is None:
        return f"{file}: unknown key {name}: remove it, or use one of {', '.join(OPTIONS)}"
    places = {option.flag: name in given, option.variable: option.variable in os.environ}
    place = next((place for place, here in places.items() if here), f"{name} in {file}")
    return refusal(place, first, secret=option.secret)
