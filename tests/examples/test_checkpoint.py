"""Checkpoints: what is restored, and what happens to files that a crash or a disk has damaged."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from _runtime import checkpoint
from torch import nn

RUN = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"), is_main=True)
LOG = SimpleNamespace(seconds=1.5, flush=lambda: None)


def holder(folder: Path, *, seed: int = 0) -> tuple[checkpoint.Checkpoints, nn.Module]:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    config = SimpleNamespace(out=folder, checkpoint_steps=2)
    generator = checkpoint.seeded_generator(seed, RUN)
    return checkpoint.Checkpoints(config, RUN, {"net": net, "optimizer": optimizer, "none": None}, generator), net


def saved(folder: Path, steps: int) -> list[Path]:
    checkpoints, _ = holder(folder)
    for step in range(1, steps + 1):
        checkpoints.save(step, LOG)
    return sorted((folder / "checkpoints").glob("*.pt"))


def test_everything_is_restored(tmp_path: Path):
    before, net = holder(tmp_path)
    torch.rand(3, generator=before.generator)
    before.save(7, LOG)
    drawn = torch.rand(4), torch.rand(4, generator=before.generator)
    after, other = holder(tmp_path, seed=1)
    assert after.resume() == (7, 1.5)
    assert torch.equal(net.weight, other.weight)
    assert torch.equal(torch.rand(4), drawn[0])
    assert torch.equal(torch.rand(4, generator=after.generator), drawn[1])


def test_nothing_to_resume(tmp_path: Path):
    assert holder(tmp_path)[0].resume() == (0, 0.0)


def test_the_newest_two_stay(tmp_path: Path):
    assert [path.name[:14] for path in saved(tmp_path, 4)] == ["step-000000003", "step-000000004"]


def test_saves_now_and_then(tmp_path: Path):
    checkpoints, _ = holder(tmp_path)
    for step in range(1, 6):
        checkpoints.save_now_and_then(step, LOG)
    assert [int(path.name[5:14]) for path in sorted((tmp_path / "checkpoints").iterdir())] == [2, 4]


@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty"])
def test_a_damaged_checkpoint_is_named_and_skipped(tmp_path: Path, capsys, damage: str):
    newest = saved(tmp_path, 2)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut off": content[: len(content) // 2], "one bit": content, "empty": b""}[damage])
    assert holder(tmp_path)[0].resume() == (1, 1.5)
    assert f"damaged checkpoint skipped: {newest}" in capsys.readouterr().err


def test_what_a_crash_left_half_written_is_ignored(tmp_path: Path):
    saved(tmp_path, 1)
    (tmp_path / "checkpoints" / "unfinished.tmp").write_bytes(b"half")
    assert holder(tmp_path)[0].resume() == (1, 1.5)


def test_other_parts_are_named(tmp_path: Path):
    saved(tmp_path, 1)
    checkpoints, _ = holder(tmp_path)
    checkpoints.parts["averaged"] = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"differ in \['averaged'\]"):
        checkpoints.resume()


def test_the_states_of_other_ranks_do_not_hinder_a_smaller_world(tmp_path: Path):
    checkpoints, _ = holder(tmp_path)
    random = [checkpoint.random_state(checkpoints.generator, RUN.device)] * 3
    parts = {name: part.state_dict() for name, part in checkpoints.parts.items()}
    checkpoint.write({"step": 5, "seconds": 0.0, "random": random, "parts": parts}, checkpoints.folder, 5)
    assert holder(tmp_path)[0].resume() == (5, 0.0)
