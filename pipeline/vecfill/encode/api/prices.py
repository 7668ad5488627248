"""Prices and rate limits of embedding APIs, and prices of machines: ``configs/api-prices.toml``, dated and sourced."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecfill.config.api import DEFAULT_HOST
from vecfill.errors import ConfigError

FILE = "api-prices.toml"

STALE_DAYS = 90
"""Older entries are used, with a warning."""

MILLION = 1_000_000

T = TypeVar("T")

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    """Source and date of an entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    dated: date

    def age_days(self, today: date | None = None) -> int:
        """Returns the entry's age in days."""
        return ((today or datetime.now(UTC).date()) - self.dated).days

    def stale(self, today: date | None = None) -> bool:
        """Whether it is older than ``STALE_DAYS``."""
        return self.age_days(today) > STALE_DAYS


class Tier(BaseModel):
    """What an account of this tier may send in a minute; None if unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rpm: int | None = Field(None, gt=0)
    tpm: int | None = Field(None, gt=0)


class Price(_Entry):
    """A model of an API: prices in USD per million tokens, None if unknown, and limits."""

    provider: str
    host: str
    model: str
    dimension: int | None = Field(None, gt=0)
    usd_per_million_tokens: Usd | None = None
    batch_usd_per_million_tokens: Usd | None = None
    tiers: tuple[Tier, ...] = ()

    @property
    def label(self) -> str:
        """Such as ``OpenAI text-embedding-3-small``."""
        return f"{self.provider} {self.model}"

    def cost(self, tokens: float) -> float | None:
        """Returns the USD for a number of tokens; None if the price is unknown."""
        price = self.usd_per_million_tokens
        return None if price is None else price * tokens / MILLION

    def batch_cost(self, tokens: float) -> float | None:
        """Returns the USD for a number of tokens through the batch API; None if there is none or no known price."""
        price = self.batch_usd_per_million_tokens
        return None if price is None else price * tokens / MILLION

    def remarks(self, today: date | None = None) -> list[str]:
        """Returns warnings for every use of this price: that it is old, unknown, or zero."""
        found = []
        if self.stale(today):
            found.append(
                f"the price of {self.label} is {self.age_days(today)} days old ({self.dated}), over {STALE_DAYS}: "
                f"check {self.source} and give a corrected file as --prices"
            )
        if self.usd_per_million_tokens is None:
            found.append(f"the price of {self.label} is not known: the cost cannot be calculated")
        elif self.usd_per_million_tokens == 0:
            found.append(f"the price of {self.label} is zero: it counts as free")
        return found


class Machine(_Entry):
    """A machine: its rent in USD per hour, and its watts if power is paid separately."""

    name: str
    about: str = ""
    usd_per_hour: Usd
    watts: Usd = 0.0


class Power(_Entry):
    """The price of a kilowatt hour."""

    usd_per_kwh: Usd


class PriceTable(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: tuple[Price, ...] = ()
    machine: tuple[Machine, ...] = ()
    power: Power | None = None

    def find(self, model: str, base_url: str | None = None) -> Price | None:
        """Returns the entry of an API's model; None if the file has none for that host, such as your own server.

        Args:
            model: the API's name of it, such as ``text-embedding-3-small``.
            base_url: the endpoint; None is OpenAI's.
        """
        host = urlsplit(base_url).hostname if base_url else DEFAULT_HOST
        return next((price for price in self.api if price.model == model and price.host == host), None)

    def named(self, model: str) -> Price:
        """Returns the entry of a model, whatever its host: to calculate with another provider's price.

        Raises:
            ConfigError: the file has no such model.
        """
        return _named("model", model, {price.model: price for price in reversed(self.api)})

    def machine_named(self, name: str) -> Machine:
        """Returns the machine of that name.

        Raises:
            ConfigError: the file has no such machine.
        """
        return _named("machine", name, {machine.name: machine for machine in reversed(self.machine)})


def _named(kind: str, name: str, entries: dict[str, T]) -> T:
    if name not in entries:
        known = ", ".join(reversed(entries)) or "none"
        raise ConfigError(f"the price table has no {kind} {name!r}: choose among {known}, or add it")
    return entries[name]


def load(path: Path | None = None) -> PriceTable:
    """Reads a price table; without a path the one that comes with the package.

    Raises:
        ConfigError: the file cannot be read, or is not valid.
    """
    file = path or _shipped()
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--prices {file} cannot be read: {error.strerror}: check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prices {file} is not TOML: {error}: see configs/{FILE}") from error
    try:
        return PriceTable.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"--prices {file}: {place}: {first['msg']}: see configs/{FILE}") from error


def _shipped() -> Path:
    """Returns the file in the installed package, or in ``configs/`` of the clone."""
    installed = Path(__file__).parents[2] / FILE
    return installed if installed.exists() else Path(__file__).parents[4] / "configs" / FILE
