"""The types of settings' values, with their bounds."""

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, SecretStr
from pydantic_settings import NoDecode

from config.key_files import check_given_keys
from tidegate.operations.worker_range import WorkerRange
from tidegate.rate import Rate


def _read_workers(value: object) -> object:
    return WorkerRange.parse(str(value)) if isinstance(value, str | int) else value


Port = Annotated[int, Field(ge=1, le=65535)]
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Share = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(lambda value: value or None)]
Connections = Annotated[Annotated[int, Field(ge=2)] | None, BeforeValidator(lambda value: value or None)]
Threshold = Annotated[
    Annotated[int, Field(ge=1)] | Literal["off"] | None, BeforeValidator(lambda value: None if value == "" else value)
]
Limit = InstanceOf[Rate] | Literal["off"] | None
Count = Annotated[int, Field(ge=1, le=1000)]
Workers = Annotated[InstanceOf[WorkerRange], NoDecode, BeforeValidator(_read_workers)]
Keys = Annotated[SecretStr, AfterValidator(check_given_keys)]
