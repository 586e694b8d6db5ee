"""Where fake tensors of a GPU can be made without one."""

from __future__ import annotations

import pytest
import torch

fake_gpu = pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="torch 2.6 asks the driver for the device of a fake tensor"
)
