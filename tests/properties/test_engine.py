"""What the engine does, in facts that no load on the machine can blur: its products, and the largest tensor it makes.

A product of all rows and all columns is the unit: N M D multiplications.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import contrastive_ops as co

ROWS, WIDTH, BLOCK = 256, 8, 64  # four blocks in each direction
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "addmm_": (1, 2), "baddbmm": (1, 2)}


class _Counting(TorchDispatchMode):
    """Multiplications of matrix products, and elements of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.multiplications, self.largest = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        assert "mm" not in name or name in PRODUCTS, name  # no product goes uncounted
        if name in PRODUCTS:
            left, right = (args[i] for i in PRODUCTS[name])
            self.multiplications += left.numel() * right.shape[-1]
        for x in result if isinstance(result, (tuple, list)) else (result,):
            self.largest = max(self.largest, x.numel() if isinstance(x, Tensor) else 0)
        return result


def _leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def _pass(call: Callable[[], Tensor]) -> tuple[_Counting, _Counting]:
    forward, backward = _Counting(), _Counting()
    with forward:
        value = call()
    with backward:
        value.backward()
    return forward, backward


def _nt_xent(**options: Any) -> Tensor:
    return co.nt_xent(_leaf(ROWS // 2, WIDTH), _leaf(ROWS // 2, WIDTH), **options)


def _clip(**options: Any) -> Tensor:
    return co.clip_loss(_leaf(ROWS, WIDTH), _leaf(ROWS, WIDTH), 10.0, **options)


def _cmc(**options: Any) -> Tensor:
    return co.cmc_loss([_leaf(ROWS, WIDTH) for _ in range(3)], **options)


def _in_batch(**options: Any) -> Tensor:
    return co.info_nce(_leaf(ROWS, WIDTH), _leaf(ROWS, WIDTH), **options)


def _both(**options: Any) -> Tensor:
    return _in_batch(symmetric=True, **options)


def _towards_constants(**options: Any) -> Tensor:
    return co.info_nce(_leaf(ROWS, WIDTH), _leaf(ROWS, WIDTH).detach(), **options)


def _queue(**options: Any) -> Tensor:
    keys = _leaf(ROWS, WIDTH).detach()
    return co.info_nce(_leaf(ROWS, WIDTH), keys, keys, normalize=False, **options)


def _spread(**options: Any) -> Tensor:
    return co.spread_loss(_leaf(ROWS // 2, WIDTH), _leaf(ROWS // 2, WIDTH), **options)


TRIANGLE = 10 / 16  # tiles on and above the diagonal, of four by four
# products forward and backward, in blocks and below one block
CASES = {
    "nt_xent": (_nt_xent, (TRIANGLE, TRIANGLE + 1), (2, 0)),
    "clip_loss": (_clip, (1, 3), (3, 0)),
    "cmc_loss": (_cmc, (3, 9), (9, 0)),
    "info_nce": (_in_batch, (2, 2), (3, 0)),
    "info_nce symmetric": (_both, (1, 3), (3, 0)),
    "info_nce constant keys": (_towards_constants, (2, 0), (3, 0)),
    "info_nce queue": (_queue, (2, 0), (2, 0)),
    "spread_loss": (_spread, (4, 0), (2, 0)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("hot", [False, True], ids=["plain", "running maximum"])
def test_products(name: str, hot: bool) -> None:
    """Neither the running maximum nor the block size costs a product."""
    call, in_blocks, _ = CASES[name]
    with patch.dict("contrastive_ops.kernels._blocks._SAFE", {torch.float32: 0.0 if hot else 60.0}):
        passes = _pass(lambda: call(block_size=BLOCK))
    assert tuple(one.multiplications / (ROWS * ROWS * WIDTH) for one in passes) == in_blocks
    # nothing of the matrix's size, in any direction of any pass: blocks, and rows for all three views of CMC
    assert max(one.largest for one in passes) <= max(ROWS * BLOCK, 3 * ROWS * WIDTH) < ROWS * ROWS


@pytest.mark.parametrize("name", CASES)
def test_products_below_one_block(name: str) -> None:
    """The gradient is made while the exponentials are there: no product is made again."""
    call, _, kept = CASES[name]
    passes = _pass(call)
    assert tuple(one.multiplications / (ROWS * ROWS * WIDTH) for one in passes) == kept
    assert max(one.largest for one in passes) <= ROWS * ROWS


@pytest.mark.parametrize("pairs", [1024, 2048])
def test_blocks_do_not_grow_with_the_batch(pairs: int) -> None:
    """The size that the engine chooses itself: a share of each thread's cache, 4 MiB of float32 at the most."""
    z1, z2 = _leaf(pairs, 4), _leaf(pairs, 4)
    for call in (
        lambda: co.nt_xent(z1, z2),
        lambda: co.clip_loss(z1, z2, 10.0),
        lambda: co.info_nce(z1, z2),
        lambda: co.spread_loss(z1, z2),
    ):
        forward, backward = _pass(call)
        assert max(forward.largest, backward.largest) <= min(torch.get_num_threads(), 4) * 2**18


@pytest.mark.parametrize("masked", [False, True])
def test_a_queue_is_normalised_in_parts(masked: bool) -> None:
    """The same as of a queue normalised before, and without a copy of it; a part may have all its keys dropped."""
    query, key, queue = _leaf(80, 4), _leaf(80, 4).detach(), 3 * _leaf(600, 4).detach()
    mask = torch.zeros(80, 600, dtype=torch.bool)
    mask[0], mask[1, :300] = True, True
    results = []
    with patch("contrastive_ops.kernels._contrast._PART", 100), patch("contrastive_ops.kernels._blocks._CACHE", 8000):
        for keys in (queue, torch.nn.functional.normalize(queue, dim=1).requires_grad_()):
            forward, backward = _pass(lambda k=keys: co.info_nce(query, key, k, mask=mask if masked else None))
            assert query.grad is not None
            results.append((query.grad, forward, backward))
            query.grad = None
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-7)
    assert (results[0][0][0] == 0).all() == masked
    assert results[0][1].multiplications == 2 * 80 * 600 * 4
    assert results[0][2].multiplications == 0
    assert results[1][2].multiplications == 2 * 80 * 600 * 4  # trainable keys: made again, and their gradient


# of two views and what divides or multiplies their products
ONE_BLOCK: dict[str, Callable[..., Tensor]] = {
    "nt_xent": lambda a, b, t, **o: co.nt_xent(a, b, temperature=t, **o),
    "clip_loss": co.clip_loss,
    "info_nce": lambda a, b, t, **o: co.info_nce(a, b, temperature=t, **o),
    "info_nce symmetric": lambda a, b, t, **o: co.info_nce(a, b, temperature=t, symmetric=True, **o),
    "spread_loss": lambda a, b, t, **o: co.spread_loss(a, b, temperature=t, **o),
}


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ONE_BLOCK)
def test_each_rows_gradient(name: str, normalize: bool, shifted: bool) -> None:
    """Of losses that stay apart, one row's at a time: together they are the gradient of the sum."""
    leaves = [x.detach().double().requires_grad_() for x in (_leaf(6, 3), _leaf(6, 3).flip(0), torch.tensor(0.7))]
    with patch.dict("contrastive_ops.kernels._dense._SAFE", {torch.float64: 0.0 if shifted else 300.0}):
        each = ONE_BLOCK[name](*leaves, normalize=normalize, reduction="none")
        rows = [torch.autograd.grad(row, leaves, retain_graph=True) for row in each]
        for reduction, share in (("sum", 1.0), ("mean", 1 / len(each))):
            value = ONE_BLOCK[name](*leaves, normalize=normalize, reduction=reduction)
            for _ in range(2):  # the second time from the same graph
                together = torch.autograd.grad(3 * value, leaves, retain_graph=True)
                for whole, *parts in zip(together, *rows, strict=True):
                    torch.testing.assert_close(whole, 3 * share * torch.stack(parts).sum(0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ONE_BLOCK)
def test_kept_streamed_and_shifted_are_one_function(name: str, normalize: bool) -> None:
    """Below one block and in blocks, with and without a maximum: the same value and gradient, in float64."""
    results = []
    for limit in (1e9, 0.0):
        for block in (None, 5):
            leaves = [x.detach().double().requires_grad_() for x in (_leaf(12, 3), _leaf(12, 3).flip(0))]
            limits = {torch.float64: limit}
            with (
                patch.dict("contrastive_ops.kernels._blocks._SAFE", limits),
                patch.dict("contrastive_ops.kernels._dense._SAFE", limits),
            ):
                value = ONE_BLOCK[name](*leaves, 0.3, normalize=normalize, block_size=block)
                results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
