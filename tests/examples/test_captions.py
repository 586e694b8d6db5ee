"""Captions of digits, of classes, and from files."""

import json
import math
from pathlib import Path
from random import Random

import clip
import pytest
import torch
from _runtime import CommonConfig, Run, WordTokenizer, digits
from _runtime import caption_files as files
from _runtime import captions as written
from _runtime.config import parse
from _runtime.data import MemoryImages
from _runtime.launch import launch
from _runtime.log import read_metrics
from PIL import Image

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
