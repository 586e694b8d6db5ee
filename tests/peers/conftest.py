"""Files that import the other libraries are no place to look for doctests where these are not installed."""

from importlib.util import find_spec

_MISSING = [name for name in ("lightly", "pytorch_metric_learning") if find_spec(name) is None]
collect_ignore = ["subjects.py", "findings.py"] if _MISSING else []
