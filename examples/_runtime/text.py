"""Text for CLIP: words to numbers, and the causal transformer that reads them.

The paper's byte pair encoding of 49152 units is replaced by whole words: the vocabulary of a few thousand captions is
counted in a moment, and needs no file of merges. A word that it lacks is read as `<unknown>`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING, START, UNKNOWN = 0, 1, 2
SPECIAL = 3  # so many tokens come before the words; the end of text comes after them
HEAD_WIDTH = 64  # of attention, in all of CLIP's towers


class WordTokenizer:
    """Texts to rows of tokens: start, words, end of text, padding. The end has the largest number of all.

    texts are those that the vocabulary is counted on: their `limit` most frequent words, equal ones by alphabet.
    """

    def __init__(self, texts: Iterable[str], *, context: int, limit: int) -> None:
        if context < 3:
            raise ValueError(f"--context: expected at least 3 (start, a word, end), got {context}")
        counts = Counter(word for text in texts for word in words(text))
        kept = sorted(counts, key=lambda word: (-counts[word], word))[:limit]
        self.number = {word: SPECIAL + i for i, word in enumerate(sorted(kept))}
        self.end, self.context = SPECIAL + len(kept), context

    def __len__(self) -> int:
        """How many different tokens there are."""
        return self.end + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, L) tokens, L that of the longest text; what is longer than the context is cut, and still ends."""
        rows = [[self.number.get(word, UNKNOWN) for word in words(text)][: self.context - 2] for text in texts]
        tokens = torch.full((len(rows), 2 + max(map(len, rows), default=0)), PADDING)
        for i, row in enumerate(rows):
            tokens[i, : len(row) + 2] = torch.tensor([START, *row, self.end])
        return tokens

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """The words of texts that the vocabulary lacks."""
        return sorted({word for text in texts for word in words(text)} - self.number.keys())


def words(text: str) -> list[str]:
    """Words and single signs, in lower case."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


class TextTransformer(nn.Module):
    """Tokens (B, L) to features (B, dim): what a causal transformer knows at the end of the text, projected."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, dim: int) -> None:
        super().__init__()
        if width % HEAD_WIDTH:
            raise ValueError(f"--text-width: expected a multiple of {HEAD_WIDTH}, the width of a head, got {width}")
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(CausalBlock(width, layers) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.blocks(self.embedding(tokens) + self.position[: tokens.shape[1]]))
        end = tokens.argmax(1)  # the end's number is the largest; no token before it sees the padding behind it
        return self.projection(x[torch.arange(len(x), device=x.device), end])


class CausalBlock(nn.Module):
    """A pre-norm transformer block in which a token sees itself and what stands before it; CLIP's initialisation."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        out = width**-0.5 * (2 * layers) ** -0.5  # so that the sum of all residual branches keeps its size
        for layer, std in (
            (self.qkv, width**-0.5),
            (self.mix, out),
            (self.rise, (2 * width) ** -0.5),
            (self.fall, out),
        ):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).flatten(2))
        return x + self.fall(F.gelu(self.rise(self.norm2(x))))
