"""Images with captions: those of the embedded digits, of classes by their names, or of a file of captions.

- `digits`: sentences made from what an image was rendered with: digit, colours, size and position. They differ in
  wording and in what they name; a training caption is made from its own image's attributes alone.
- `captions:PATH`: those of a file, see `caption_files.py`.
- all other data: sentences with the class's name, "a photo of a NAME".

The prompts of zero-shot classification are sentences that the templates of digits and classes don't make: their words
are known, their order is new. For a file of captions they are CLIP's "a photo of a NAME" and a few like it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from torch import Tensor

from _runtime import digits
from _runtime.caption_files import captioned_files
from _runtime.config import CommonConfig
from _runtime.data import FileImages, MemoryImages
from _runtime.launch import Run
from _runtime.sources import Images, load_images

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLOURS = {
    "black": (0.1, 0.1, 0.1), "grey": (0.5, 0.5, 0.5), "white": (0.9, 0.9, 0.9), "red": (0.8, 0.15, 0.15),
    "orange": (0.9, 0.55, 0.15), "yellow": (0.85, 0.85, 0.2), "green": (0.2, 0.75, 0.2), "cyan": (0.2, 0.8, 0.8),
    "blue": (0.2, 0.25, 0.8), "purple": (0.5, 0.15, 0.65), "pink": (0.9, 0.45, 0.75), "brown": (0.45, 0.3, 0.15),
}  # fmt: skip
DIGIT_TEMPLATES = (  # colours in three of eight: where they tell a batch apart, digits teach nothing more
    "the handwritten digit {digit}",
    "a photo that shows the number {digit}",
    "an image that shows the digit {digit}",
    "a picture of the number {digit} {place}",
    "this is a {size} {digit}",
    "the digit {digit} painted in {colour}",
    "a {digit} on a {background} background",
    "a {size} {colour} {digit} {place}",
)
DIGIT_PROMPTS = ("a photo of a {}", "the number {}", "this is the digit {}", "an image of a handwritten {}")
CLASS_TEMPLATES = ("a photo of a {name}", "this is an image of the {name}", "a picture that shows a {name}")
CLASS_PROMPTS = ("an image of a {}", "this is a photo of a {}", "a picture of the {}", "a {}")
FILE_PROMPTS = ("a photo of a {}", "a photo of the {}", "a picture of a {}", "an image of a {}", "a {}")


class Writer(Protocol):
    """Writes captions for the images of one split."""

    def write(self, index: int, label: int, random: Random) -> str:
        """A caption of image `index`, whose class is `label`; of several possible ones `random` chooses."""

    def texts(self) -> Iterator[str]:
        """Every caption that it may write."""


@dataclass(frozen=True)
class TemplateWriter:
    """Fills the facts of an image, or of its class, into one of the templates."""

    templates: Sequence[str]
    facts: Sequence[Mapping[str, str]]
    by_class: bool  # whether facts are listed by class, or by image

    def write(self, index: int, label: int, random: Random) -> str:
        return fill(random.choice(self.templates), self.facts[label if self.by_class else index])

    def texts(self) -> Iterator[str]:
        return (fill(template, fact) for fact in self.facts for template in self.templates)


@dataclass(frozen=True)
class Captions:
    """Who writes the captions of training and evaluation images, and the classes in words."""

    train: Writer
    test: Writer
    classes: Sequence[str]
    prompts: Sequence[str]
    seed: int

    def draw(self, index: Tensor, labels: Tensor, *, epoch: int) -> list[str]:
        """A caption for each training image; chance hangs on (seed, epoch, index), hence not on the rank."""
        pairs = zip(index.tolist(), labels.tolist(), strict=True)
        return [self.train.write(i, label, Random(f"{self.seed} {epoch} {i}")) for i, label in pairs]

    def describe(self, index: Tensor, labels: Tensor) -> list[str]:
        """A caption for each evaluation image, always the same one."""
        pairs = zip(index.tolist(), labels.tolist(), strict=True)
        return [self.test.write(i, label, Random(f"test {i}")) for i, label in pairs]

    def ask(self) -> list[str]:
        """All prompts of the first class, then all of the second, and so on."""
        return [articles(prompt.format(name)) for name in self.classes for prompt in self.prompts]


def load_captioned(config: CommonConfig, run: Run) -> tuple[Images, Images, Captions]:
    """(training images, evaluation images, their captions) of the data set that `--data` names."""
    name, _, path = config.data.partition(":")
    if name == "digits":
        return captioned_digits(config, run)
    if name == "captions":
        train, test, *writers, classes = captioned_files(Path(path), config)
        return train, test, Captions(*writers, classes, FILE_PROMPTS, config.seed)
    train, test = load_images(config, run)
    classes = CIFAR10 if name == "cifar10" else class_names(train, config.data)
    writer = TemplateWriter(CLASS_TEMPLATES, [{"name": c} for c in classes], by_class=True)
    return train, test, Captions(writer, writer, classes, CLASS_PROMPTS, config.seed)


def captioned_digits(config: CommonConfig, run: Run) -> tuple[MemoryImages, MemoryImages, Captions]:
    """The embedded digits, each with what it was rendered with."""
    splits = ("train", "test") if config.evaluate_on == "test" else ("fit", "validation")
    data = [digits.load(split) for split in splits]
    train, test = (MemoryImages(d.images.to(run.device), d.labels.to(run.device)) for d in data)
    writers = [TemplateWriter(DIGIT_TEMPLATES, digit_facts(d), by_class=False) for d in data]
    return train, test, Captions(*writers, DIGITS, DIGIT_PROMPTS, config.seed)


def digit_facts(data: digits.Digits) -> list[dict[str, str]]:
    """What each digit was rendered with, in words."""
    palette, names = torch.tensor(list(COLOURS.values())), list(COLOURS)
    colour, background = (
        torch.cdist(data.attributes[part], palette).argmin(1).tolist() for part in ("foreground", "background")
    )
    size, position = data.attributes["size"].tolist(), data.attributes["position"].tolist()
    return [
        {
            "digit": DIGITS[label],
            "colour": names[colour[i]],
            "background": names[background[i]],
            "size": "small" if size[i] < 0.58 else "large" if size[i] > 0.72 else "medium",
            "place": place(*position[i]),
        }
        for i, label in enumerate(data.labels.tolist())
    ]


def place(x: float, y: float) -> str:
    """Where a digit stands, in words; x and y are those of its centre, in [-1, 1]."""
    across = "left" if x < -0.12 else "right" if x > 0.12 else ""
    down = "top" if y < -0.12 else "bottom" if y > 0.12 else ""
    return f"at the {f'{down} {across}'.strip() or 'centre'}"


def class_names(images: Images, data: str) -> list[str]:
    """The classes of a folder, or of a data set of timm that knows their names."""
    source: Any = images.files.source if isinstance(images, FileImages) else None
    numbers = getattr(getattr(source, "reader", source), "class_to_idx", None)
    if not numbers:
        raise ValueError(f"--data: {data!r} has no names of classes to make captions of; use folder: or captions:PATH")
    return [name.replace("_", " ") for name in sorted(numbers, key=numbers.__getitem__)]


def fill(template: str, facts: Mapping[str, str]) -> str:
    """A template with its facts, in the right articles."""
    return articles(template.format_map(facts))


def articles(text: str) -> str:
    """An eight, a one: "a" becomes "an" where the next word begins with a vowel."""
    return re.sub(r"\b(a|an) (?=(\w+))", lambda m: "an " if starts_with_vowel(m[2]) else "a ", text)


def starts_with_vowel(word: str) -> bool:
    return word[0].lower() in "aeiou" and word != "one"
