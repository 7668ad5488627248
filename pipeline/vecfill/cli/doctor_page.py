"""What ``vecfill doctor`` shows to people: problems and advice in full, the rest in a line each."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.text import Text

from vecfill.diagnosis.finding import SEVERITIES, Diagnosis, Finding, Severity
from vecfill.wording import count_of

STYLES: dict[Severity, str] = {"problem": "bold red", "advice": "bold yellow", "unknown": "magenta", "ok": "green"}


def doctor_page(found: Diagnosis) -> Group:
    """Returns the page of a target."""
    counts = ", ".join(_count_of(severity, found.counts[severity]) for severity in SEVERITIES)
    return Group(Text(f"{found.table}.{found.column}: {counts}", style="bold"), *_lines(found))


def _lines(found: Diagnosis) -> Iterator[Text]:
    for one in found.findings:
        if one.severity in ("problem", "advice"):
            yield from _full(one)
    rest = [one for one in found.findings if one.severity not in ("problem", "advice")]
    yield from [Text("")] if rest else []
    for one in rest:
        label = "not checked" if one.severity == "unknown" else one.severity
        yield Text.assemble((f"{label:<12}", STYLES[one.severity]), f"{one.name}: {one.what}")
        yield from _remedy(one)


def _full(one: Finding) -> Iterator[Text]:
    yield Text("")
    yield Text.assemble((f"{one.severity.upper()}  {one.name}", STYLES[one.severity]))
    yield Text(f"  {one.what}")
    yield Text(f"  why: {one.why}", style="dim")
    yield from _remedy(one)


def _remedy(one: Finding) -> Iterator[Text]:
    for line in one.remedy:
        yield Text(f"    {line}", style="cyan")


def _count_of(severity: Severity, count: int) -> str:
    if severity == "problem":
        return count_of(count, severity)
    return f"{count} {'not checked' if severity == 'unknown' else severity}"
