"""What TIDEGATE_BROKER_URL and TIDEGATE_BELL_URL may say, by the kind of server that the scheme names."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from urllib.parse import SplitResult, parse_qsl, urlsplit

REDIS = frozenset({"redis", "rediss", "redis+socket"})
AMQP = frozenset({"amqp", "amqps"})
SQS = "sqs"

_WRITE = {
    **dict.fromkeys(("redis", "rediss"), "redis://:password@host:6379/0, or rediss:// for TLS"),
    "redis+socket": "redis+socket:///path/to/redis.sock",
    **dict.fromkeys(AMQP, "amqp://user:password@host:5672/virtualhost, or amqps:// for TLS, with ?ca=/path/to/ca.pem"),
    SQS: "sqs:// or sqs://keyid:accesskey@/, with ?region=… and, where needed, prefix=… or queues=https://…/",
}
# Of a URL of SQS; see docs/brokers.md.
_SQS_WORDS = frozenset({"region", "prefix", "queues"})


def check_broker_url(value: str) -> str:
    """The URL as it is. ValueError says what may be written, and never what was: there may be a password in it."""
    if value:
        _check(value, REDIS | AMQP | {SQS}, "redis://…, rediss://…, redis+socket://…, amqp://…, amqps://… or sqs://…")
    if scheme_of(value) == SQS and (missing := [name for name in ("boto3", "pycurl") if find_spec(name) is None]):
        raise ValueError(f"sqs:// needs {' and '.join(missing)}: pip install -r requirements-sqs.txt")
    return value


def check_bell_url(value: str) -> str:
    """As `check_broker_url`, for what Redis alone can do."""
    if value:
        _check(value, REDIS, "redis://…, rediss://… or redis+socket://…")
    return value


def scheme_of(url: str) -> str:
    """`redis`, `rediss`, `redis+socket`, `amqp`, `amqps`, `sqs` or whatever stands there."""
    return url.partition("://")[0] if "://" in url else ""


def words_of(url: str) -> Mapping[str, str]:
    """What stands behind the question mark."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def _check(value: str, schemes: frozenset[str], known: str) -> None:
    scheme = scheme_of(value)
    if scheme not in schemes:
        raise ValueError(f"write {known}")
    try:
        parts = urlsplit(value)
        # kombu takes a semicolon for the beginning of another address, of which it would try only the first.
        is_good = ";" not in value and parts.port != 0 and _CHECKS[scheme](parts, words_of(value))
    except ValueError:  # a port that is no number, brackets that do not match
        is_good = False
    if not is_good:
        raise ValueError(f"write {_WRITE[scheme]}")


def _is_redis(parts: SplitResult, _words: Mapping[str, str]) -> bool:
    database = parts.path.strip("/")
    return bool(parts.hostname) and (not database or database.isdecimal())


def _is_socket(parts: SplitResult, _words: Mapping[str, str]) -> bool:
    return not parts.hostname and len(parts.path) > 1


def _is_amqp(parts: SplitResult, words: Mapping[str, str]) -> bool:
    return bool(parts.hostname) and words.keys() <= ({"ca"} if parts.scheme == "amqps" else set())


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
