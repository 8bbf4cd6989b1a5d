"""Where behaviour is asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faces.rest import RestFace
from faces.rpc import RpcFace

if TYPE_CHECKING:
    from collections.abc import Callable

    from faces.face import Face

FACES: dict[str, Callable[..., Face]] = {"rpc": RpcFace, "rest": RestFace}
SERVICES = ("on_fake_backend", "on_fake_triton", "on_real_triton")
_ALL = [f"{face}-{service}" for face in FACES for service in SERVICES]
USUAL_PLACES = [place for place in _ALL if place != "rest-on_real_triton"]
everywhere = pytest.mark.parametrize("face", _ALL, indirect=True)
"""Over HTTP, too, where the real model matters."""
