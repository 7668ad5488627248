"""What a check finds, and what all checks of a target find together."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vecfill.diagnosis.meanings import MEANINGS

Severity = Literal["problem", "advice", "ok", "unknown"]

SEVERITIES: tuple[Severity, ...] = ("problem", "advice", "unknown", "ok")
"""In the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    Attributes:
        name: of the kind of finding; docs/doctor.md explains each.
        severity: ``problem`` if vectors are missing, wrong or about to be, or a run would not start; ``advice`` if
            something costs more than it must; ``ok``; ``unknown`` if the check could not be made.
        what: what was seen, with names and figures; of an unknown one, why it was not checked.
        remedy: SQL statements (they end with a semicolon) or commands that mend it, in order.
    """

    name: str
    severity: Severity
    what: str
    remedy: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """Why it matters."""
        return MEANINGS[self.name]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "why": self.why, "remedy": list(self.remedy)}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The health of a target.

    Attributes:
        table: ``schema.table``.
        column: the embedding column.
        findings: the worst first.
    """

    table: str
    column: str
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 if there is a problem, else 0."""
        return int(any(one.severity == "problem" for one in self.findings))

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = Counter(one.severity for one in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "table": self.table,
            "column": self.column,
            "exit_code": self.exit_code,
            "counts": self.counts,
            "findings": [one.as_dict() for one in self.findings],
        }


def problem(name: str, what: str, *remedy: str) -> Finding:
    """Returns something that harms now."""
    return Finding(name=name, severity="problem", what=what, remedy=remedy)


def advice(name: str, what: str, *remedy: str) -> Finding:
    """Returns something that costs more than it must."""
    return Finding(name=name, severity="advice", what=what, remedy=remedy)


def ok(name: str, what: str) -> Finding:
    """Returns something that was checked and is as it should be."""
    return Finding(name=name, severity="ok", what=what)


def unknown(name: str, why: str, *remedy: str) -> Finding:
    """Returns something that could not be checked."""
    return Finding(name=name, severity="unknown", what=why, remedy=remedy)
