"""Print versions, the table of docs/peers.md and, below it, the report behind each row."""

from __future__ import annotations

from datetime import datetime, timezone

from tests.peers.findings import findings, installed, table

if __name__ == "__main__":
    found = findings()
    print(f"Run on {datetime.now(timezone.utc):%Y-%m-%d}.\n")
    print("\n".join(f"- {library} {number}" for library, number in installed().items()), end="\n\n")
    print(table(found))
    for finding in found:
        print(f"<!-- {finding.subject.name}\n{finding.report or 'keeps all'}\n-->\n")
