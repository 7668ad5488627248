"""The options that specs declare, as flags, help texts and the reference page show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vecfill.config.spec import Spec, fields_of, flag_of

ENV_PREFIX = "VECFILL_"


@dataclass(frozen=True)
class Option:
    """One option, declared by ``field`` of ``spec``."""

    spec: type[Spec]
    field: str
    info: FieldInfo

    @property
    def name(self) -> str:
        """The setting's name: the key in a file."""
        return str(self.marks["name"] or self.field)

    @property
    def marks(self) -> dict[str, Any]:
        """The arguments of ``option`` that are not pydantic's own."""
        marks: dict[str, Any] = self.info.json_schema_extra["option"]  # type: ignore[index, assignment]
        return marks

    @property
    def flag(self) -> str:
        """Such as ``--max-rate``."""
        return str(self.marks["flag"] or flag_of(self.name))

    @property
    def spelling(self) -> str:
        """The flag, and the one that turns it off where it is on by default."""
        return f"{self.flag}/--no-{self.flag[2:]}" if self.info.default is True else self.flag

    @property
    def variable(self) -> str:
        """Such as ``VECFILL_MAX_RATE``."""
        return ENV_PREFIX + self.name.upper()

    @property
    def required(self) -> bool:
        """Whether the spec cannot be made without it."""
        return self.info.is_required()

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.info.annotation is bool

    @property
    def repeats(self) -> bool:
        """Whether the flag can be repeated for several values."""
        return get_origin(self.info.annotation) is tuple

    @property
    def secret(self) -> bool:
        """Whether no message may show its value."""
        return bool(self.marks["secret"])

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from; empty if any other value is possible."""
        kinds = (self.info.annotation, *get_args(self.info.annotation))
        return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())

    @property
    def metavar(self) -> str:
        """The placeholder of the value in a help text."""
        if self.choices:
            return "|".join(self.choices)
        kinds = {self.info.annotation, *get_args(self.info.annotation)}
        return str(self.marks["metavar"] or ("N" if int in kinds else "X" if float in kinds else "TEXT"))

    @property
    def default(self) -> str | None:
        """The default as text; None if there is none to show."""
        if self.marks["unset"]:
            return str(self.marks["unset"])
        return None if self.required or self.info.default in (None, (), False) else str(self.info.default)

    @property
    def bounds(self) -> str:
        """Such as ``> 0, <= 16000``."""
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        found = [(sign, getattr(one, name, None)) for one in self.info.metadata for name, sign in signs.items()]
        return ", ".join(f"{sign} {limit}" for sign, limit in found if limit is not None)

    @property
    def help(self) -> str:
        """Description, environment name and default in one line."""
        default = f"; default: {self.default}" if self.default else ""
        return f"{self.info.description}  [env: {self.variable}{default}]"


def options_of(*specs: type[Spec], without: tuple[str, ...] = ()) -> tuple[Option, ...]:
    """Returns the options of these specs and of the specs inside them, in the order of their declaration.

    Args:
        specs: where the options are declared.
        without: names of settings to leave out.
    """
    return tuple(found for one in specs for found in _options(one) if found.name not in without)


def inner_specs(spec: type[Spec]) -> dict[str, type[Spec]]:
    """The fields of a spec that are specs themselves."""
    annotations = {field: info.annotation for field, info in fields_of(spec).items()}
    return {field: kind for field, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Spec)}


def _options(spec: type[Spec]) -> list[Option]:
    inner, found = inner_specs(spec), list[Option]()
    for field, info in fields_of(spec).items():
        if field in inner:
            found += _options(inner[field])
        elif info.json_schema_extra:
            found.append(Option(spec=spec, field=field, info=info))
    return found
