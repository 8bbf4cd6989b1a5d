"""Where keys are revoked for all replicas at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idefics2_service.keys.revocations import Revocations
    from idefics2_service.settings import StoreSettings


def find_revocations(settings: StoreSettings) -> Revocations | None:
    """Return what is beside the requests of many replicas; None: there is one, whose file is enough.

    Raises:
        SettingInvalid: the store's URL cannot be read.

    """
    if not settings.url:
        return None
    from idefics2_service.store.redis.revocations import RedisRevocations  # noqa: PLC0415  # as in app

    return RedisRevocations(settings)
