"""Running one loss on many examples in several processes, and in this one: what each of them reports."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from contrastive_ops.testing._evaluate import Inputs, Loss, backward, fresh, in_short, scalar
from contrastive_ops.testing._processes import run_distributed
from contrastive_ops.testing._violation import Broken

Result: TypeAlias = tuple[Tensor, list[Tensor], list[Tensor]]  # value, gradients of arguments, of parameters


@dataclass(frozen=True)
class Case:
    """Inputs, and how many rows each rank has of them."""

    inputs: tuple[Tensor, ...]
    sizes: tuple[int, ...]

    @property
    def even(self) -> bool:
        return len(set(self.sizes)) == 1


def alone(loss: Loss, case: Case) -> Result | str:
    """What one process with all rows reports, or its error."""
    try:
        return _result(loss, case.inputs)
    except Exception as error:
        return _reason(error)


def together(
    loss: Loss, cases: Sequence[Case], world_size: int, shared: Sequence[int], timeout: float
) -> list[list[Result] | str]:
    """For each case the results of all ranks, or why there are none; nothing runs after a case without."""
    with tempfile.TemporaryDirectory(prefix="world-", ignore_cleanup_errors=True) as folder:
        reason = "no answer"
        try:
            run_distributed(run_cases, world_size, folder, loss, list(cases), tuple(shared), timeout=timeout)
        except TimeoutError:
            reason = f"no answer after {timeout:g} s: a rank waits for another"
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
        return [_collected(Path(folder), index, world_size, reason) for index in range(len(cases))]


def _collected(folder: Path, index: int, world_size: int, reason: str) -> list[Result] | str:
    answers: dict[int, Result | str] = {}
    for rank in range(world_size):
        file = folder / f"{index}-{rank}"
        answers[rank] = torch.load(file) if file.exists() else reason
    failed = {rank: answer for rank, answer in answers.items() if isinstance(answer, str)}
    # the error of a rank says more than that another one was waiting for it
    for rank, answer in sorted(failed.items(), key=lambda item: item[1] == reason):
        return f"{answer} (on rank {rank})"
    return [answer for answer in answers.values() if not isinstance(answer, str)]


def run_cases(rank: int, folder: str, loss: Loss, cases: list[Case], shared: tuple[int, ...]) -> None:
    """What each process does; every answer is a file, so that a crash does not take the earlier ones along."""
    for index, case in enumerate(cases):
        first = sum(case.sizes[:rank])
        mine = [x if i in shared else x[first : first + case.sizes[rank]] for i, x in enumerate(case.inputs)]
        file = Path(folder, f"{index}-{rank}")
        try:
            _store(_result(loss, mine), file)
        except Exception as error:
            _store(_reason(error), file)
            raise


def _reason(error: Exception) -> str:
    return f"{error.observed}" if isinstance(error, Broken) else in_short(error)


def _store(answer: Result | str, file: Path) -> None:
    part = file.with_suffix(".part")
    torch.save(answer, part)
    part.rename(file)


def _result(loss: Loss, inputs: Inputs) -> Result:
    called = fresh(loss)
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    value = scalar(called(*leaves), inputs)
    floating = [x for x in leaves if x.requires_grad]
    parameters = [p for p in called.parameters() if p.requires_grad] if isinstance(called, nn.Module) else []
    found = backward(value, [*floating, *parameters])
    return value.detach(), found[: len(floating)], found[len(floating) :]
