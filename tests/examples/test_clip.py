"""CLIP's words and text transformer, zero-shot classification and its picture, the clamp of the scale."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import clip
import pytest
import torch
import torch.nn.functional as F
from _runtime import CommonConfig, Evaluation, Run, TextTransformer, WordTokenizer, ZeroShot
from _runtime import caption_files as files
from _runtime import captions as written
from _runtime.config import parse
from _runtime.data import MemoryImages
from _runtime.launch import launch
from _runtime.zero_shot import draw_similarities
from PIL import Image
from torch import Tensor, nn

from tests.examples.test_data import write_cifar

ALONE = Run(0, 0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- words and the text transformer


def test_words_become_tokens_and_the_end_is_the_largest():
    tokenizer = WordTokenizer(["a red Two,", "a two"], context=6, limit=9)
    tokens = tokenizer(["A two, red", "a a a a a a", ""])
    number = tokenizer.number
    assert len(tokenizer) == 3 + 4 + 1 and tokenizer.end == 7
    assert tokens.tolist() == [
        [1, number["a"], number["two"], number[","], number["red"], 7],
        [1, *[number["a"]] * 4, 7],
        [1, 7, 0, 0, 0, 0],
    ]
    assert tokenizer(["a blue"]).tolist() == [[1, number["a"], 2, 7]]
    assert tokenizer.unknown(["a blue two"]) == ["blue"]
    assert set(WordTokenizer(["b a", "b", "c c c"], context=6, limit=2).number) == {"b", "c"}
    with pytest.raises(ValueError, match="--context: expected at least 3 .* got 2"):
        WordTokenizer([], context=2, limit=9)


def tower(width: int = 64, layers: int = 2) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(20, 10, width, layers, 8)


def test_text_features_are_those_of_the_end_and_see_no_padding():
    net = tower().double()
    short, padded, other = (torch.tensor([t]) for t in ([1, 5, 6, 19], [1, 5, 6, 19, 0, 0], [1, 5, 7, 19, 0, 0]))
    assert torch.allclose(net(short), net(padded), atol=1e-12)
    assert not torch.allclose(net(short), net(other), atol=1e-3)
    gradient = torch.autograd.grad(net(torch.tensor([[1, 5, 19, 7, 8]])).sum(), net.embedding.weight)[0]
    assert gradient[[1, 5, 19]].abs().amin(1).gt(0).all() and not gradient[[7, 8]].any()


def test_order_of_words_matters():
    net = tower()
    assert not torch.allclose(net(torch.tensor([[1, 5, 6, 19]])), net(torch.tensor([[1, 6, 5, 19]])), atol=1e-3)


def test_a_block_is_causal_attention_as_torch_has_it():
    """Against torch's own pre-norm layer with the same weights and a causal mask."""
    block = tower(width=128).blocks[0]
    layer = nn.TransformerEncoderLayer(128, 2, 512, 0.0, F.gelu, batch_first=True, norm_first=True)
    own = {
        "self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.mix, "linear1.": block.rise,
        "linear2.": block.fall, "norm1.": block.norm1, "norm2.": block.norm2,
    }  # fmt: skip
    layer.load_state_dict({name + part: value for name, m in own.items() for part, value in m.state_dict().items()})
    x = torch.randn(3, 7, 128)
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    assert torch.allclose(block(x), layer(x, src_mask=mask), atol=1e-5)


def test_initialisation_is_clips():
    net = TextTransformer(2000, 77, 256, 8, 128)
    block = net.blocks[0]
    for weight, std in (
        (net.embedding.weight, 0.02), (net.position, 0.01), (net.projection.weight, 256**-0.5),
        (block.qkv.weight, 256**-0.5), (block.mix.weight, 256**-0.5 / 4), (block.rise.weight, 512**-0.5),
        (block.fall.weight, 256**-0.5 / 4),
    ):  # fmt: skip
        assert weight.std().item() == pytest.approx(std, rel=0.03)
    assert net.projection.bias is None
    with pytest.raises(ValueError, match="--text-width: expected a multiple of 64, .* got 100"):
        TextTransformer(20, 10, 100, 1, 8)


# --- zero-shot


class Known(nn.Module):
    """Texts to given rows: the embedding of a text is that of its last word."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rows[tokens.gather(1, tokens.argmax(1, keepdim=True) - 1).squeeze(1)]


class MeanColour(nn.Module):
    """Images to their mean colour, before ImageNet's normalisation."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * torch.tensor((0.229, 0.224, 0.225)) + torch.tensor((0.485, 0.456, 0.406))


def colours() -> tuple[SimpleNamespace, ZeroShot]:
    """Three classes of red, green and blue images, and two towers that know them."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    images = MemoryImages((torch.eye(3)[labels] * 255).to(torch.uint8)[:, :, None, None].expand(-1, 3, 4, 4), labels)
    evaluation = Evaluation(images, images, CommonConfig(image_size=4), ALONE)
    writer = written.TemplateWriter(("see {name}",), [{"name": n} for n in ("red", "green", "blue")], by_class=True)
    captions = written.Captions(writer, writer, ("red", "green", "blue"), ("{}", "look, {}", "not {} rubbish"), 0)
    tokenizer = WordTokenizer(writer.texts(), context=8, limit=99)
    rows = torch.zeros(len(tokenizer), 3)
    for i, name in enumerate(("red", "green", "blue")):
        rows[tokenizer.number[name]] = torch.eye(3)[i]
    rows[2] = torch.tensor([100.0, 0, 0])  # the third prompt of every class: red, and long
    return SimpleNamespace(images=MeanColour(), text=Known(rows)), ZeroShot(captions, tokenizer, evaluation)


def test_zero_shot_takes_the_mean_of_normalised_prompts():
    """Two prompts of three are right; were they not normalised first, the third would make all classes red."""
    net, zero_shot = colours()
    assert zero_shot.accuracy(net) == {"zero_shot": 1.0}
    net.text.rows = net.text.rows.roll(1, dims=1)  # red is called green, green blue, blue red
    assert zero_shot.accuracy(net) == {"zero_shot": 0.0}


def test_words_of_classes_that_no_caption_has_are_named(capsys: pytest.CaptureFixture[str]):
    evaluation = SimpleNamespace(run=ALONE)
    writer = files.GivenCaptions([["a cat"]])
    ZeroShot(
        written.Captions(writer, writer, ["cat", "dog"], ("a {}",), 0),
        WordTokenizer(["a cat"], context=8, limit=9),
        evaluation,
    )
    assert capsys.readouterr().err == "no training caption has these words of the classes' names: dog\n"


def test_the_picture_shows_images_beside_their_own_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    net, zero_shot = colours()
    seen = {}

    def keep(path: Path, images: Tensor, captions: list[str], cosines: Tensor) -> None:
        seen.update(captions=captions, cosines=cosines)
        draw_similarities(path, images, captions, cosines)

    monkeypatch.setattr(sys.modules["_runtime.zero_shot"], "draw_similarities", keep)
    zero_shot.save_picture(tmp_path / "similarities.png", net)
    assert seen["captions"] == [f"see {n}" for n in ("red", "green", "blue", "red", "green", "blue", "red", "red")]
    assert torch.equal(seen["cosines"].argmax(1)[:3], torch.arange(3))
    with Image.open(tmp_path / "similarities.png") as picture:
        assert picture.width > picture.height > 400


# --- the trainer


def test_the_scale_is_clamped_after_each_step_and_decays_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A learning rate that would carry ln s far beyond ln 100, and decay that would shrink it."""
    made = {}

    def keep(net: nn.Module, *args, **kwargs) -> torch.optim.Optimizer:
        made["net"], made["optimizer"] = net, create(net, *args, **kwargs)
        return made["optimizer"]

    create = clip.create_optimizer_v2
    monkeypatch.setattr(clip, "create_optimizer_v2", keep)
    flags = ["--data", f"cifar10:{write_cifar(tmp_path, 5)[0]}", "--out", str(tmp_path / "run"), "--batch-size", "12"]
    flags += ["--epochs", "1", "--max-steps", "2", "--lr", "9", "--warmup", "0", "--workers", "0", "--device", "cpu"]
    launch(clip.main, parse("clip", clip.PRESETS, flags))
    scale = made["net"].log_scale
    assert scale.item() in (0.0, pytest.approx(math.log(100)))
    decayed = {id(p) for g in made["optimizer"].param_groups if g["weight_decay"] > 0 for p in g["params"]}
    names = {name for name, p in made["net"].named_parameters() if id(p) not in decayed}
    assert "log_scale" in names and {n for n in names if n.startswith("text.")} >= {
        "text.norm.weight",
        "text.norm.bias",
    }
    assert all(p.ndim < 2 for name, p in made["net"].named_parameters() if name in names)
    assert all(p.ndim > 1 for p in made["net"].parameters() if id(p) in decayed)
