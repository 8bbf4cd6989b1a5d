"""What the engine's process and the one that talks for it say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from idefics2_engine.requests import Event, Request

Emit = Callable[[str, Event], None]
"""Hears of each event of a request."""
Told = tuple[str, Event]


@dataclass(frozen=True)
class Measured:
    """The engine's figures, in the order of `metrics.SERIES`."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Started:
    """The model answers, or what is the matter with it."""

    problem: str = ""


@dataclass(frozen=True)
class Submit:
    """As EngineLoop.submit."""

    request: Request


@dataclass(frozen=True)
class Cancel:
    """As EngineLoop.cancel."""

    request_id: str


@dataclass(frozen=True)
class Ping:
    """As EngineLoop.ping."""

    request_id: str


@dataclass(frozen=True)
class Count:
    """As EngineLoop.count."""

    request_id: str
    prompt: str
    sizes: list[tuple[int, int]]
    split_images: bool | None


@dataclass(frozen=True)
class Close:
    """As EngineLoop.close."""


Message = Submit | Cancel | Ping | Count | Close
