"""What work takes on one kind of machine: figures with their sources, from a file of profiles/."""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idefics2_engine.images import Sizing

FOLDER = Path(__file__).parent / "profiles"
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Profile:
    """Seconds of everything that one replica does, and the bounds of its engine."""

    token_points: Points
    """Tokens that one step makes and reads, and its seconds with empty contexts; straight lines between."""
    context_seconds: float
    """For each token that those who decode look back at."""
    reading_step_seconds: float
    """What a step that reads prompts takes at least: it has no short way, such as a CUDA graph."""
    look_seconds: float
    """For a step that looks at images, on top."""
    crop_seconds: float
    """For each crop in it."""
    patch_seconds: float
    patch_pair_seconds: float
    """For each pair of patches of a crop: they look at each other."""
    host_seconds: float
    """What a replica's front does for a request before the model hears of it, for one at a time."""
    beside_seconds: float
    """What else is done then, by Triton and beside the engine's thread, for any number at a time."""
    message_seconds: float
    """What one message to a caller takes of cores on its way; first tokens and ends go one by one."""
    megapixel_seconds: float
    """Of one of the workers that decode images."""
    way_seconds: float
    """From caller to front and back, and between the processes; nobody waits for another there."""
    num_cores: int
    """Cores that all of a replica share, its engine and its callers too; 0: enough for everybody."""
    start_seconds: float
    """From a new pod to its first answer: weights are loaded."""
    shortest_edge: int
    longest_edge: int
    patch_size: int
    num_latents: int
    num_slots: int
    max_step_tokens: int
    max_step_patches: int
    num_image_workers: int
    max_turns: int
    """Requests that a front has on its model at a time."""
    max_ahead: int
    """Requests that a front claims though its model has not begun with them."""
    max_messages_per_second: float
    """Of an engine to all callers together."""
    image_cache_crops: int
    """How many fit."""
    prefix_cache_tokens: int
    """How many fit."""

    @property
    def sizing(self) -> Sizing:
        """How pictures are cut."""
        return Sizing(self.shortest_edge, self.longest_edge, self.patch_size, resample=2)

    def step_seconds(self, num_tokens: float, context: float, *, reads: bool = False) -> float:
        """Return the seconds of a step of the text model."""
        least = self.reading_step_seconds if reads else 0.0
        return max(least, interpolate(self.token_points, num_tokens)) + context * self.context_seconds

    def seconds_to_look(self, crops: list[int]) -> float:
        """Return the seconds of the vision tower for crops of so many patches."""
        if not crops:
            return 0.0
        pairs, patches = sum(count * count for count in crops), sum(crops)
        each = len(crops) * self.crop_seconds + patches * self.patch_seconds + pairs * self.patch_pair_seconds
        return self.look_seconds + each


def interpolate(points: Points, x: float) -> float:
    """Read a curve at x; beyond its ends it goes on as straight as there."""
    place = min(max(bisect_left(points, (x,)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


@dataclass(frozen=True)
class ProfileFile:
    """A profile and where its figures come from."""

    title: str
    is_measured: bool
    profile: Profile
    sources: dict[str, str]
    """By figure."""

    def write(self, name: str) -> None:
        """Keep it as profiles/<name>.json."""
        figures = {
            figure: {"value": value, "source": self.sources[figure]}
            for figure, value in dataclasses.asdict(self.profile).items()
        }
        kept = {"title": self.title, "is_measured": self.is_measured, "figures": figures}
        (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")


def read_profile(name: str) -> ProfileFile:
    """Read profiles/<name>.json; every figure must have a source."""
    kept = json.loads((FOLDER / f"{name}.json").read_text())
    figures = kept["figures"]
    values: dict[str, Any] = {figure: given["value"] for figure, given in figures.items()}
    values["token_points"] = tuple((tokens, seconds) for tokens, seconds in values["token_points"])
    sources = {figure: given["source"] for figure, given in figures.items()}
    return ProfileFile(kept["title"], kept["is_measured"], Profile(**values), sources)
