"""Every setting with its type, default and meaning. `tidegate settings` shows them with their values."""

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL

from config.broker_url import check_bell_url, check_broker_url
from config.ca_file import CaFile
from config.database_url import check_database_url
from config.environment import ENCODING, ENV_FILE, IN_A_FILE, environment, place_of, value_of
from config.origins import check_origins
from config.setting_types import Connections, Count, IPNetwork, Keys, Limit, Port, Share, Threshold, Workers
from config.table_types import plain_words
from tidegate.errors import ConfigurationError
from tidegate.operations.http_url import parse_url
from tidegate.operations.operation import MEGABYTE
from tidegate.operations.worker_range import WorkerRange
from tidegate.rate import Rate
from tidegate.timeformat import Duration

PREFIX = "TIDEGATE_"
# Read by the client, which may share a shell or an .env file with the server.
_CLIENT_SETTINGS = frozenset({"TIDEGATE_URL", "TIDEGATE_KEY"})


class Settings(BaseSettings):
    """The settings of every process; each is read from TIDEGATE_<NAME> or the file .env.

    Where a value is a secret, TIDEGATE_<NAME>_FILE names a file that holds it (`read` does that).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding=ENCODING, extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address that the web server listens on.")
    port: Port = Field(8000, description="Port that the web server listens on.")
    data: Path = Field(Path("data"), description="Folder of everything that the embedded default keeps.")
    operations_file: Path = Field(
        Path("config/operations.toml"), description="HTTP operations and what each downstream can take."
    )
    operations: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Modules with Python operations, by comma, beside tasks/operations/ and installed entry points."
    )
    shared_environment: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Further variables, by comma, for web server, scheduler and the worker of webhooks; workers of "
        "operations have all.",
    )
    database_url: Annotated[str, AfterValidator(check_database_url)] = Field(
        "", description="SQLAlchemy URL; empty: SQLite in the data folder."
    )
    database_options: Literal["session", "transaction"] = Field(
        "session",
        description="When PostgreSQL is told the options that Tidegate needs: as a session begins, or, behind a pooler "
        "that gives each transaction another session, as each transaction begins.",
    )
    database_connections: Connections = Field(
        None, description="Most connections of one pool to PostgreSQL; empty: thrice what the process usually needs."
    )
    database_prepare_threshold: Threshold = Field(
        None,
        description="Executions after which a session of PostgreSQL keeps a statement's plan, or off; empty: 5, and "
        "off with options by transaction.",
    )
    broker_url: Annotated[str, AfterValidator(check_broker_url)] = Field(
        "",
        description="Celery broker, redis://, amqp:// or sqs://; empty: a Valkey server that `make run` starts.",
    )
    bell_url: Annotated[str, AfterValidator(check_bell_url)] = Field(
        "",
        description="Redis over which processes tell each other of changes, where the broker is none; without any they "
        "look, a few times a second.",
    )
    public_url: str = Field("", description="Base of the links in answers; empty: as the request came in.")
    trusted_proxies: Annotated[tuple[IPNetwork, ...], NoDecode] = Field(
        (), description="Networks of proxies whose Forwarded headers are believed, by comma."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, by comma, as https://app.example.com; with keys also *."
    )
    auth: Literal["off", "keys"] = Field(
        "off", description="off: everyone is the one client and operator, on loopback only. keys: API keys are needed."
    )
    submit_limit: Limit = Field(None, description="Submits of one client, 100/s; empty: 12000/m with keys, else off.")
    poll_limit: Limit = Field(None, description="Reads of one client, 100/s; empty: 30000/m with keys, else off.")
    max_waiting_bytes: Share = Field(None, description="Bytes of one client's waiting inputs; empty: 2 GB with keys.")
    max_backlog: int = Field(1_000_000, ge=1, description="Jobs of one client that may wait for one downstream.")
    lease_seconds: int = Field(15, ge=2, le=3600, description="How long a worker that fell silent keeps its jobs.")
    grace_seconds: int = Field(5, ge=0, le=600, description="How long a stopping worker may finish what it runs.")
    retention: Duration = Field(timedelta(days=7), description="How long final jobs are kept.")
    web_workers: Count = Field(1, description="Web server processes.")
    web_threads: Count = Field(64, description="Requests side by side in one web process.")
    held_requests: int = Field(
        512, ge=0, le=10_000, description="Long polls and event streams that one web process holds beside those."
    )
    held_per_client: Share = Field(None, description="Of those, one client's; empty: half with keys, else all.")
    hold_seconds: int = Field(
        20, ge=1, le=600, description="Longest silence: the cap of Prefer: wait, the heartbeat of event streams."
    )
    idle_seconds: int = Field(
        10,
        ge=1,
        le=60,
        description="How long a connection may send no whole request head; a proxy that keeps connections has to let "
        "them go before.",
    )
    io_workers: Workers = Field(
        WorkerRange(lowest=1, highest=2),
        description="Worker processes for operations that wait for the network: a number, or a range such as 1-4, "
        "within which they are started while they are wanted.",
    )
    io_concurrency: Count = Field(32, description="Attempts side by side in one io worker (threads).")
    cpu_workers: Workers = Field(
        WorkerRange(lowest=1, highest=1), description="Worker processes for operations that compute; also a range."
    )
    cpu_concurrency: Count = Field(2, description="Attempts side by side in one cpu worker (processes).")
    worker_nice: Annotated[int, Field(ge=0, le=19)] = Field(
        0,
        description="How far workers give way to the web server of the same machine, as Unix counts it; on a full one "
        "they then miss slots of paced downstreams.",
    )
    max_body: int = Field(20 * MEGABYTE, ge=1, description="Largest request body, bytes; an operation may take less.")
    max_result: int = Field(5 * MEGABYTE, ge=1, description="Largest result, bytes.")
    ca_file: CaFile = Field(
        None, description="Authorities' certificates (PEM) that HTTP operations and webhooks trust beside the system's."
    )
    sample_port: int = Field(8001, ge=0, le=65535, description="Port of the sample downstream; 0: not started.")
    events: bool = Field(
        False, description="Celery events, for Flower: they cost a worker two fifths of the jobs it can do."
    )
    webhook_networks: Annotated[tuple[IPNetwork, ...], NoDecode] = Field(
        (), description="Private networks that webhooks may reach, by comma, such as 10.1.0.0/16; public ones they may."
    )
    webhook_timeout: Duration = Field(timedelta(seconds=15), description="One sending of a webhook, in total.")
    webhook_workers: Workers = Field(
        WorkerRange(lowest=1, highest=1), description="Worker processes that send webhooks; also a range."
    )
    webhook_concurrency: Count = Field(16, description="Webhooks sent side by side by one worker (threads).")
    webhook_key: Keys = Field(
        SecretStr(""),
        description="What webhook secrets are made from, the same in all processes: 32 bytes in base64; of several, by "
        "comma, the first makes new ones; empty: made once, in the data folder.",
    )
    signing_key: Keys = Field(
        SecretStr(""),
        description="What tickets for events are signed with, given like the key before; else made likewise.",
    )
    sealing_key: Keys = Field(
        SecretStr(""),
        description="What access tokens are sealed with in the database, in workers of operations only: 32 bytes in "
        "base64; of several, by comma, the first seals; empty: each worker process fetches tokens of its own.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="json: an object a line, with job id, attempt, downstream and trace id."
    )

    @field_validator("submit_limit", "poll_limit", mode="before")
    @classmethod
    def _read_rate(cls, value: object) -> object:
        return Rate.parse(value) if isinstance(value, str) and value not in {"", "off"} else value or None

    @field_validator(
        "operations", "shared_environment", "trusted_proxies", "cors_origins", "webhook_networks", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        if value and "?" in parse_url(value).target:
            raise ValueError("no query: links continue behind it, as in https://jobs.example/gateway")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_open_door(self) -> "Settings":
        check_origins(self.cors_origins, has_keys=self.auth == "keys")
        if self.auth == "off" and not _is_loopback(self.host):
            raise ValueError(
                f"TIDEGATE_HOST={self.host} can be reached from elsewhere, and TIDEGATE_AUTH=off lets everyone in; "
                "set TIDEGATE_AUTH=keys and make a key (tidegate keys create), or listen on 127.0.0.1"
            )
        return self

    @property
    def database(self) -> str:
        """The database's URL, the embedded default included."""
        file = self.data.resolve() / "tidegate.db"
        # Written by SQLAlchemy: a folder's name may have what means something in a URL.
        return self.database_url or URL.create("sqlite", database=str(file)).render_as_string()

    @property
    def bell(self) -> str:
        """The URL of the server over which processes notify each other; one without pub/sub carries nothing."""
        return self.bell_url or self.broker_url

    @property
    def run_folder(self) -> Path:
        """The folder of pid files and health files."""
        return self.data / "run"


@cache
def settings() -> Settings:
    """The settings of this process, read once. Raises ConfigurationError that names each bad one."""
    return read()


def read() -> Settings:
    """Reads the settings anew; see `settings`."""
    current, faults = read_with_faults()
    if faults or current is None:
        raise ConfigurationError(*faults)
    return current


def read_with_faults() -> tuple[Settings | None, list[str]]:
    """Reads the settings, and every fault in a line; a bad setting has its default.

    None in place of the settings: what several say together is bad, or nothing could be read.
    """
    try:
        given = environment()
        values = _from_files(given)
    except ConfigurationError as error:
        return None, list(error.faults)
    faults = [
        f"{place_of(name)}: no such setting; {_meant(name)}`tidegate settings` lists them"
        for name in sorted(given)
        if name.startswith(PREFIX)
        and name not in _CLIENT_SETTINGS
        and not _is_setting(name)
        and not _is_setting(name.removesuffix(IN_A_FILE))
    ]
    try:
        return Settings(**values), faults
    except ValidationError as error:
        bad = {_name(fault["loc"]): plain_words(fault) for fault in error.errors()}
    faults += [f"{place_of(name)}: {words}" for name, words in bad.items()]
    fields = Settings.model_fields
    defaults = {name: field.default for name, field in fields.items() if PREFIX + name.upper() in bad}
    try:
        return Settings(**{**values, **defaults}), faults
    except ValidationError:  # the fault is in several settings together
        return None, faults


def _meant(name: str) -> str:
    close = get_close_matches(name, [PREFIX + field.upper() for field in Settings.model_fields], n=1)
    return f"did you mean {close[0]}? " if close else ""


def _is_setting(name: str) -> bool:
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() in Settings.model_fields


def _from_files(given: Mapping[str, str]) -> dict[str, Any]:
    """The settings whose values are in files of their own. TIDEGATE_OPERATIONS_FILE is a setting itself."""
    names = {field: PREFIX + field.upper() for field in Settings.model_fields}
    return {
        field: value_of(name, given)
        for field, name in names.items()
        if given.get(name + IN_A_FILE) and not _is_setting(name + IN_A_FILE)
    }


def _name(location: tuple[int | str, ...]) -> str:
    return PREFIX + str(location[0]).upper().removeprefix(PREFIX) if location else "settings"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
