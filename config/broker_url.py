"""Validates TIDEGATE_BROKER_URL and TIDEGATE_BELL_URL for each kind of server: Redis, RabbitMQ, SQS."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

REDIS = frozenset({"redis", "rediss", "redis+socket"})
AMQP = frozenset({"amqp", "amqps"})
SQS = "sqs"

_WRITE = {
    **dict.fromkeys(
        ("redis", "rediss"), "redis://:password@host:6379/0, or rediss:// for TLS, with ?ca=/path/to/ca.pem"
    ),
    "redis+socket": "redis+socket:///path/to/redis.sock",
    **dict.fromkeys(AMQP, "amqp://user:password@host:5672/virtualhost, or amqps:// for TLS, with ?ca=/path/to/ca.pem"),
    SQS: "sqs:// or sqs://keyid:accesskey@/, with ?region=… and, where needed, prefix=… or queues=https://…/",
}
_TLS_FILES = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
"""Files that a URL over TLS may name, and what redis-py and kombu call them in a URL of Redis."""
# Parameters of an SQS URL; see docs/brokers.md.
_SQS_WORDS = frozenset({"region", "prefix", "queues"})


def check_broker_url(value: str) -> str:
    """Validates a broker's URL; returns it as its client reads it.

    Raises ValueError that says what may be written, and never what was: there may be a password in it.
    """
    if value:
        _check(value, REDIS | AMQP | {SQS}, "redis://…, rediss://…, redis+socket://…, amqp://…, amqps://… or sqs://…")
    if scheme_of(value) == SQS and (missing := [name for name in ("boto3", "pycurl") if find_spec(name) is None]):
        raise ValueError(f"sqs:// needs {' and '.join(missing)}: pip install -r requirements-sqs.txt")
    return _as_redis_reads_it(value)


def check_bell_url(value: str) -> str:
    """As `check_broker_url`, for pub/sub, which only Redis has."""
    if value:
        _check(value, REDIS, "redis://…, rediss://… or redis+socket://…")
    return _as_redis_reads_it(value)


def scheme_of(url: str) -> str:
    """The URL's scheme, such as `redis` or `amqps`; empty without one."""
    return url.partition("://")[0] if "://" in url else ""


def words_of(url: str) -> Mapping[str, str]:
    """The URL's query parameters."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def _check(value: str, schemes: frozenset[str], known: str) -> None:
    scheme = scheme_of(value)
    if scheme not in schemes:
        raise ValueError(f"write {known}")
    try:
        parts = urlsplit(value)
        # kombu takes a semicolon for the beginning of another address, of which it would try only the first.
        is_good = not {";", "#"} & set(value) and parts.port != 0 and _CHECKS[scheme](parts, words_of(value))
    except ValueError:  # a port that is no number, brackets that do not match
        is_good = False
    if not is_good:
        raise ValueError(f"write {_WRITE[scheme]}")
    words = words_of(value)
    for name in _TLS_FILES:  # else a wrong path shows in the log only
        if name in words and not (Path(words[name]).is_file() and os.access(words[name], os.R_OK)):
            raise ValueError(f"the file that {name}= names is not there or can't be read")


def _as_redis_reads_it(url: str) -> str:
    if scheme_of(url) != "rediss":
        return url
    words = {_TLS_FILES.get(name, name): said for name, said in words_of(url).items()}
    return urlsplit(url)._replace(query=urlencode(words, safe="/")).geturl()


def _is_redis(parts: SplitResult, words: Mapping[str, str]) -> bool:
    database = parts.path.strip("/")
    return bool(parts.hostname) and (not database or database.isdecimal()) and _fit_tls(words, parts.scheme == "rediss")


def _is_socket(parts: SplitResult, _words: Mapping[str, str]) -> bool:
    return not parts.hostname and len(parts.path) > 1


def _is_amqp(parts: SplitResult, words: Mapping[str, str]) -> bool:
    return bool(parts.hostname) and words.keys() <= _TLS_FILES.keys() and _fit_tls(words, parts.scheme == "amqps")


def _fit_tls(words: Mapping[str, str], is_tls: bool) -> bool:
    """Whether the TLS files fit together: a key needs its certificate, which may have its key in the same file."""
    files = _TLS_FILES.keys() & words.keys()
    return is_tls and ("cert" in files or "key" not in files) if files else True


def _is_sqs(parts: SplitResult, words: Mapping[str, str]) -> bool:
    is_place = words.get("queues", "https://").startswith(("http://", "https://"))
    has_key, has_secret = bool(parts.username), bool(parts.password)
    return has_key == has_secret and parts.path in {"", "/"} and is_place and words.keys() <= _SQS_WORDS


_CHECKS: Mapping[str, Callable[[SplitResult, Mapping[str, str]], bool]] = {
    "redis": _is_redis,
    "rediss": _is_redis,
    "redis+socket": _is_socket,
    "amqp": _is_amqp,
    "amqps": _is_amqp,
    SQS: _is_sqs,
}
