"""What embedding APIs and machines cost, and what APIs let through: ``configs/api-prices.toml``, dated and sourced."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vecfill.config.api import DEFAULT_HOST
from vecfill.errors import ConfigError

FILE = "api-prices.toml"

STALE_DAYS = 90
"""An entry that is older is used, with a warning."""

MILLION = 1_000_000

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    """What every entry tells: where it is from, and when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    dated: date

    def age_days(self, today: date | None = None) -> int:
        """Days since the entry was dated."""
        return ((today or datetime.now(UTC).date()) - self.dated).days

    def stale(self, today: date | None = None) -> bool:
        """Whether it is older than ``STALE_DAYS``."""
        return self.age_days(today) > STALE_DAYS


class Tier(BaseModel):
    """What an account of this tier may send in a minute; None where it is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rpm: int | None = Field(None, gt=0)
    tpm: int | None = Field(None, gt=0)


class Price(_Entry):
    """A model of an API: prices in USD a million tokens, None where not known, and limits."""

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
        """USD for so many tokens; None where the price is not known."""
        price = self.usd_per_million_tokens
        return None if price is None else price * tokens / MILLION

    def batch_cost(self, tokens: float) -> float | None:
        """USD for so many tokens through the batch API; None where there is none, or its price is not known."""
        price = self.batch_usd_per_million_tokens
        return None if price is None else price * tokens / MILLION

    def remarks(self, today: date | None = None) -> list[str]:
        """What must be said wherever this price is used: that it is old, not known, or zero."""
        found = []
        if self.stale(today):
            found.append(
                f"the price of {self.label} is {self.age_days(today)} days old ({self.dated}), over {STALE_DAYS}: "
                f"check {self.source} and give a corrected file as --prices"
            )
        if self.usd_per_million_tokens is None:
            found.append(f"the price of {self.label} is not known: what it costs cannot be told")
        elif self.usd_per_million_tokens == 0:
            found.append(f"the price of {self.label} is zero: it counts as free")
        return found


class Machine(_Entry):
    """A machine: its rent in USD an hour, and what it draws in watts where power is paid beside the rent."""

    name: str
    about: str = ""
    usd_per_hour: Usd
    watts: Usd = 0.0


class Power(_Entry):
    """What a kilowatt hour costs."""

    usd_per_kwh: Usd


class PriceTable(BaseModel):
    """The file, read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: tuple[Price, ...] = ()
    machine: tuple[Machine, ...] = ()
    power: Power | None = None

    def find(self, model: str, base_url: str | None = None) -> Price | None:
        """The entry of an API's model; None where the file has none for that host, such as a server of your own.

        Args:
            model: as the API calls it, such as ``text-embedding-3-small``.
            base_url: the endpoint; None is OpenAI's.
        """
        host = urlsplit(base_url).hostname if base_url else DEFAULT_HOST
        return next((price for price in self.api if price.model == model and price.host == host), None)

    def named(self, model: str) -> Price:
        """The entry of a model, whatever its host: to reckon with another's price.

        Raises:
            ConfigError: the file has none of that name.
        """
        found = next((price for price in self.api if price.model == model), None)
        if found is None:
            known = ", ".join(price.model for price in self.api) or "none"
            raise ConfigError(f"the price table has no model {model!r}: choose among {known}, or add it")
        return found

    def machine_named(self, name: str) -> Machine:
        """The machine of that name.

        Raises:
            ConfigError: the file has none.
        """
        found = next((machine for machine in self.machine if machine.name == name), None)
        if found is None:
            known = ", ".join(machine.name for machine in self.machine) or "none"
            raise ConfigError(f"the price table has no machine {name!r}: choose among {known}, or add it")
        return found


def load(path: Path | None = None) -> PriceTable:
    """Reads a price table; without a path the one that comes along.

    Raises:
        ConfigError: the file cannot be read, or says what it may not.
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
    """Inside the installed package, or in ``configs/`` of the clone."""
    installed = Path(__file__).parents[2] / FILE
    return installed if installed.exists() else Path(__file__).parents[4] / "configs" / FILE
