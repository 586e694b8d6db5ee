"""CMC's modalities and their banks: what the encoders see, what is scored against what, what a run leaves."""

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
import timm
import torch
from _runtime.config import CommonConfig
from _runtime.cross_banks import CrossBanks, chance_of_pairs, directions
from _runtime.data import MemoryImages
from _runtime.evaluate import Evaluation
from _runtime.launch import Run
from _runtime.modalities import MODALITIES, Modalities, create_modalities, gradient, to_lab
from _runtime.models import timm_arguments
from _runtime.optimise import SCHEDULES
from _runtime.trained import load_encoder
from _runtime.views import displayable, plain_view
from torch import Tensor, nn

import contrastive_ops as co

NAMES = ("l", "ab", "gradient")


def test_lab_is_scaled_as_in_the_papers_views():
    images = torch.rand(5, 3, 1, 1).expand(-1, -1, 8, 8)  # of one colour: their crops and flips look alike
    paper = torch.cat(co.cmc_views(images, size=8), dim=1)
    torch.testing.assert_close(to_lab(images), paper, atol=1e-5, rtol=0)


def test_the_gradient_is_that_of_lightness_and_has_no_sign():
    lab = torch.zeros(2, 3, 4, 6)
    lab[0, 0, :, 3:] = 0.5  # an edge between columns 2 and 3, in the other image with its sides exchanged
    lab[1, 0, :, :3] = 0.5
    lab[:, 1:] = torch.rand(2, 2, 4, 6)
    expected = torch.tensor([0, 0, 0.5, 0.5, 0, 0]).expand(2, 1, 4, 6)
    torch.testing.assert_close(gradient(lab), expected)


def test_all_modalities_show_one_view_or_each_its_own():
    encoder, images = create_modalities(NAMES, "tiny"), torch.rand(3, 3, 32, 32)
    for own in (False, True):
        x = encoder.views(images, "digits", size=24, own=own, generator=torch.Generator().manual_seed(0))
        assert [v.shape[1:] for v in x] == [(1, 24, 24), (2, 24, 24), (1, 24, 24)]
        assert torch.equal(gradient(x[0]), x[2]) is not own


def test_the_wrapper_takes_what_other_encoders_take():
    encoder, images = create_modalities(NAMES, "tiny").eval(), torch.rand(2, 3, 32, 32)
    lab = to_lab(images)
    alone = [encoder.encoders[name](MODALITIES[name][1](lab)) for name in NAMES]
    torch.testing.assert_close(encoder(plain_view(images, size=32)), torch.cat(alone, dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("names", [("l",), ("l", "l"), ("l", "depth")])
def test_modalities_that_cannot_be_are_named(names: tuple[str, ...]):
    with pytest.raises(ValueError, match=r"--modalities: expected two or more of l, ab, gradient, got l"):
        create_modalities(names, "tiny")


def test_each_encoder_has_a_file_that_timm_loads_and_the_folder_gives_back_the_wrapper(tmp_path: Path):
    encoder, views = create_modalities(("ab", "l"), "tiny").eval(), torch.randn(2, 3, 32, 32)
    encoder.save(tmp_path)
    (tmp_path / "encoder.safetensors").touch()
    summary = {"modalities": ["ab", "l"], "timm": timm_arguments("tiny")}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    file = tmp_path / "encoder-ab.safetensors"
    colour = timm.create_model(**summary["timm"], in_chans=2, checkpoint_path=str(file)).eval()
    with torch.no_grad():
        torch.testing.assert_close(load_encoder(tmp_path).eval()(views), encoder(views))
        torch.testing.assert_close(colour(torch.ones(1, 2, 32, 32)), encoder.encoders["ab"](torch.ones(1, 2, 32, 32)))


def test_torch_goes_on_compiling_where_encoders_share_their_code(monkeypatch: pytest.MonkeyPatch):
    """Each takes up to four forms: training and evaluation, full and last batches. Torch's own limit is eight."""
    monkeypatch.setattr(torch._dynamo.config, "cache_size_limit", 8)
    create_modalities(NAMES, "tiny", compiled=True)
    assert torch._dynamo.config.cache_size_limit >= 4 * len(NAMES)


class Lightest(nn.Module):
    """Features that tell light images from dark ones, or nothing."""

    num_features = 2

    def __init__(self, *, blind: bool) -> None:
        super().__init__()
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        light = x.mean((1, 2, 3)) * (not self.blind)
        return torch.stack([light, torch.ones_like(light)], dim=1)


def test_knn_of_all_features_and_of_each_modality():
    labels = (torch.arange(100) < 30).long()
    images = MemoryImages((labels * 200).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 8, 8), labels)
    run = Run(0, 0, 1, torch.device("cpu"))
    evaluation = Evaluation(images, images, CommonConfig(image_size=8), run)
    values = Modalities({"l": Lightest(blind=False), "ab": Lightest(blind=True)}).knn(evaluation)
    assert values == {"knn": 1.0, "knn_l": 1.0, "knn_ab": pytest.approx(0.5, abs=0.21)}


@pytest.mark.parametrize("graph", ["core", "full"])
def test_each_modality_is_scored_against_the_banks_of_the_others(graph: str):
    """The paper's formula with logarithms and loops, Z from the first batch."""
    n, batch, k, tau = 20, 3, 5, 0.3
    banks = CrossBanks(n, 4, 3, partition_momentum=1.0).double()
    z = list(nn.functional.normalize(torch.randn(3, batch, 4, dtype=torch.float64), dim=2))
    index, noise = torch.tensor([7, 0, 19]), banks.sample(batch, k)
    pairs = [(a, b) for a, b in combinations(range(3), 2) if graph == "full" or a == 0]
    expected = 0.0
    for a, b in [*pairs, *((b, a) for a, b in pairs)]:
        entries = banks.banks[b].entries
        constant = n * (z[a].unsqueeze(1) * entries[noise] / tau).sum(2).exp().mean()
        for i in range(batch):
            p_own = math.exp(z[a][i] @ entries[index[i]] / tau) / constant
            expected -= math.log(p_own / (p_own + k / n)) / batch
            for j in noise[i]:
                p = math.exp(z[a][i] @ entries[j] / tau) / constant
                expected -= math.log(1 - p / (p + k / n)) / batch
    loss = banks(z, index, noise, temperature=tau, graph=graph)
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)


def test_banks_start_apart_and_are_moved_once_each():
    banks = CrossBanks(6, 4, 2)
    before = [bank.entries.clone() for bank in banks.banks]
    assert not torch.allclose(before[0], before[1])
    z = nn.functional.normalize(torch.randn(2, 1, 4), dim=2)
    banks.update(torch.tensor([2]), z)
    for old, bank, new in zip(before, banks.banks, z, strict=True):
        torch.testing.assert_close(bank.entries[2], nn.functional.normalize((old[2] + new[0]) / 2, dim=0))
        assert torch.equal(bank.entries[3:], old[3:])


def test_the_loss_of_guessing():
    assert [len(directions(count, "core")) for count in (2, 3, 4)] == [2, 4, 6]
    blind = [torch.zeros(8, 4)] * 3
    banks = CrossBanks(50, 4, 3)
    for graph in ("core", "full"):
        softmax = co.cmc_loss(blind, graph=graph)
        nce = banks(blind, torch.arange(8), banks.sample(8, 5), temperature=0.1, graph=graph)
        assert chance_of_pairs(3, graph, rows=8) == pytest.approx(softmax.item(), rel=1e-5)
        assert chance_of_pairs(3, graph, rows=8, noise=5) == pytest.approx(nce.item(), rel=1e-5)


def test_views_of_one_and_of_two_channels_can_be_shown():
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(displayable(plain_view(images, size=4)), images, atol=1e-6, rtol=0)
    for channels in (1, 2):
        shown = displayable(torch.randn(2, channels, 4, 4))
        assert shown.shape == (2, 3, 4, 4)
        assert (shown.min(), shown.max()) == (0, 1)
    grey = displayable(torch.tensor([-1.0, 3.0, 1.0]).view(1, 1, 1, 3))
    assert torch.equal(grey, torch.tensor([0, 1, 0.5]).expand(1, 3, 1, 3))
    assert displayable(torch.ones(1, 1, 2, 2)).isfinite().all()


def test_the_papers_learning_rate_falls_at_epochs_120_160_and_200_of_240():
    rates = [SCHEDULES["sixths"](epoch, 240, 1.0) for epoch in (119, 120, 159, 160, 199, 200)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001])
