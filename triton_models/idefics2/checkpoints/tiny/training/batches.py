"""From examples to batches: conversations as tokens, and which of them are answers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from training import pool, questions, tokens
from training.pairs import ask_of_two
from training.palette import COLORS
from training.questions import Asker, Question
from training.scenes import MAX_THINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from transformers import LlamaTokenizer

    from training.scenes import Scene

MAX_TOKENS = 192
"""Of one row; as many questions as fit are asked about a picture."""
MAX_PAIR_TOKENS = 224
MAX_SPLIT_TOKENS = 416
_PAIRS_SHARE, _CONVERSATIONS_SHARE = 1 / 6, 1 / 8
"""How many more rows there are, for each of one picture."""
_NUM_SPLIT_GROUPS, _NUM_SPLITS = 4, 4
_LENGTHS, _TOKENS, _ANSWERS = 32, 256, 64
"""Rows, tokens that are learned and answers are filled up to multiples of these: few shapes occur, so that
each kernel is chosen, and each graph recorded, for few."""
KINDS = (*questions.KINDS, "two pictures")


@dataclass
class _Tensors:
    """Tensors that go together."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same with each tensor changed."""
        changed: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            is_list = isinstance(value, list)
            changed[each.name] = [part.map(change) for part in value] if is_list else change(value)
        return replace(self, **changed)

    def tensors(self) -> list[Tensor]:
        """List them, always in the same order."""
        found: list[Tensor] = []
        self.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return found

    def pin_memory(self) -> Self:
        """Return the same where a GPU can fetch it by itself; torch's loader calls this."""
        return self.map(lambda tensor: tensor.pin_memory() if tensor.numel() else tensor)


@dataclass
class Seen(_Tensors):
    """Pictures of one grid."""

    pixels: Tensor
    """[num_images, 3, rows * 16, columns * 16] uint8."""
    patches: Tensor
    """[num_images, rows * columns, 3] int64: class, color, character; empty where there are no labels."""
    offsets: Tensor
    """[num_images, rows * columns, 2] float32: x and y in patches, or empty."""
    things: Tensor
    """[num_images, MAX_THINGS, 3] int64: class, color and character, filled up with 0; or empty."""
    places: Tensor
    """[num_images, MAX_THINGS, 3] float32: x, y and reach in patches, as of `Example.places`, or empty."""
    backgrounds: Tensor
    """[num_images] int64."""

    @staticmethod
    def count_patches(pixels: Tensor) -> tuple[int, int]:
        """Count the rows and columns of patches of `pixels`."""
        return pixels.shape[2] // pool.PATCH, pixels.shape[3] // pool.PATCH


@dataclass
class Batch(_Tensors):
    """What one step learns from."""

    pictures: Tensor
    """[num_pictures] int64: which of the pool's each is, as `Pool.num_pictures` counts them."""
    seen: list[Seen]
    """The same pictures, in their order; empty where they are only remembered."""
    input_ids: Tensor
    """[num_rows, num_tokens] int64."""
    positions: Tensor
    """[num_rows, num_tokens] int64."""
    segments: Tensor
    """[num_rows, num_tokens] int64: 0 where every later token looks, or only those of the same number do;
    -1 behind the end."""
    images: Tensor
    """[num_image_blocks] int64: which of `pictures` stands in each block of image tokens, in their order."""
    places: Tensor
    """[num_image_blocks * 64] int64: the image tokens, counted through all rows."""
    answers: Tensor
    """[num_tokens, 3] int64: row, place, and number of the answer of each token that is learned; filled
    up with some that belong to an answer of no kind."""
    weights: Tensor
    """[num_tokens] float32: those of an answer weigh together as the root of their number."""
    kinds: Tensor
    """[num_answers] int64: which of `KINDS` each answer's question is of; filled up with len(KINDS)."""

    @property
    def mask(self) -> Tensor:
        """[num_rows, 1, num_tokens, num_tokens] bool, true where a token may look."""
        here, there = self.segments[:, :, None], self.segments[:, None, :]
        length = self.segments.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=here.device).tril()
        return (((there == 0) | (there == here)) & before)[:, None]


@dataclass
class _Row:
    ids: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    """Place and number of each token to be learned."""

    def add(self, ids: list[int], segment: int, start: int | None = None) -> None:
        """Append tokens; positions go on, or begin at `start`."""
        first = start if start is not None else self.positions[-1] + 1 if self.positions else 0
        self.ids += ids
        self.segments += [segment] * len(ids)
        self.positions += range(first, first + len(ids))


class Writer:
    """Makes batches from a pool."""

    def __init__(self, examples: pool.Pool, tokenizer: LlamaTokenizer) -> None:
        """Prepare the tokens that are the same in every conversation."""
        self._pool = examples
        self._tokenizer = tokenizer.backend_tokenizer  # three times as quick as what wraps it
        self._cache: dict[tuple[str, bool], list[int]] = {}
        fake, image, self._end = tokenizer.convert_tokens_to_ids([tokens.FAKE, tokens.IMAGE, tokens.END])
        self._fake, self._block = fake, [image] * pool.SIDE**2
        self._head = [1, *self._after("User:", first=True)]
        self._cue = [self._end, *self._after("\nAssistant:")]

    def see(self, chunks: list[NDArray[np.int64]], rng: np.random.Generator) -> list[Seen]:
        """Gather the pictures of chunks, each a little brighter or darker than it was drawn."""
        return [self._gather([self._pool.examples[i] for i in chunk], rng) for chunk in chunks]

    def see_splits(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> Seen:
        """Gather the quarters and wholes of split pictures of one size; `numbers` are those of the splits."""
        return self._as_seen(np.concatenate([self._pool.splits[i][1] for i in numbers]), rng)

    def write(
        self,
        chunks: list[NDArray[np.int64]],
        rng: np.random.Generator,
        *,
        shows: bool = True,
        topic: str | None = None,
    ) -> Batch:
        """Make a batch that asks about the pictures of chunks, alone and together.

        Args:
            chunks: numbers of examples.
            rng: decides what is asked.
            shows: whether the pictures come with it; or else they are only named.
            topic: which kind of question is asked about a picture by itself, if it can be; None: any.

        """
        seen = self.see(chunks, rng) if shows else []
        scenes = [self._pool.examples[i].scene for chunk in chunks for i in chunk]
        kinds: list[str] = []
        rows = [
            self._write_single(scene, index, rng, kinds, topic=topic) for index, scene in enumerate(scenes)
        ]
        num_pairs, num_conversations = (
            round(len(scenes) * share) for share in (_PAIRS_SHARE, _CONVERSATIONS_SHARE)
        )
        for pair in rng.integers(len(scenes), size=(num_pairs, 2)).tolist():
            rows.append(self._write_pair(scenes, pair, rng, kinds))  # noqa: PERF401  # it fills `kinds` too
        for _ in range(num_conversations):
            index = int(rng.integers(len(scenes)))
            rows.append(self._write_conversation(scenes[index], index, rng, kinds))
        return self._collate(np.concatenate(chunks), seen, rows, kinds, MAX_PAIR_TOKENS)

    def write_splits(self, rng: np.random.Generator, *, shows: bool = True) -> Batch:
        """Make a batch of pictures that are shown as four quarters and the whole; `shows` as of `write`."""
        groups = self._pool.split_groups
        chances = [len(group) / sum(map(len, groups)) for group in groups]
        pictures: list[NDArray[np.int64]] = []
        seen: list[Seen] = []
        rows: list[_Row] = []
        kinds: list[str] = []
        # In their order: so few mixes of sizes occur, each of which is another shape to a GPU.
        for chosen in np.sort(rng.choice(len(groups), _NUM_SPLIT_GROUPS, p=chances)):
            group = groups[chosen]
            numbers = rng.choice(group, _NUM_SPLITS, replace=False)
            pictures.append(self._pool.number_crops(numbers))
            if shows:
                seen.append(self.see_splits(numbers, rng))
            for scene in (self._pool.splits[i][0] for i in numbers):
                rows.append(self._write_single(scene, 5 * len(rows), rng, kinds, num_images=5))
        return self._collate(np.concatenate(pictures), seen, rows, kinds, MAX_SPLIT_TOKENS)

    def _gather(self, examples: list[pool.Example], rng: np.random.Generator) -> Seen:
        height, width = (min(example.pixels.shape[axis] for example in examples) for axis in (0, 1))
        rows, columns = height // pool.PATCH, width // pool.PATCH
        height, width = rows * pool.PATCH, columns * pool.PATCH
        seen = self._as_seen(np.stack([example.pixels[:height, :width] for example in examples]), rng)
        patches = np.stack(
            [example.patches[:rows, :columns].reshape(rows * columns, 5) for example in examples]
        )
        seen.patches = torch.from_numpy(patches[..., :3].astype(np.int64))
        seen.offsets = torch.from_numpy(pool.decode_offsets(patches[..., 3:]))
        things = np.zeros((len(examples), MAX_THINGS, 3), np.int64)
        places = np.zeros((len(examples), MAX_THINGS, 3), np.float32)
        for number, example in enumerate(examples):
            things[number, : len(example.things)] = example.things
            places[number, : len(example.things)] = example.places
        seen.things, seen.places = torch.from_numpy(things), torch.from_numpy(places)
        names = [example.scene.background for example in examples]
        seen.backgrounds = torch.tensor([COLORS.index(name) + 1 if name else 0 for name in names])
        return seen

    @staticmethod
    def _as_seen(pixels: NDArray[np.uint8], rng: np.random.Generator) -> Seen:
        height, width = (side // pool.PATCH * pool.PATCH for side in pixels.shape[1:3])
        images = torch.from_numpy(np.ascontiguousarray(pixels[:, :height, :width].transpose(0, 3, 1, 2)))
        gains = torch.from_numpy(rng.uniform(0.96, 1.03, (len(images), 1, 1, 1)).astype(np.float32))
        images = (images * gains).clamp(0, 255).to(torch.uint8)
        nothing = torch.empty(0, dtype=torch.int64)
        return Seen(images, nothing, nothing, nothing, nothing, nothing)

    def _after(self, text: str, *, first: bool = False) -> list[int]:
        """Tokenize text that stands after a marker, or first of all."""
        if (known := self._cache.get((text, first))) is not None:
            return known
        ids: list[int] = self._tokenizer.encode(text if first else tokens.END + text).ids
        ids = ids[1 if first else 2 :]
        if len(self._cache) < 400_000:
            self._cache[text, first] = ids
        return ids

    def _question(self, text: str) -> list[int]:
        """Tokenize what follows a picture: the processor parts a word from its closing boundary."""
        return [*self._after(text if text[0] in " <" else f" {text}"), *self._cue]

    def _answer(self, row: _Row, question: Question, segment: int, kinds: list[str]) -> None:
        ids = [*self._after(" " + question.answer), self._end]
        row.answers += [(len(row.ids) + n, len(kinds)) for n in range(len(ids))]
        kinds.append(question.kind)
        row.add(ids, segment)

    def _show(self, row: _Row, images: list[int]) -> None:
        """Append the tokens of pictures that stand side by side."""
        for image in images:
            row.add([self._fake, *self._block], 0)
            row.images.append(image)
        row.add([self._fake], 0)

    def _write_single(
        self,
        scene: Scene,
        index: int,
        rng: np.random.Generator,
        kinds: list[str],
        num_images: int = 1,
        topic: str | None = None,
    ) -> _Row:
        """Ask several questions about a picture; none sees another, each stands where the first would."""
        row = _Row()
        row.add(self._head, 0)
        self._show(row, list(range(index, index + num_images)))
        start, segment = len(row.ids), 1
        budget = MAX_TOKENS if num_images == 1 else MAX_SPLIT_TOKENS
        asker = Asker(scene, rng)
        while True:
            question = _ask(asker, topic)
            asked = self._question(question.text)
            if (
                len(row.ids) + len(asked) + len(self._after(" " + question.answer)) + 1 > budget
                and segment > 1
            ):
                return row
            row.add(asked, segment, start)
            self._answer(row, question, segment, kinds)
            segment += 1

    def _write_pair(
        self, scenes: list[Scene], chosen: list[int], rng: np.random.Generator, kinds: list[str]
    ) -> _Row:
        """Ask two or three questions about two pictures."""
        row = _Row()
        row.add(self._head, 0)
        self._show(row, chosen)
        start = len(row.ids)
        for segment in (1, 2, 3):
            question = ask_of_two(scenes[chosen[0]], scenes[chosen[1]], rng)
            asked = self._question(question.text)
            if (
                len(row.ids) + len(asked) + len(self._after(" " + question.answer)) + 1 > MAX_PAIR_TOKENS
                and segment > 1
            ):
                break
            row.add(asked, segment, start)
            self._answer(row, question, segment, kinds)
        return row

    def _write_conversation(
        self, scene: Scene, index: int, rng: np.random.Generator, kinds: list[str]
    ) -> _Row:
        """Ask as a conversation goes: the picture before or after the first question, then more questions."""
        row = _Row()
        asker = Asker(scene, rng)
        question = asker.ask()
        if rng.random() < 0.5:
            row.add([1, *self._after("User: " + question.text, first=True)], 0)
            self._show(row, [index])
            row.add(self._cue, 0)
        else:
            row.add(self._head, 0)
            self._show(row, [index])
            row.add(self._question(question.text), 0)
        self._answer(row, question, 0, kinds)
        for _ in range(2):
            question = asker.ask()
            if len(row.ids) > MAX_TOKENS - 30:
                break
            row.add([*self._after("\nUser: " + question.text), *self._cue], 0)
            self._answer(row, question, 0, kinds)
        return row

    def _collate(
        self, pictures: NDArray[np.int64], seen: list[Seen], rows: list[_Row], kinds: list[str], length: int
    ) -> Batch:
        length = max(length, *(len(row.ids) for row in rows))
        length += -length % _LENGTHS
        ids, positions = (np.zeros((len(rows), length), np.int64) for _ in range(2))
        segments = np.full((len(rows), length), -1)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = row.ids
            positions[number, : len(row.ids)] = row.positions
            segments[number, : len(row.ids)] = row.segments
        learned = np.array([(n, *answer) for n, row in enumerate(rows) for answer in row.answers])
        counts = np.bincount(learned[:, 2])[learned[:, 2]]  # tokens of the same answer
        num_answers = len(kinds) + 1  # at least one is of no kind
        num_answers += -num_answers % _ANSWERS
        filling = -len(learned) % _TOKENS
        nobody = np.tile((0, 1, num_answers - 1), (filling, 1))
        of_kinds = np.full(num_answers, len(KINDS))
        of_kinds[: len(kinds)] = [KINDS.index(kind) for kind in kinds]
        return Batch(
            pictures=torch.from_numpy(pictures),
            seen=seen,
            input_ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            segments=torch.from_numpy(segments),
            images=torch.tensor([image for row in rows for image in row.images]),
            places=torch.from_numpy(np.flatnonzero(ids == self._block[0])),
            answers=torch.from_numpy(np.concatenate([learned, nobody])),
            weights=torch.from_numpy(np.pad(counts**-0.5, (0, filling)).astype(np.float32)),
            kinds=torch.from_numpy(of_kinds),
        )


def _ask(asker: Asker, topic: str | None) -> Question:
    """Ask a question of a kind, or any other where the picture allows none."""
    with suppress(LookupError):
        return asker.ask(topic)
    return asker.ask()
