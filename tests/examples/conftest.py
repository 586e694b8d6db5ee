"""The trainers are scripts, not a package: their folder goes on the path, as when one runs them."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
