"""CLIP's captions and their files, its words and text transformer, zero-shot classification and its picture."""

import json
import math
import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace

import clip
import pytest
import torch
import torch.nn.functional as F
from _runtime import CommonConfig, Evaluation, Run, TextTransformer, WordTokenizer, ZeroShot, digits
from _runtime import caption_files as files
from _runtime import captions as written
from _runtime.config import parse
from _runtime.data import MemoryImages
from _runtime.launch import launch
from _runtime.log import read_metrics
from _runtime.zero_shot import draw_similarities
from PIL import Image
from torch import Tensor, nn

from tests.examples.test_data import write_cifar, write_folder

ALONE = Run(0, 0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def load(data: str, evaluate_on: str = "test"):
    return written.load_captioned(CommonConfig(data=data, evaluate_on=evaluate_on, image_size=14), ALONE)


@pytest.fixture(scope="module")
def rendered() -> digits.Digits:
    return digits.load("validation")


# --- captions of the digits


def test_a_digits_caption_says_what_its_image_was_rendered_with(rendered: digits.Digits):
    facts = written.digit_facts(rendered)
    assert [fact["digit"] for fact in facts] == [written.DIGITS[label] for label in rendered.labels]
    for part, name in (("foreground", "colour"), ("background", "background")):
        for rgb, fact in zip(rendered.attributes[part].tolist(), facts, strict=True):
            distance = {c: math.dist(rgb, value) for c, value in written.COLOURS.items()}
            assert distance[fact[name]] == min(distance.values())
    sizes = {word: [] for word in ("small", "medium", "large")}
    for size, fact in zip(rendered.attributes["size"].tolist(), facts, strict=True):
        sizes[fact["size"]].append(size)
    assert max(sizes["small"]) < min(sizes["medium"]) < max(sizes["medium"]) < min(sizes["large"])


def test_places_are_where_the_strokes_are(rendered: digits.Digits):
    """The centre of what differs from the background, looked for in the pixels, goes with the words' position."""
    painted = (rendered.images.float() / 255 - rendered.attributes["background"][:, :, None, None]).square().sum(1)
    axis = torch.linspace(-1, 1, 32)
    for part, sides in ((0, ("left", "right")), (1, ("top", "bottom"))):
        centre = (painted.sum(1 + part) * axis).sum(1) / painted.sum((1, 2))
        assert torch.corrcoef(torch.stack([centre, rendered.attributes["position"][:, part]]))[0, 1] > 0.8
        places = [set(fact["place"].split()) for fact in written.digit_facts(rendered)]
        low, high = (centre[torch.tensor([side in words for words in places])] for side in sides)
        assert low.mean() < -0.1 and high.mean() > 0.1


def test_captions_hang_on_seed_epoch_and_image_only(rendered: digits.Digits):
    writer = written.TemplateWriter(written.DIGIT_TEMPLATES, written.digit_facts(rendered), by_class=False)
    captions = {s: written.Captions(writer, writer, written.DIGITS, written.DIGIT_PROMPTS, s) for s in (0, 1)}
    index = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    every = captions[0].draw(index, rendered.labels[index], epoch=3)
    assert every == [
        caption
        for part in index.split(150)  # as on three ranks
        for caption in captions[0].draw(part, rendered.labels[part], epoch=3)
    ]
    for other in (
        captions[0].draw(index, rendered.labels[index], epoch=4),
        captions[1].draw(index, rendered.labels[index], epoch=3),
    ):
        assert 0.5 < sum(a != b for a, b in zip(other, every, strict=True)) / 400 < 1
    words = {written.DIGITS[label] for label in rendered.labels}
    for caption, label in zip(every, rendered.labels[index].tolist(), strict=True):
        assert words & set(caption.replace(",", "").split()) <= {written.DIGITS[label]}


def test_the_prompts_are_new_sentences_of_known_words(rendered: digits.Digits):
    facts = written.digit_facts(rendered)
    for templates, prompts, names in (
        (written.DIGIT_TEMPLATES, written.DIGIT_PROMPTS, written.DIGITS),
        (written.CLASS_TEMPLATES, written.CLASS_PROMPTS, written.CIFAR10),
    ):
        listed = facts if names == written.DIGITS else [{"name": name} for name in names]
        writer = written.TemplateWriter(templates, listed, by_class=False)
        asked = written.Captions(writer, writer, names, prompts, 0).ask()
        assert len(asked) == len(names) * len(prompts) and names[1] in asked[len(prompts)]
        assert not set(asked) & set(writer.texts())
        assert WordTokenizer(writer.texts(), context=32, limit=999).unknown(asked) == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a eight", "an eight"),
        ("a one", "a one"),
        ("an red six on a orange image", "a red six on an orange image"),
        ("banana a cat", "banana a cat"),
    ],
)
def test_articles(text: str, right: str):
    assert written.articles(text) == right


# --- captions of classes, and from files


def test_names_of_classes_become_captions(tmp_path: Path):
    train, _, captions = load(f"folder:{write_folder(tmp_path, 10)}")
    assert list(captions.classes) == ["a", "b"]
    batch = next(train.read([torch.tensor([0, len(train) - 1])], run=ALONE, workers=0))
    assert batch.labels.tolist() == [0, 1]
    for epoch in range(5):
        drawn = captions.draw(batch.indices, batch.labels, epoch=epoch)
        assert [text.split()[-1] for text in drawn] == ["a", "b"]
    _, _, captions = load(f"cifar10:{write_cifar(tmp_path, 3)[0]}")
    drawn = captions.draw(torch.tensor([0, 1]), torch.tensor([0, 9]), epoch=0)
    assert "airplane" in drawn[0] and "truck" in drawn[1]


def test_data_without_names_of_classes_is_refused():
    images = MemoryImages(torch.zeros(1, 3, 2, 2), torch.zeros(1))
    with pytest.raises(ValueError, match="'hfds/x' has no names of classes .* captions:PATH"):
        written.class_names(images, "hfds/x")


ROWS = [
    {"file": f"images/{i:02d}.png", "caption": f"picture, {i}", "label": "cat" if i % 2 else "big dog"}
    for i in range(20)
]
ROWS.append({"file": "images/03.png", "caption": "another three", "label": "cat"})


def write_captions(folder: Path, ending: str, rows: list[dict[str, str]] = ROWS, stem: str = "captions") -> Path:
    """Images of one grey level each beside a file of captions in the given form."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        level = int(row["file"][-6:-4])
        Image.new("RGB", (20, 24), (level, level, level)).save(folder / row["file"])
    path = folder / f"{stem}{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        sign = "\t" if ending == ".tsv" else ","
        lines = [list(rows[0]), *([f'"{value}"' for value in row.values()] for row in rows)]
        path.write_text("".join(sign.join(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("ending", files.ENDINGS)
def test_a_file_of_captions(tmp_path: Path, ending: str):
    write_captions(tmp_path, ending)
    train, test, captions = load(f"captions:{tmp_path}")
    assert (len(train), len(test), captions.classes) == (18, 2, ["big dog", "cat"])
    for images, writer in ((train, captions.train), (test, captions.test)):
        batch = next(images.read([torch.arange(len(images))], run=ALONE, workers=0))
        for pixels, label, i in zip(batch.images, batch.labels.tolist(), batch.indices.tolist(), strict=True):
            level = int(pixels[0, 0, 0])
            assert label == level % 2
            assert {writer.write(i, label, Random(s)) for s in range(20)} == {
                row["caption"] for row in ROWS if int(row["file"][-6:-4]) == level
            }
    assert "a photo of a big dog" in captions.ask() and "a photo of the cat" in captions.ask()


def test_a_test_file_beside_it_is_evaluated_on(tmp_path: Path):
    path = write_captions(tmp_path, ".csv")
    write_captions(tmp_path, ".csv", [{"file": "images/50.png", "caption": "fifty", "label": "eel"}], "captions-test")
    train, test, captions = load(f"captions:{path}")
    assert (len(train), len(test), captions.classes) == (20, 1, ["big dog", "cat", "eel"])
    batch = next(test.read([torch.tensor([0])], run=ALONE, workers=0))
    assert captions.describe(batch.indices, batch.labels) == ["fifty"] and batch.labels.tolist() == [2]
    train, test, _ = load(f"captions:{path}", "validation")
    assert (len(train), len(test)) == (18, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no captions"),
        ([{"file": "images/01.png", "text": "one"}], "entry 1 of .*: expected file and caption, got .*'text'"),
        ([ROWS[0], {**ROWS[1], "label": ""}], "label on some lines only"),
    ],
)
def test_a_faulty_file_of_captions_is_named(tmp_path: Path, rows: list[dict[str, str]], message: str):
    path = write_captions(tmp_path, ".jsonl", rows)
    with pytest.raises(ValueError, match=message):
        load(f"captions:{path}")


def test_a_missing_file_of_captions_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"expected captions:PATH of a \.csv.*got '/nowhere'"):
        load("captions:/nowhere")


@pytest.mark.parametrize("labelled", [True, False])
def test_training_on_a_file_of_captions(tmp_path: Path, labelled: bool):
    """Without labels there is no kNN and no zero-shot accuracy, and the run ends all the same."""
    rows = ROWS if labelled else [{k: v for k, v in row.items() if k != "label"} for row in ROWS]
    path, out = write_captions(tmp_path, ".csv", rows), tmp_path / "run"
    flags = ["--data", f"captions:{path}", "--out", str(out), "--batch-size", "6", "--epochs", "1", "--workers", "0"]
    launch(clip.main, parse("clip", clip.PRESETS, [*flags, "--device", "cpu"]))
    last = read_metrics(out)[-1]
    assert math.isnan(last["knn"]) != labelled
    assert ("zero_shot" in last) == ("zero_shot" in json.loads((out / "summary.json").read_text())) == labelled
    assert (out / "similarities.png").exists() and (out / "curves.png").exists()


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
