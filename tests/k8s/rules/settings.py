"""Settings: every variable is one, with a good value, and none that is secret stands in a manifest."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from idefics2_engine.config import ENVIRONMENT_PREFIX, EngineConfig
from idefics2_service.errors import ServiceError, SettingInvalid, StartFailed
from idefics2_service.exposure import is_loopback
from idefics2_service.settings import PREFIX, Settings
from idefics2_service.signatures import Signer
from idefics2_service.store.redis.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from k8s.manifests import Bundle, Manifest

_EXAMPLES = {
    "IDEFICS2_STORE_URL": "rediss://user:password@valkey.example.com:6379/0",
    "IDEFICS2_STORE_REPLICA_URL": "rediss://user:password@valkey-replica.example.com:6379/0",
    "IDEFICS2_WEBHOOK_SIGNING_KEY": base64.b64encode(bytes(32)).decode(),
}
"""What the secrets hold; also the list of all settings that are secret, beside the key."""
_SECRET = {*_EXAMPLES, "IDEFICS2_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}


def check(bundle: Bundle) -> Iterator[str]:
    """Yield what is wrong."""
    for pod in bundle.pods:
        for container in pod.containers:
            place = f"{pod.name}: {container['name']}"
            yield from (f"{place}: {fault}" for fault in _check_container(bundle, container))
    yield from _check_together(bundle)


def _check_container(bundle: Bundle, container: Manifest) -> Iterator[str]:
    environment = bundle.environment(container)
    yield from (f"{name} is secret" for name in _SECRET if environment.get(name) is not None)
    ours = {n: v or _EXAMPLES.get(n, "") for n, v in environment.items() if n.startswith(PREFIX)}
    try:
        if container["name"] == "triton":
            unread = [name for name in ours if not name.startswith(ENVIRONMENT_PREFIX)]
            yield from (f"{name} is nothing that the engine reads" for name in unread)
            checkpoint = {**ours, f"{ENVIRONMENT_PREFIX}CHECKPOINT": "on/the.hub"}  # /weights is not here
            EngineConfig.read({}, checkpoint, Path("/nonexistent"))
        else:
            _start(Settings.read(ours))
    except (ServiceError, SettingInvalid, StartFailed, ValueError) as error:
        yield str(error)


def _start(settings: Settings) -> None:
    """Do what the start does with values that secrets hold."""
    if settings.store.url:
        connect(settings.store.url)
    if settings.store.replica_url:
        connect(settings.store.replica_url)
    if settings.webhook.signing_key:
        Signer.read(settings.webhook.signing_key.get_secret_value())


def _check_together(bundle: Bundle) -> Iterator[str]:
    environment = bundle.environment(bundle.server.container("front"))
    for face in ("GRPC", "HTTP"):
        host = environment.get(f"{PREFIX}{face}_HOST") or "127.0.0.1"
        is_told = environment.get(f"{PREFIX}{face}_ALLOW_INSECURE") == "true"
        has_tls = f"{PREFIX}{face}_TLS_CERTIFICATE_FILE" in environment
        if is_loopback(host):
            yield f"{PREFIX}{face}_HOST: nobody reaches {host}"
        if is_told == has_tls:
            yield f"{PREFIX}{face}: either TLS, or {PREFIX}{face}_ALLOW_INSECURE=true"
    if bundle.server.workload["spec"].get("replicas") != 1:
        shared = ("IDEFICS2_STORE_URL", "IDEFICS2_WEBHOOK_SIGNING_KEY", "IDEFICS2_BLOB_URL")
        missing = [name for name in shared if name not in environment]
        yield from (f"{name} is missing, which many replicas need" for name in missing)
