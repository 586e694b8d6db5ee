"""Files that run in processes of their own: pytest, which looks for doctests everywhere, imports them nowhere else."""

from __future__ import annotations

import os

collect_ignore = ["offline.py"] if os.environ.get("TRITON_INTERPRET") == "1" else ["offline.py", "interpreted.py"]
