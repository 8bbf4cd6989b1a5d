"""Everything an operator can set: one table, read once, strictly.

Each setting is the environment variable `IDEFICS2_<SECTION>_<FIELD>`. `python -m idefics2_service
settings` prints the table that stands in README.md.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from idefics2_service.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "IDEFICS2_"
ENGINE_PREFIX = f"{PREFIX}MODEL_"
FOREIGN_PREFIXES = (f"{PREFIX}CLIENT_", ENGINE_PREFIX)  # the Python client's and the engine's

Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)"
_GRPC_URL = re.compile(rf"grpcs?://{_HOST}:\d+")
_CREDENTIALS = re.compile("(?<=//).*(?=@)", re.DOTALL)
_ADDRESS = re.compile(rf"{_HOST}:(?P<port>[0-9]{{1,5}})")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PortSettings(_Section):
    """Where a face listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(0, description="port to listen on; 0 takes a free one")
    tls_certificate_file: Path | None = Field(
        None, description="certificate in PEM, with those above it; read again when it was replaced"
    )
    tls_key_file: Path | None = Field(None, description="the certificate's private key in PEM")
    tls_client_ca_file: Path | None = Field(
        None, description="certificates in PEM of who vouches for callers; others are refused (mTLS)"
    )
    allow_insecure: bool = Field(
        default=False, description="listen where other machines reach the address, though without TLS or keys"
    )

    @field_validator("host")
    @classmethod
    def _remove_brackets(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")

    @property
    def url_host(self) -> str:
        """The host as it stands before a port: an address of IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def has_tls(self) -> bool:
        """Whether any file of TLS is set."""
        return any((self.tls_certificate_file, self.tls_key_file, self.tls_client_ca_file))


class GrpcSettings(PortSettings):
    """The gRPC face."""

    port: Port = Field(50051, description="port to listen on; 0 takes a free one")
    public_url: str = Field(
        "",
        description="where callers reach this face, where a proxy stands before the port, as the page names "
        "it: grpcs://HOST:PORT, or grpc:// without TLS; empty: the page's host and this port",
    )
    max_receive_bytes: Count = Field(28 * 2**20, description="largest message a caller may send")
    drain_delay_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="how long calls are still taken at shutdown, over HTTP, too, while health says "
        "NOT_SERVING: until all who balance have heard of it",
    )
    drain_timeout_seconds: Seconds = Field(
        3.0, description="how long running calls may go on after that, those over HTTP, too"
    )
    stall_timeout_seconds: Seconds = Field(
        30.0, description="a caller who reads nothing of a stream for so long is given up"
    )
    message_timeout_seconds: Seconds = Field(
        120.0, description="a caller of whom a message is awaited, and not whole after so long, is given up"
    )
    keepalive_seconds: Seconds = Field(
        60.0,
        description="a connection on which nothing came for so long is asked whether it lives, and closed "
        "with its calls if it does not answer in 20 s",
    )

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        if url and not _GRPC_URL.fullmatch(url):
            raise ValueError("must be grpcs://HOST:PORT or grpc://HOST:PORT")
        return url


class HttpSettings(PortSettings):
    """The HTTP face: the hosted endpoint's API, metrics and health."""

    port: Port = Field(8080, description="port to listen on; 0 takes a free one")
    public_url: str = Field(
        "",
        description="what URLs begin with that callers get, where a proxy stands before the port; "
        "empty: as the caller came in",
    )
    allowed_origins: str = Field(
        "*", description="origins of web pages that may call, with commas between; `*` allows all"
    )
    max_receive_bytes: Count = Field(28 * 2**20, description="largest body, but for uploaded files")
    drain_timeout_seconds: Seconds = Field(
        3.0,
        description="how long, after `grpc.drain_timeout_seconds`, answers and files on their way over HTTP "
        "may take",
    )
    stall_timeout_seconds: Seconds = Field(
        30.0,
        description="a caller who sends nothing of a call, or takes nothing of an answer, for so long is "
        "given up",
    )
    message_timeout_seconds: Seconds = Field(
        120.0,
        description="a caller whose body is not whole after so long is given up, unless the body is a file",
    )

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        if url and not re.fullmatch("https?://[^/?#]+(/[^?#]*)?", url):
            raise ValueError("must be an http or https URL without query")
        return url

    @property
    def origins(self) -> list[str]:
        """The origins of web pages that may call."""
        return _split(self.allowed_origins)


class ConnectSettings(PortSettings):
    """A proxy (HTTP CONNECT) that ends TLS for fal's host names, where nothing else points clients here."""

    port: Port | None = Field(  # type: ignore[assignment]  # the only port that may be closed
        None, description="port to listen on; 0 takes a free one; unset: no such proxy"
    )


class ApiSettings(_Section):
    """Who may call."""

    key: SecretStr | None = Field(
        None,
        description="one API key, `<id>.<secret>`, without limits; unset, and no `api.keys_file` either: "
        "made at the first start, kept in `data.folder`",
    )
    keys_file: Path | None = Field(
        None, description="file of all other API keys; unset: `keys.json` in `data.folder`, if it is there"
    )
    app: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] = Field(
        "fal-ai/idefics-2-8b",
        description="name under which clients of the hosted endpoint call the model, and keys may use it",
    )


class DataSettings(_Section):
    """What lives longer than the process."""

    folder: Path = Field(
        Path("~/.local/state/idefics2"), description="folder of the service's own files; made where missing"
    )


class TritonSettings(_Section):
    """NVIDIA Triton."""

    url: str = Field(
        "", description="`host:port` of a Triton that runs elsewhere; empty starts the embedded one"
    )
    model_name: str = Field("idefics2", description="the model's name in Triton")
    model_repository: Path | None = Field(
        None, description="model repository of the embedded Triton; unset: `triton_models/` of the checkout"
    )
    metrics_port: Port = Field(
        0, description="port on 127.0.0.1 of the embedded Triton's metrics; 0 takes a free one"
    )
    start_timeout_seconds: Seconds = Field(
        600.0, description="how long the embedded Triton may take to start"
    )
    canary_interval_seconds: Seconds = Field(
        0.5, description="pause between two health requests through the engine"
    )
    canary_timeout_seconds: Seconds = Field(
        3.0, description="a health request that takes longer means it is lost"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        """Refuse what gRPC would try for ever, without a word: it takes nearly any text for a target."""
        address = _ADDRESS.fullmatch(url)
        if url and not (address and 0 < int(address["port"]) < 2**16):
            raise ValueError("must be HOST:PORT, without a scheme")
        return url


class GateSettings(_Section):
    """What is let in at a time, over all faces."""

    max_open_calls: Count = Field(
        4096,
        description="calls that may be open; a key may hold at most as many as are still free, so one busy "
        "key alone gets half, each of two a third",
    )
    max_held_bytes: Count = Field(
        2**30,
        description="bytes of files that calls and their requests may hold; a key at most as many as are "
        "still free; more get MEMORY_FULL. At least twice the largest message and all images of a request. "
        "Calls without a key have a 16th of it beside it",
    )


class QueueSettings(_Section):
    """Turns on the model."""

    max_running: Count = Field(64, description="requests on the model at a time; the others wait in line")
    max_waiting: Count = Field(
        256,
        description="requests that may wait; those of a key take at most as many places as are still free; "
        "one more gets QUEUE_FULL",
    )


class LimitSettings(_Section):
    """What one request may ask for, and take."""

    max_prompt_bytes: Count = Field(32_768, description="longest prompt")
    max_new_tokens: Count = Field(4096, description="largest max_new_tokens")
    max_images: Count = Field(8, le=500, description="most images of one request")
    max_image_bytes: Count = Field(20_000_000, description="largest image file")
    max_image_pixels: Count = Field(40_000_000, description="largest image, width x height")
    max_run_seconds: Seconds = Field(
        600.0,
        description="how long a request may take from its turn on the model to its end; then it fails as "
        "REQUEST_DEADLINE_EXCEEDED, over HTTP 504 `request_timeout`",
    )


class StoreSettings(_Section):
    """Requests that were submitted."""

    url: str = Field(
        "",
        description="`redis://` or `rediss://` URL of Redis or Valkey, for many replicas; empty keeps "
        "requests in `data.folder`, for one",
    )
    replica_url: str = Field(
        "",
        description="URL of a replica of it, on another disk: read while the store is away, so that reads go "
        "on where its disk is full; empty: then reads stop, too",
    )
    prefix: str = Field("idefics2", description="what all keys in Redis begin with")
    allow_data_loss: bool = Field(
        default=False, description="take a Redis that may lose what it acknowledged"
    )
    lease_seconds: Seconds = Field(
        15.0,
        description="a request is begun again when nothing was heard of its worker for so long; where the "
        "store failed meanwhile, not before all had the time for two renewals",
    )
    renew_seconds: Seconds = Field(
        3.0, description="how often a worker is heard of; at most half of the lease"
    )
    keep_seconds: Seconds = Field(
        86_400.0, description="how long a request is kept after its end, with its answer"
    )
    max_queued: Count = Field(100_000, description="requests that may wait; one more gets QUEUE_FULL")
    max_payload_bytes: Count = Field(28 * 2**20, description="largest request, its images included")


class BlobSettings(_Section):
    """Where uploaded files are kept."""

    url: str = Field(
        "",
        description="`s3://bucket/folder`, for many replicas; the rest is read from obstore's own variables, "
        "`AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID` and so on; empty keeps files in `data.folder`",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url and not re.fullmatch("s3://[^/]+(/.*)?", url):
            raise ValueError("must be s3://bucket or s3://bucket/folder")
        return url


class FileSettings(_Section):
    """Files that callers upload."""

    max_file_bytes: Count = Field(100_000_000, description="largest file that may be uploaded")
    keep_seconds: Seconds = Field(86_400.0, description="how long a file is kept after its last upload")
    keep_unfinished_seconds: Seconds = Field(
        3_600.0, description="how long an upload is kept that nobody goes on with"
    )
    max_key_bytes: Count = Field(1_000_000_000, description="bytes that one key's files may have together")
    max_key_files: Count = Field(10_000, description="files that one key may have")


class FetchSettings(_Section):
    """Other hosts, where images are fetched and results delivered."""

    connect_timeout_seconds: Seconds = Field(3.0, description="how long a host may take to be connected to")
    timeout_seconds: Seconds = Field(15.0, description="how long one fetch may take, redirects included")
    min_bytes_per_second: Count = Field(10_000, description="a file that comes more slowly is given up")
    max_redirects: Annotated[int, Field(ge=0)] = Field(3, description="most redirects that are followed")
    ports: str = Field("80,443", description="ports that may be dialled, with commas between")
    allowed_networks: str = Field(
        "", description="networks that may be dialled though they are not public, as CIDR with commas between"
    )

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, text: str) -> str:
        ports = _split(text)
        if not ports or not all(re.fullmatch("[0-9]+", port) and 0 < int(port) < 2**16 for port in ports):
            raise ValueError("must be numbers from 1 to 65535 with commas between")
        return text

    @field_validator("allowed_networks")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        for block in _split(text):
            ip_network(block)
        return text

    @property
    def open_ports(self) -> frozenset[int]:
        """The ports that may be dialled."""
        return frozenset(map(int, _split(self.ports)))

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that may be dialled though they are not public."""
        return tuple(map(ip_network, _split(self.allowed_networks)))


class WebhookSettings(_Section):
    """Who is told of the end of a request."""

    signing_key: SecretStr | None = Field(
        None,
        description="private Ed25519 key, 32 bytes in base64, the same for all replicas; unset: made at the "
        "first start, kept in `data.folder`, for one replica; with `store.url` none is made: without this, "
        "every webhook is refused (WEBHOOK_URL_INVALID)",
    )
    max_attempts: Count = Field(10, description="how often a webhook is called before it is given up")
    first_retry_seconds: Seconds = Field(
        15.0, description="pause after the first attempt; each further one is twice as long"
    )


class MetricsSettings(_Section):
    """What is counted."""

    max_keys: Count = Field(
        100,
        description="API keys that have metrics of their own, the most used ones; the others share `(other)`",
    )


class TraceSettings(_Section):
    """Where traces go."""

    endpoint: str = Field(
        "",
        description="`http://` or `https://` URL of who collects traces by OTLP over gRPC; certificates and "
        "headers are read from OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_HEADERS` and so on; empty: "
        "no spans are kept, and a caller's trace is only told on",
    )
    ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of the traces that begin here which is kept; callers decide on theirs"
    )
    service_name: str = Field("idefics2", min_length=1, description="`service.name` of all spans")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        if url and not re.fullmatch("https?://[^/?#@]+/?", url):
            raise ValueError("must be an http or https URL of a host and a port")
        return url


class LogSettings(_Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is written"
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console`, or by whether a terminal reads it"
    )


class Settings(_Section):
    """All sections."""

    grpc: GrpcSettings = GrpcSettings()
    http: HttpSettings = HttpSettings()
    connect: ConnectSettings = ConnectSettings()
    api: ApiSettings = ApiSettings()
    data: DataSettings = DataSettings()
    triton: TritonSettings = TritonSettings()
    gate: GateSettings = GateSettings()
    queue: QueueSettings = QueueSettings()
    limits: LimitSettings = LimitSettings()
    fetch: FetchSettings = FetchSettings()
    store: StoreSettings = StoreSettings()
    blob: BlobSettings = BlobSettings()
    file: FileSettings = FileSettings()
    webhook: WebhookSettings = WebhookSettings()
    metrics: MetricsSettings = MetricsSettings()
    trace: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()

    @property
    def keys_path(self) -> Path:
        """Where API keys are kept."""
        return (self.api.keys_file or self.data.folder / "keys.json").expanduser()

    @classmethod
    def read(cls, environ: Mapping[str, str], overrides: Mapping[str, Any] = {}) -> Settings:  # never written
        """Read the environment, overruled by `overrides`, which maps `section.field` to a value.

        Raises:
            SettingInvalid: a variable is unknown or its value is bad; the message names it.

        """
        ours = {
            n: t for n, t in environ.items() if n.startswith(PREFIX) and not n.startswith(FOREIGN_PREFIXES)
        }
        known = {name for name, _, _ in describe()}
        mistakes = [f"{name} is not a setting of this service" for name in ours if name not in known]
        values: dict[str, dict[str, Any]] = {}
        for name in ours.keys() & known:
            section, _, field = name.removeprefix(PREFIX).lower().partition("_")
            values.setdefault(section, {})[field] = ours[name]
        for path, value in overrides.items():
            section, _, field = path.partition(".")
            values.setdefault(section, {})[field] = value
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            mistakes += [_explain(detail) for detail in error.errors()]
        else:
            mistakes += _check_together(settings)
        if mistakes:
            raise SettingInvalid("; ".join(mistakes))
        return settings


def _check_together(settings: Settings) -> Iterator[str]:
    """Find values that are good alone and not together."""
    renew, lease = settings.store.renew_seconds, settings.store.lease_seconds
    if renew > lease / 2:  # or a lease would end between two renewals
        most = "half of IDEFICS2_STORE_LEASE_SECONDS"
        yield f"IDEFICS2_STORE_RENEW_SECONDS must be at most {most}, {lease / 2:g}, not {renew:g}"
    if settings.store.replica_url and not settings.store.url:
        yield "IDEFICS2_STORE_REPLICA_URL needs IDEFICS2_STORE_URL: SQLite has no replicas"
    held, limits = settings.gate.max_held_bytes, settings.limits
    faces = {"GRPC": settings.grpc.max_receive_bytes, "HTTP": settings.http.max_receive_bytes}
    face = max(faces, key=faces.__getitem__)
    least = 2 * (faces[face] + limits.max_images * limits.max_image_bytes)
    if held < least:  # or a request of that size would never be let in: one key has no more than half
        images = "IDEFICS2_LIMITS_MAX_IMAGES * IDEFICS2_LIMITS_MAX_IMAGE_BYTES"
        sizes = f"IDEFICS2_{face}_MAX_RECEIVE_BYTES + {images}"
        yield f"IDEFICS2_GATE_MAX_HELD_BYTES must be at least twice {sizes}, {least}, not {held}"


def describe() -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of every setting, in the order of the table."""
    for section_name, section in Settings.model_fields.items():
        kind = section.annotation
        if kind is None or not issubclass(kind, _Section):
            continue
        for field_name, field in kind.model_fields.items():
            default = "" if field.default in (None, "") else str(field.default)
            yield _variable(section_name, field_name), default, field.description or ""


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _variable(*path: str) -> str:
    return PREFIX + "_".join(path).upper()


def _explain(detail: Any) -> str:  # pydantic's ErrorDetails
    name = _variable(*(str(part) for part in detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"{name} is not a setting of this service"
    return f"{name}: {_hide(detail['msg'])}, not {_hide(repr(detail['input']))}"


def _hide(text: str) -> str:
    """Leave out of a URL who calls, and by which password: the message goes to the log."""
    return _CREDENTIALS.sub("...", text)
