"""What an operator can set of one engine, and where each value comes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idefics2_engine.container import count_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ENVIRONMENT_PREFIX = "IDEFICS2_MODEL_"
# Where 0 leaves the choice to others.
_MAY_BE_ZERO = (
    "max_context_tokens",
    "max_image_cache_bytes",
    "max_messages_per_second",
    "max_prefix_cache_bytes",
    "num_threads",
)


CACHE_SCOPES = ("all", "share")
_MESSAGES_PER_CORE = 200
"""Each costs about a millisecond on its way, and the model needs most of the cores itself."""


@dataclass(frozen=True)
class EngineConfig:
    """Settings of one engine, in the units that their names say."""

    checkpoint: str = "checkpoints/tiny"
    """A folder, absolute or below the model's own, or the name of a checkpoint on the hub."""
    device: str = "auto"
    """`auto` takes the GPU that Triton assigns and the CPU where there is none."""
    dtype: str = "auto"
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""
    max_running: int = 64
    """Requests that run together, if memory has room for so many; the others wait."""
    max_open_requests: int = 256
    """Requests that are here, those included that wait; one more is refused. The front sends far fewer."""
    max_step_tokens: int = 512
    """Tokens of prompts that one step reads, beside the one that it makes for each who runs."""
    max_step_patches: int = 9_800
    """Patches of images that one step looks at; a single crop may have more."""
    max_context_tokens: int = 0
    """Prompt and answer together; 0 is what the checkpoint was trained for, up to 8,192."""
    max_new_tokens: int = 4096
    max_images: int = 8
    max_image_pixels: int = 40_000_000
    max_prompt_bytes: int = 32_768
    num_image_workers: int = 2
    """Processes that decode images."""
    max_image_seconds: int = 10
    """How long one may decode one image, by the clock."""
    max_image_processor_seconds: int = 2
    """And of the processor's time, where the image has `max_image_pixels`; a small one has 1 s.

    On a server's processor of 2023, 40 megapixels take 1 s as JPEG, 1.5 s as PNG; 24 as JPEG 0.7 s.
    """
    max_image_memory_bytes: int = 200_000_000
    """How much memory one may take for it, beyond what it has idle."""
    max_pixel_bytes: int = 500_000_000
    """What decoded images may take that the model has not looked at; whose images need more wait in line."""
    max_image_cache_bytes: int = 0
    """What the model saw in images that no running request shows; 0 is 5 % of the memory, up to 1 GiB."""
    max_prefix_cache_bytes: int = 0
    """Keys and values of prompts that were read; 0 is 15 % of the memory, up to 4 GiB."""
    cache_scope: str = "all"
    """Whose requests are spared what was seen and read for whom: `all`, or those of each `share` its own."""
    workspace_bytes: int = 1 << 30
    """What a step's intermediate results may take."""
    max_messages_per_second: int = 0
    """How often all requests together are told something, first and last messages aside; 0 is 200 a core."""
    num_threads: int = 0
    """CPU threads of torch; 0 is half of the cores that we may use: the others serve Triton and the front."""

    @property
    def message_rate(self) -> int:
        """Messages a second for all requests together."""
        return self.max_messages_per_second or _MESSAGES_PER_CORE * count_cores()

    def assign(self, device: str) -> EngineConfig:
        """Take the device that Triton assigns, unless the operator named one."""
        return dataclasses.replace(self, device=device) if self.device == "auto" else self

    @classmethod
    def read(
        cls, parameters: Mapping[str, str], environ: Mapping[str, str], model_folder: Path
    ) -> EngineConfig:
        """Read config.pbtxt's parameters, each overruled by its environment variable.

        Raises:
            ValueError: a parameter is unknown or not of its type; the message names its variable, where that
                sets it, or else the parameter.

        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, str | int] = {}
        given = _list_given(parameters, environ)
        for name, (label, text) in given.items():
            if name not in fields:
                raise ValueError(_describe_unknown(label, fields))
            values[name] = text if fields[name].type == "str" else _whole_number(name, label, text)
            if name == "cache_scope" and text not in CACHE_SCOPES:
                raise ValueError(f"{label} must be {' or '.join(CACHE_SCOPES)}, not {text!r}")
        config = cls(**values)  # type: ignore[arg-type]  # each value was read by its field's type
        label, _ = given.get("checkpoint", ("checkpoint", ""))
        checkpoint = _find_checkpoint(label, config.checkpoint, model_folder)
        return dataclasses.replace(config, checkpoint=checkpoint)


def _list_given(parameters: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return by its name each parameter that is set: what an operator knows it by, and its text."""
    given = {name: (f"engine parameter {name!r}", text) for name, text in parameters.items()}
    for variable, text in environ.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            given[variable.removeprefix(ENVIRONMENT_PREFIX).lower()] = variable, text
    return given


def _describe_unknown(label: str, known: Iterable[str]) -> str:
    if label.startswith(ENVIRONMENT_PREFIX):
        names = ", ".join(ENVIRONMENT_PREFIX + name.upper() for name in known)
    else:
        names = ", ".join(known)
    return f"{label} is not a setting of the engine; known are {names}"


def _find_checkpoint(label: str, name: str, model_folder: Path) -> str:
    """Return the path of a folder; a name that may be the hub's stays as it is."""
    folder = model_folder / name  # an absolute name stands for itself
    if folder.is_dir():
        return str(folder)
    if name.startswith(("/", ".")):
        message = f"{label}: there is no folder {name!r}"
        raise ValueError(message)
    return name


def _whole_number(name: str, label: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    least = 0 if name in _MAY_BE_ZERO else 1
    if value < least:
        message = f"{label} must be a whole number of {least} or more, not {text!r}"
        raise ValueError(message)
    return value
