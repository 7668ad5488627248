"""How an option is declared: once, as a field of a frozen record that checks its values.

>>> @spec
... class Limits(Spec):
...     rows: int | None = option("Stop after N rows.", default=None, gt=0)
>>> Limits(rows=0)
Traceback (most recent call last):
...
vecfill.errors.ConfigError: --rows 0: input should be greater than 0
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

S = TypeVar("S", bound="Spec")
T = TypeVar("T")

REQUIRED: Any = ...


class Spec:
    """Base of the specs: compared and hashed by value, picklable, changed by ``dataclasses.replace``."""

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]


def option(
    description: str,
    *,
    default: Any = REQUIRED,
    name: str | None = None,
    flag: str | None = None,
    unset: str | None = None,
    metavar: str | None = None,
    short: str | None = None,
    secret: bool = False,
    blank: bool = False,
    **bounds: Any,
) -> Any:
    """Declares a field that a flag, an environment variable and a file can set.

    Args:
        description: the help text; one sentence.
        default: the value if no source gives one; ``REQUIRED`` for none.
        name: name of the setting, if it differs from the field's.
        flag: the flag, if it differs from the setting's name.
        unset: text for the help that describes the default None.
        metavar: the value's placeholder in the help; None derives it from the type.
        short: one-letter flag.
        secret: no message and no repr shows the value.
        blank: an empty text is a value too; otherwise it is refused, since it mostly is a variable that is not set.
        bounds: pydantic's constraints: ``gt``, ``ge``, ``le``, ``allow_inf_nan``.
    """
    texts = {"name": name, "flag": flag, "unset": unset, "metavar": metavar, "short": short}
    marks: dict[str, Any] = {**texts, "secret": secret}
    field = Field(default, description=description, repr=not secret, json_schema_extra={"option": marks}, **bounds)
    if not blank:
        field.metadata.append(AfterValidator(_not_blank))
    return field


def _not_blank(value: T) -> T:
    texts = value if isinstance(value, tuple) else (value,)
    if any(not text.strip() if isinstance(text, str) else text == Path() for text in texts):  # Path() is Path("")
        raise PydanticCustomError("blank", "an empty text means nothing here: give a value, or leave it out")
    return value


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, Field))
def spec(cls: type[S]) -> type[S]:
    """Makes a class a spec: a frozen dataclass that raises ``ConfigError``, in one line, for a value out of bounds."""
    made: Any = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", hide_input_in_errors=True))(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def __init__(self: S, /, *args: Any, **values: Any) -> None:  # noqa: N807
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            raise ConfigError(_explained(made, error.errors()[0])) from None

    made.__init__ = __init__
    return made  # type: ignore[no-any-return]


def fields_of(cls: type[Spec]) -> dict[str, FieldInfo]:
    """Returns the declarations of a spec's fields."""
    fields: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return fields


def _explained(cls: type[Spec], error: ErrorDetails) -> str:
    """One line for a value that a spec refuses: the option, the value, the limit."""
    field = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{cls.__name__} needs a value for {field}"
    info: Any = fields_of(cls).get(field)
    if info is None:
        return f"{cls.__name__} has no field {field}: it has {', '.join(cls.__dataclass_fields__)}"
    marks = (info.json_schema_extra or {}).get("option")
    name = (marks["flag"] or flag_of(marks["name"] or field)) if marks else field
    return refusal(name, error, secret=not info.repr)


def refusal(place: str, error: ErrorDetails, *, secret: bool) -> str:
    """Returns the message that the value given at ``place`` does not fit, and why, without a secret value."""
    value = "" if secret else f" {error['input']!r}"
    return f"{place}{value}: {error['msg'][0].lower()}{error['msg'][1:]}"


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")
