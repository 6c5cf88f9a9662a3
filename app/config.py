"""All settings, read once from the environment: the only module that looks at it.

TANDEM_<GROUP>__<NAME> sets a value, for instance TANDEM_WORKER__LEASE_SECONDS=30; lists and maps are JSON.
DATABASE_URL and DATABASE_LISTEN_URL carry no prefix.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ConfigurationError

CHECKOUT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
JwtAlgorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"
]
Share = Annotated[float, Field(gt=0, le=1)]


class Group(BaseModel):
    """A group of settings. An unknown name in it is an error, so that a typing mistake is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(Group):
    """Connections. A dead peer is noticed within about 5 s, a silent one after `call_timeout_seconds`."""

    connect_timeout_seconds: Annotated[int, Field(ge=2)] = 5
    call_timeout_seconds: Seconds = 15.0
    keepalives_idle_seconds: Count = 2
    keepalives_interval_seconds: Count = 1
    keepalives_count: Count = 2
    tcp_user_timeout_ms: Count = 4000
    lock_timeout_ms: Count = 2000
    idle_in_transaction_timeout_ms: Count = 15000
    backoff_first_seconds: Seconds = 0.1
    backoff_most_seconds: Seconds = 5.0
    tls: Literal["verify-full", "any"] = "verify-full"
    """What DATABASE_URL must ask for when it leads over a network; `any` leaves it to the URL."""
    prepared_statements: bool = True
    """Behind a transaction pooler nothing is prepared, whatever this says."""
    pooler: Literal["auto", "none", "transaction"] = "auto"
    """Whether `database_url` leads through a transaction pooler; `auto` looks at the start of each connection."""
    allow_data_loss: bool = False
    """Let API and workers start on a server that may lose what it acknowledged (fsync off, tables UNLOGGED)."""
    pool_size: Count = 10
    pool_overflow: Annotated[int, Field(ge=0)] = 0
    pool_wait_seconds: Seconds = 5.0
    embedded_settings: dict[str, str] = Field(default_factory=dict)
    """Extra postgresql.conf lines of the embedded server, taken over at its next start."""


class WorkerSettings(Group):
    """One worker process: what it claims, how long it may hold it, how it ends."""

    mode: Literal["poll", "listen", "hybrid"] = "hybrid"
    queues: dict[str, Count] = Field(
        default_factory=lambda: {"default": 1, "conversations": 1, "customers": 1, "notifications": 1}
    )
    """Queue name to weight."""
    slots: Count = 50
    claim_batch: Count = 200
    prefetch_batches: Count = 2
    lease_seconds: Seconds = 30.0
    poll_seconds: Seconds = 10.0
    """How often mode `poll` looks; `hybrid` polls on its own schedule after falling asleep."""
    finish_batch: Count = 200
    finish_delay_ms: Seconds = 5.0
    crash_limit: Count = 3
    drain_seconds: Seconds = 30.0
    scale_within_seconds: Seconds = 30.0
    """`--processes auto` and the gauge of wanted workers: how soon what waits should have been started."""
    scale_up_seconds: Seconds = 5.0
    scale_down_seconds: Seconds = 60.0
    """The least time between two steps up, and how long one process must have been spare before it is ended."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 0


class SweeperSettings(Group):
    """The periodic services; each has its own pace and touches a bounded number of rows at a time."""

    every_seconds: Seconds = 5.0
    leader_lease_seconds: Seconds = 15.0
    batch: Count = 1000
    reconcile_every_seconds: Seconds = 60.0
    retention_days: Count = 7


class JwtSettings(Group):
    """JSON Web Tokens: whose are believed, under which key, and where they say what about the caller."""

    secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """The shared key of the HS algorithms."""
    key_file: Path | None = None
    """The issuer's public key as PEM, or its keys as a JWK set."""
    algorithms: tuple[JwtAlgorithm, ...] = ()
    issuer: str = ""
    audience: str = ""
    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30.0
    most_lifetime_seconds: Seconds = 86400.0
    """Tokens made for longer than this are refused: they cannot be taken back."""
    roles_claim: str = "roles"
    """Claims by name, or by a path like realm_access.roles."""
    customer_claim: str = "customer"
    tier_claim: str = "tier"
    scopes_claim: str | None = None
    """Where permissions stand that narrow the roles' (`jobs:read jobs:*`); unset, tokens are not narrowed."""
    default_roles: tuple[str, ...] = ("user",)
    """The roles of a token that names none."""

    @property
    def enabled(self) -> bool:
        """Whether tokens are taken at all."""
        return self.secret is not None or self.key_file is not None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.enabled:
            return self
        shared = len(self.secret.get_secret_value().encode()) if self.secret is not None else 0
        symmetric = {name for name in self.algorithms if name.startswith("HS")}
        if self.secret is not None and self.key_file is not None:
            raise ValueError("set either SECRET or KEY_FILE")
        if not (self.algorithms and self.issuer and self.audience):
            raise ValueError("ALGORITHMS, ISSUER and AUDIENCE are needed with a key")
        # A public key taken for a shared secret would let everybody sign.
        if symmetric != (set(self.algorithms) if self.secret is not None else set()):
            raise ValueError("SECRET goes with HS algorithms alone, KEY_FILE with the others")
        if any(shared * 8 < int(name[2:]) for name in symmetric):
            raise ValueError("SECRET is shorter than the hash of its algorithm (RFC 7518, section 3.2)")
        return self


class ApiSettings(Group):
    """The HTTP edge."""

    host: str = "127.0.0.1"
    port: Port = 8080
    request_seconds: Seconds = 10.0
    body_limit_bytes: Count = 2 * MIB
    gather_most: Annotated[int, Field(ge=1, le=1000)] = 64
    """Ends of conversations in one transaction, at most; 1: each in a transaction of its own."""
    gather_limit: Count = 2000
    """How many of them may wait for such a transaction and its answer before more are told to come back later."""
    cursor_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Signs the cursors of lists; the same for all API processes. Unset, each process takes cursors of its own only."""
    auth: Literal["required", "off"] | None = None
    """Unset: off for the embedded database behind a loopback address, required otherwise. `off` needs loopback."""
    jwt: JwtSettings = JwtSettings()
    key_cache_seconds: Seconds = 5.0
    """How long a good API key is believed without looking again: so long may a revoked one still work."""
    head_seconds: Seconds = 10.0
    """Within which a request's head must have come; also how long a connection may stay silent before its first."""
    body_window_seconds: Seconds = 10.0
    body_bytes_per_second: Annotated[int, Field(ge=0)] = 1024
    """What a body must bring on average in each window, else the connection ends; 0 lets it be as slow as it likes."""
    stall_seconds: Seconds = 30.0
    """How long an answer may wait for a client that does not read."""
    connections: Count = 2000
    connections_per_address: Count = 500
    """A proxy in front is one address: raise it there to what the proxy may hold open."""
    failures_per_minute: Count = 60
    """Wrong credentials from one address, from which on it is answered 429 for the rest of a minute."""


class ConversationSettings(Group):
    """The conversations application (product page, section 2)."""

    fallback_delay_seconds: Seconds = 600.0
    fallback_batch: Count = 100
    log_limit_bytes: Count = MIB
    candidates_ttl_hours: Seconds = 12.0
    soft_limit_seconds: Seconds = 240.0
    hard_limit_seconds: Seconds = 300.0
    retry_delays_seconds: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (30.0, 300.0, 1800.0, 7200.0)
    """Before the 2nd, 3rd, ... try; one try more than there are delays."""
    crash_limit: Count = 3
    agents_fresh_seconds: Annotated[float, Field(ge=0)] = 15.0
    """How long a worker may go on with the agents' tables as it read them."""
    scoring: dict[str, float] = Field(default_factory=dict)
    """Weights of the score that differ from the default (docs/scoring.md)."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Scores from which a friendship level holds: `acquaintance`, `friend`."""
    selection: dict[str, float | list[float]] = Field(default_factory=dict)
    """Rules for choosing agents that differ from the default (docs/scoring.md)."""


class CustomerSettings(Group):
    """The customers application (product page, section 3). Tiers, limits and prices are rows, not settings."""

    busy_retry_seconds: Count = 30
    """What Retry-After says to a customer who is refused because the system is full."""
    warn_at: tuple[Share, ...] = (0.80, 0.95)
    """Shares of the daily quota at which a customer is warned, once each a day."""
    suggest_after_days: Count = 3
    """Days within the last 14 on which the last warning was reached before a higher tier is suggested."""
    light_bytes: Count = 16 * 1024
    """Jobs whose input is at most this large count as light in peak hours."""
    priority: dict[str, float] = Field(default_factory=dict)
    """Numbers of the priority formula that differ from the default (docs/customers.md)."""
    recalculate_every_seconds: Seconds = 60.0
    job_seconds: Seconds = 120.0
    """Time limit of a workflow's job."""
    health_every_seconds: Seconds = 300.0
    """How often each workflow gets a canary job; it is unhealthy when twice that has passed without an answer."""
    operator_email: str | None = None
    """Who hears of workflows' jobs that fail with class auth, at once, beside the customer; needs `smtp_host`."""


class NotificationSettings(Group):
    """How mail and webhooks leave. Without `smtp_host` no mail is sent; the notification stays readable in the API."""

    smtp_host: str | None = None
    smtp_port: Port = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    mail_from: str = "tandem@localhost"
    timeout_seconds: Seconds = 10.0
    webhook_private_addresses: bool = False
    """Whether webhooks may go to loopback, private and other special addresses, and by plain http: tests only."""


class TopicSettings(Group):
    """The topics application (product page, section 4)."""

    fill_every_seconds: Seconds = 1.0
    """How often the sweeper carries on with new groups' history and replays."""
    keep_every_seconds: Seconds = 60.0
    """How often partitions of logs are made and dropped, and old message ids forgotten."""
    seal_every_seconds: Seconds = 1.0
    example: bool = False
    """Whether workers run the worked example's consumers (camera events, AI results, notifications, audit logs)."""
    archive_folder: Path = CHECKOUT / ".tandem" / "archive"
    """Long-term storage of the example's audit logs."""
    key_file: Path | None = None
    """Keys that encrypt payloads (docs/topics.md); the same file for API and workers."""
    keys: SecretStr | None = None
    """The same as the file's text, for programs that get their secrets in the environment; one of both."""
    sms_gateway: str | None = None
    push_gateway: str | None = None
    webhook_secret: SecretStr = SecretStr("whsec_" + "dGFuZGVtIHdvcmtlZCBleGFtcGxlIG9ubHku")
    """Signs what the example's notifications post; set your own."""
    audit_folder: Path = CHECKOUT / ".tandem" / "audit"
    """Where the audit log's signing key and signed heads lie: outside the database, best on another machine."""


class LoggingSettings(Group):
    """What is written to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "text"


class Settings(BaseSettings):
    """Every setting of a process; immutable, so that nothing changes under a running worker."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix="TANDEM_", env_nested_delimiter="__", extra="ignore", populate_by_name=True
    )

    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL", repr=False)
    """Any libpq URL or connection string; unset means the embedded server of this checkout."""
    database_listen_url: str | None = Field(default=None, validation_alias="DATABASE_LISTEN_URL", repr=False)
    """A direct connection for LISTEN when `database_url` goes through a transaction pooler."""
    handlers: Annotated[tuple[str, ...], NoDecode] = ()
    """Own handlers beside the applications', by comma: `module:name` of a Registry or of a function that fills one."""
    database: DatabaseSettings = DatabaseSettings()
    worker: WorkerSettings = WorkerSettings()
    sweeper: SweeperSettings = SweeperSettings()
    api: ApiSettings = ApiSettings()
    conversations: ConversationSettings = ConversationSettings()
    customers: CustomerSettings = CustomerSettings()
    notifications: NotificationSettings = NotificationSettings()
    topics: TopicSettings = TopicSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("handlers", mode="before")
    @classmethod
    def _by_comma(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )


def load_settings() -> Settings:
    """Read the environment. Raises ConfigurationError that names each offending variable."""
    try:
        settings = Settings()
    except ValidationError as error:
        problems = [f"{_variable(one['loc'])}: {one['msg']}" for one in error.errors(include_input=False)]
        raise ConfigurationError(
            "invalid-settings",
            "the environment does not fit: " + "; ".join(problems),
            detail={"problems": problems},
        ) from None
    # An empty variable is how shells and compose files say "unset".
    blank = {name: None for name in ("database_url", "database_listen_url") if getattr(settings, name) == ""}
    return settings.model_copy(update=blank)


def _variable(location: tuple[int | str, ...]) -> str:
    first = str(location[0])
    if first.startswith("DATABASE_"):
        return first
    return "TANDEM_" + "__".join(str(part).upper() for part in location)
