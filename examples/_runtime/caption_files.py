"""Images with captions from files: `--data captions:PATH`.

PATH is a `.csv` or `.tsv` with a line of column names, or a `.jsonl`, or a folder that holds `captions` with one of
these endings. Columns: `file` (relative to the file's folder), `caption`, and, for kNN and zero-shot, `label` (the
class's name, on all lines). An image with several captions has several lines, one of which is drawn in each epoch. A
file `NAME-test` beside `NAME` holds the images of the evaluation; without it a tenth of the images is held out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from torch.utils.data import Dataset

from _runtime.config import CommonConfig
from _runtime.data import FileImages
from _runtime.sources import hold_out

ENDINGS = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class GivenCaptions:
    """Captions that came with the images, one or several for each."""

    captions: Sequence[Sequence[str]]

    def write(self, index: int, label: int, random: Random) -> str:
        return random.choice(self.captions[index])

    def texts(self) -> Iterator[str]:
        return (caption for captions in self.captions for caption in captions)


class CaptionedFiles(Dataset[Any]):
    """The images that a file of captions names, in its order, with all their captions and their class."""

    def __init__(self, path: Path) -> None:
        rows: dict[str, list[dict[str, str]]] = {}
        for row in read_rows(path):
            rows.setdefault(row["file"], []).append(row)
        self.files = [path.parent / name for name in rows]
        self.captions = [[row["caption"] for row in same] for same in rows.values()]
        self.names = [same[0].get("label") or "" for same in rows.values()]
        self.classes: list[str] = []  # in the order of their numbers, set when all splits are read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return Image.open(self.files[index]), self.classes.index(self.names[index]) if self.classes else -1

    def filename(self, index: int, *, absolute: bool) -> str:
        """For the message on an image that cannot be read."""
        return str(self.files[index].absolute() if absolute else self.files[index])


def captioned_files(
    path: Path, config: CommonConfig
) -> tuple[FileImages, FileImages, GivenCaptions, GivenCaptions, list[str]]:
    """Training and evaluation images, the captions of both, and the names of the classes, if there are any."""
    path = find_captions(path)
    beside = path.with_name(f"{path.stem}-test{path.suffix}")
    sources = [CaptionedFiles(p) for p in (path, beside) if p.exists()]
    names = sorted({name for source in sources for name in source.names})
    if "" in names and len(names) > 1:
        raise ValueError(f"--data: {path} has a label on some lines only; expected one on each line, or none at all")
    classes = [] if names == [""] else names
    for source in sources:
        source.classes = classes
    images = [FileImages(source, size=config.image_size * 8 // 7) for source in sources]
    train, test = images if len(images) == 2 and config.evaluate_on == "test" else hold_out(images[0])
    given = [GivenCaptions([i.files.source.captions[j] for j in i.index.tolist()]) for i in (train, test)]
    return train, test, given[0], given[1], classes


def find_captions(path: Path) -> Path:
    """The file of captions that a path means."""
    if path.is_file() and path.suffix in ENDINGS:
        return path
    for found in (path / f"captions{ending}" for ending in ENDINGS):
        if found.is_file():
            return found
    raise ValueError(
        f"--data: expected captions:PATH of a .csv, .tsv or .jsonl file, or of a folder with captions.csv, .tsv or "
        f".jsonl; got {str(path)!r}"
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a file of captions, by the names of its columns."""
    with open(path, encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in file if line.strip()]
        else:
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    for i, row in enumerate(rows):
        if not (row.get("file") and row.get("caption")):
            raise ValueError(f"--data: entry {i + 1} of {path}: expected file and caption, got {row}")
    if not rows:
        raise ValueError(f"--data: {path} holds no captions; expected lines with file, caption and perhaps label")
    return rows
