"""The JSON shapes of partitions in the API's answers, as TypedDicts; see `shapes`."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from webapp.http.shapes import Count, Instant, Url, exact

Weight = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


@exact
class DeclaredPartition(TypedDict):
    """A partition's weight and limits as the operations file declares them."""

    weight: Weight
    rate: list[str]
    burst: AtLeastOne
    concurrency: AtLeastOne | None


@exact
class PartitionLinks(TypedDict):
    """Absolute URLs of a partition."""

    self: Url


@exact
class Partition(TypedDict):
    """A partition of a downstream: its weight and limits, what waits in it, and what is open."""

    client: str | None
    """The id of the client whose partition it is; null: all clients share it."""
    name: str | None
    """Null: its client's unnamed one."""
    weight: Weight
    """Beside the client's other partitions; of an unnamed one that of its client, beside the other clients."""
    rate: list[str]
    """Beneath the downstream's own; empty: as much as that allows."""
    burst: AtLeastOne
    concurrency: AtLeastOne | None
    order: Literal["fair", "strict"]
    paused: bool
    resting_until: Instant | None
    """Gets nothing until then, because of answers to its own calls, where the downstream refuses by partition."""
    resting_because: Literal["refusals", "quota"] | None
    """The downstream said that it is full, or announced that a quota is used up."""
    declared: DeclaredPartition
    changed: list[str]
    """Which of weight and limits were changed since."""
    waiting: Count
    """Jobs that wait."""
    in_flight: Count
    """Calls that are open."""
    share: Annotated[float, Field(ge=0, le=1)] | None
    """The part of the downstream's calls that is its own by the weights, beside all that wait now; null: it does not
    wait, is paused or rests."""
    links: PartitionLinks


@exact
class PartitionList(TypedDict):
    """A page of partitions."""

    partitions: list[Partition]
    next: Url | None
    """None: this is the last page."""
