"""The reference page is what the declarations say."""

from __future__ import annotations

from pathlib import Path

import vecfill
from vecfill.cli.reference import reference_page
from vecfill.config.doctor import DoctorOptions
from vecfill.config.migrate import IndexOptions, LockOptions, MigrateOptions, SwapOptions
from vecfill.config.plan import PlanOptions
from vecfill.config.retry import RetryOptions
from vecfill.config.settings import OPTIONS, OUTPUT
from vecfill.config.status import StatusOptions
from vecfill.config.track import TrackOptions
from vecfill.config.verify import VerifyOptions
from vecfill.config.watch import WatchOptions

VERB = {
    PlanOptions: "plan",
    VerifyOptions: "verify",
    TrackOptions: "track",
    RetryOptions: "retry",
    StatusOptions: "status",
    DoctorOptions: "doctor",
    WatchOptions: "watch",
    MigrateOptions: "migrate start",
    LockOptions: "migrate start",
    IndexOptions: "migrate run",
    SwapOptions: "migrate rollback",
}
"""A verb that takes the options of a spec, if `run` does not."""

PAGE = Path(vecfill.__file__).parents[2] / "docs" / "reference.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference_page(), "run scripts/reference"


def test_every_option_has_its_row():
    rows = [line for line in reference_page().splitlines() if line.startswith("| `-")]
    for option in (*OPTIONS.values(), *OUTPUT.values()):
        (row,) = [row for row in rows if f"| `{option.variable}` | `{option.name}` |" in row]
        assert option.flag in row
        assert option.bounds in row
        assert option.info.description.replace("|", "\\|") in row
        assert f"`{VERB.get(option.spec, 'run')}`" in row


def test_verbs_are_those_that_take_the_option():
    row = next(line for line in reference_page().splitlines() if "`--limit N`" in line)
    assert "`search`" not in row  # whose own --limit is another
