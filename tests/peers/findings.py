"""Run the laws on other libraries and write down what holds: `python -m tests.peers` prints the table of the page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from contrastive_ops.testing import BrokenLaws, check_holder, check_loss
from tests.peers.subjects import SUBJECTS, Subject

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
LIBRARIES = ("lightly", "pytorch-metric-learning", "torch")
TIMEOUT = 60.0


@dataclass(frozen=True)
class Finding:
    """Which laws one subject breaks, with the report that shows it."""

    subject: Subject
    broken: tuple[str, ...]
    report: str

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(law.__name__ for law in self.subject.laws if law.__name__ not in self.broken)

    def row(self) -> str:
        cells = (f"`{self.subject.name}`", _names(self.kept), _names(self.broken), self.subject.remark)
        return f"| {' | '.join(cells)} |"


def find(subject: Subject) -> Finding:
    """Hold one subject to its laws."""
    try:
        if subject.update is None:
            check_loss(subject.make(), inputs=subject.inputs, laws=subject.laws, timeout=TIMEOUT)
        else:
            check_holder(
                subject.make, update=subject.update, read=subject.read, dim=3 if subject.read is None else 2,
                max_rows=subject.max_rows, laws=subject.laws, timeout=TIMEOUT,
            )  # fmt: skip
    except BrokenLaws as report:
        return Finding(subject, tuple(violation.law for violation in report.violations), str(report))
    return Finding(subject, (), "")


def installed() -> dict[str, str]:
    """The versions that decide what is found."""
    return {library: version(library) for library in LIBRARIES}


def table(findings: list[Finding]) -> str:
    """The page's table, a heading for each library."""
    lines: list[str] = []
    for library in dict.fromkeys(finding.subject.package for finding in findings):
        lines += [f"## {library} {version(library)}", "", "| what | keeps | breaks | remark |", "|---|---|---|---|"]
        lines += [finding.row() for finding in findings if finding.subject.package == library] + [""]
    return "\n".join(lines)


def recorded() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """What the page says: versions, and the broken laws by subject."""
    text = PAGE.read_text(encoding="utf-8")
    versions = dict(re.findall(r"^- (\S+) (\S+)$", text, flags=re.MULTILINE))
    rows = re.findall(r"^\| `(.+?)` \| .*? \| (.*?) \| .*? \|$", text, flags=re.MULTILINE)
    return versions, {name: tuple(re.findall(r"`(\w+)`", broken)) for name, broken in rows}


def findings() -> list[Finding]:
    """All subjects, one after another."""
    return [find(subject) for subject in SUBJECTS]


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
