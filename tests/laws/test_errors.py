"""Law 7: bad input is named, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.table import TABLE

_BAD = [pytest.param(*case, id=f"{row.name}-{i}-{case[1]}") for row in TABLE for i, case in enumerate(row.bad)]


@pytest.mark.parametrize(("call", "argument"), _BAD)
def test_bad_input_is_named(call: Callable[[], object], argument: str) -> None:
    """A ValueError or TypeError that names the argument and says what was expected."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(rf"\b{argument}\b", message.split(":", maxsplit=1)[0]), message
    assert "expected" in message, message
