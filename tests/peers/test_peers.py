"""What docs/peers.md says of other libraries is what the laws find; `pip install -e ".[testing,peers]"` first."""

from __future__ import annotations

import pytest


@pytest.mark.peers
def test_the_page_says_what_is_found() -> None:
    """A finding is one of versions: with others installed, what differs is told and nothing fails."""
    for library in ("lightly", "pytorch_metric_learning"):
        pytest.importorskip(library, reason=f'{library} is not installed; pip install -e ".[testing,peers]"')
    from tests.peers.findings import findings, installed, recorded

    versions, on_the_page = recorded()
    found = {finding.subject.name: set(finding.broken) for finding in findings()}
    changed = [
        f"{name}: now breaks {sorted(found.get(name, ()))}, on the page {sorted(on_the_page.get(name, ()))}"
        for name in found.keys() | on_the_page.keys()
        if found.get(name) != set(on_the_page.get(name, ()))
    ]
    if versions != installed():
        pytest.skip(f"the page is of {versions}, installed are {installed()}; changed: {changed or 'nothing'}")
    assert changed == []
