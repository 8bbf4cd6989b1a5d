"""From a request to what the model reads: tokens by transformers' own processor, crops by our workers."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.idefics2.processing_idefics2 import Idefics2Processor

from idefics2_engine.draft import Decoding, Draft
from idefics2_engine.errors import EngineError, InvalidRequest
from idefics2_engine.image_workers import ImageWorkers, WorkerLimits
from idefics2_engine.images import Sizing, count_crop_bytes, count_patches
from idefics2_engine.pixel_room import PixelRoom
from idefics2_engine.prefix_cache import make_keys
from idefics2_engine.requests import Counted
from idefics2_engine.sequence import Clock, CropSpan

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from idefics2_engine.config import EngineConfig
    from idefics2_engine.image_cache import ImageCache, SeenImage
    from idefics2_engine.requests import Request, SamplingParams

IMAGE_TOKENS = ("<image>", "<fake_token_around_image>")
END_OF_TURN_TOKEN = "<end_of_utterance>"  # noqa: S105  # not a secret
_CROPS_OF_SPLIT = 5


@dataclass(frozen=True)
class PreparedRequest:
    """A request as the engine takes it, without the files: nobody reads them any more."""

    request_id: str
    sampling: SamplingParams
    token_ids: list[int]
    spans: tuple[CropSpan, ...]
    """Where in the prompt each crop stands, each `num_latents` tokens long, in their order."""
    num_latents: int
    num_image_tokens: int
    num_cached_images: int
    """Of which nothing had to be decoded."""
    prefix_keys: list[bytes]
    """One for each full block of the prompt, as prefix_cache makes them."""
    seconds: dict[str, float]
    """How long each stage took so far."""

    @property
    def num_prompt_tokens(self) -> int:
        """All tokens that the model reads."""
        return len(self.token_ids)

    @property
    def num_images(self) -> int:
        """How many it shows."""
        return sum(span.number == 0 for span in self.spans)


class Processor:
    """Prepares requests for one checkpoint. Safe to use from several threads."""

    def __init__(
        self, config: EngineConfig, max_context_tokens: int, patch_size: int, images: ImageCache
    ) -> None:
        """Load the checkpoint's processor; `patch_size` is the vision tower's, in pixels."""
        processor = _load(config.checkpoint)
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.max_context_tokens = max_context_tokens
        self._num_latents: int = processor.image_seq_len
        self._image_id, self._mark_id = self.tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
        self._config = config
        self._images = images
        self._default_split = bool(processor.image_processor.do_image_splitting)
        # The processor writes text for split images by its own attribute, whatever a call asks for.
        self._processors = {split: _with_splitting(processor, split=split) for split in (False, True)}
        self._sizing = _read_sizing(processor.image_processor, patch_size)
        limits = WorkerLimits(
            config.max_image_pixels,
            config.max_image_seconds,
            config.max_image_processor_seconds,
            config.max_image_memory_bytes,
        )
        self._workers = ImageWorkers(config.num_image_workers, self._sizing, limits)
        self._crop_bytes = count_crop_bytes(self._sizing, config.max_image_pixels)
        self.room = PixelRoom(config.max_pixel_bytes)
        """Where drafts are to begin, unless who drafts has the engine to himself."""

    def prepare(self, request: Request) -> PreparedRequest:
        """Prepare a request, and wait for its pictures: for who has the engine to himself.

        Raises:
            InvalidRequest: as of `draft`, or a picture cannot be decoded.
            EngineFault: the same, by no fault of the picture's.

        """
        draft = self.draft(request)
        draft.begin()
        draft.ready.result()
        try:
            return draft.finish()
        except EngineError:
            draft.leave()
            raise

    def draft(self, request: Request) -> Draft:
        """Build the prompt and look up the images; those that are not known will have to be decoded.

        Raises:
            InvalidRequest: a bound is passed, or the context is too short.

        """
        clock = Clock({})
        self._check(request.prompt, len(request.images))
        split = self._default_split if request.split_images is None else request.split_images
        token_ids = self._tokenize(request.prompt, len(request.images), split=split)
        self._check_context(len(token_ids), request.sampling.max_new_tokens)
        scope = _make_scope(request.share) if self._config.cache_scope == "share" else b""
        keys = [_hash(data, scope, split=split) for data in request.images]
        images = [self._images.find(key, self._count_crops(split=split)) for key in keys]
        spans = tuple(self._find_spans(token_ids, images))
        firsts = [(span.start, span.image.key) for span in spans if span.number == 0]
        prepared = PreparedRequest(
            request_id=request.request_id,
            sampling=request.sampling,
            token_ids=token_ids,
            spans=spans,
            num_latents=self._num_latents,
            num_image_tokens=self._count_image_tokens(token_ids),
            num_cached_images=0,
            prefix_keys=make_keys(token_ids, firsts),
            seconds={},
        )
        pictures = [
            (image, partial(self._decode, image, data, split=split))
            for image, data in zip(images, request.images, strict=True)
        ]
        clock.enter("preprocess")
        return Draft(prepared, pictures, self._crop_bytes, clock, request.share)

    def count(self, prompt: str, sizes: Sequence[tuple[int, int]], *, split_images: bool | None) -> Counted:
        """Count what images of `sizes` (width, height in pixels) and `prompt` would cost.

        Raises:
            InvalidRequest: a bound is passed; too long a prompt is counted, not refused.

        """
        self._check(prompt, len(sizes))
        split = self._default_split if split_images is None else split_images
        token_ids = self._tokenize(prompt, len(sizes), split=split)
        return Counted(
            num_prompt_tokens=len(token_ids),
            num_image_tokens=self._count_image_tokens(token_ids),
            num_image_patches=sum(count_patches(*size, self._sizing, split=split) for size in sizes),
            max_context_tokens=self.max_context_tokens,
        )

    @property
    def workers_killed(self) -> Counter[str]:
        """How many workers had to be replaced, by why."""
        return self._workers.killed

    def close(self) -> None:
        """Stop the workers."""
        self._workers.close()

    def _decode(self, image: SeenImage, data: bytes, *, split: bool) -> Decoding:
        return self._workers.submit(data, split=split, give_up=image.give_up, shares=lambda: image.shares)

    def _tokenize(self, prompt: str, num_images: int, *, split: bool) -> list[int]:
        ids: list[int] = self._processors[split](text=self._render(prompt, num_images))["input_ids"][0]
        return ids

    def _find_spans(self, token_ids: list[int], images: list[SeenImage]) -> Iterator[CropSpan]:
        places = [place for place, token_id in enumerate(token_ids) if token_id == self._image_id]
        crops = [(image, number) for image in images for number in range(len(image.hidden_states))]
        for (image, number), start in zip(crops, places[:: self._num_latents], strict=True):
            yield CropSpan(image, number, start)

    def _count_crops(self, *, split: bool) -> int:
        return _CROPS_OF_SPLIT if split else 1

    def _render(self, prompt: str, num_images: int) -> str:
        """Write the prompt as the checkpoint was trained to read it: images first, then the text."""
        processor = self._processors[False]
        if processor.chat_template is None:  # a base checkpoint continues text
            return "<image>" * num_images + prompt
        content = [*({"type": "image"} for _ in range(num_images)), {"type": "text", "text": prompt}]
        rendered: str = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return rendered

    def _check(self, prompt: str, num_images: int) -> None:
        if not prompt.strip():
            raise InvalidRequest("PROMPT_MISSING", "prompt is empty", "prompt")
        if (size := len(prompt.encode())) > self._config.max_prompt_bytes:
            message = f"prompt has {size} bytes; at most {self._config.max_prompt_bytes} are allowed"
            bound = str(self._config.max_prompt_bytes)
            raise InvalidRequest("PROMPT_TOO_LARGE", message, "prompt", bound=bound, value=size)
        for token in (*IMAGE_TOKENS, END_OF_TURN_TOKEN):
            if token in prompt:
                message = f"prompt contains {token}, which only the model's template may use"
                raise InvalidRequest("PROMPT_HAS_SPECIAL_TOKEN", message, "prompt")
        if not num_images:
            raise InvalidRequest("IMAGE_MISSING", "there is no image", "images")
        if num_images > self._config.max_images:
            message = f"images has {num_images} items; at most {self._config.max_images} are allowed"
            bound = f"at most {self._config.max_images}"
            raise InvalidRequest("VALUE_OUT_OF_RANGE", message, "images", bound=bound, value=num_images)

    def _check_context(self, num_prompt_tokens: int, max_new_tokens: int) -> None:
        num_tokens = num_prompt_tokens + max_new_tokens
        if num_tokens > self.max_context_tokens:
            message = (
                f"prompt and images have {num_prompt_tokens} tokens, which with max_new_tokens "
                f"{max_new_tokens} is more than the context of {self.max_context_tokens} tokens"
            )
            bound = str(self.max_context_tokens)
            raise InvalidRequest("CONTEXT_EXCEEDED", message, "prompt", bound=bound, value=num_tokens)

    def _count_image_tokens(self, token_ids: list[int]) -> int:
        return token_ids.count(self._image_id) + token_ids.count(self._mark_id)


def _make_scope(share: str) -> bytes:
    """Return what keeps a share's pictures apart from others', and with them all prompts: each shows one."""
    text = share.encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=hashlib.blake2b.SALT_SIZE).digest()


def _hash(data: bytes, scope: bytes, *, split: bool) -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=b"split" if split else b"whole", salt=scope).digest()


def _load(checkpoint: str) -> Any:
    """Load the checkpoint's processor, always over Pillow: with torchvision installed, answers might move."""
    parts = [
        Idefics2ImageProcessorPil.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    ]
    settings, rest = Idefics2Processor.get_processor_dict(checkpoint)
    return Idefics2Processor.from_args_and_dict(parts, settings, **rest)


def _read_sizing(image_processor: Any, patch_size: int) -> Sizing:
    size = image_processor.size
    return Sizing(
        shortest_edge=size["shortest_edge"],
        longest_edge=size["longest_edge"],
        patch_size=patch_size,
        resample=int(image_processor.resample),
        do_resize=bool(image_processor.do_resize),
    )


def _with_splitting(processor: Any, *, split: bool) -> Any:
    made = copy.deepcopy(processor)
    made.image_processor.do_image_splitting = split
    return made
