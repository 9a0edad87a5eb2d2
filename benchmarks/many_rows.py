"""A submit, polls and a job with 1,000,000 final and 100,000 queued rows, against 1,000 of each.

`python -m benchmarks.many_rows --help`. Interleaved pairs, each the median of twenty; on PostgreSQL also the shared
buffers of all statements, by EXPLAIN (ANALYZE, BUFFERS).
"""

from collections.abc import Iterator, Sequence

from benchmarks.backlog.deep_lane import DeepLane
from benchmarks.backlog.pairs import MOST_BUFFERS_APART, MOST_RATIO, Act, Pairs, compare
from benchmarks.backlog.rows import fresh
from benchmarks.speed import command
from benchmarks.speed.command import TITLES, Scale
from benchmarks.speed.figure import Figure

_FEW = 1_000
_ACTS = (
    Act(name="submit", do=DeepLane.submit),
    Act(name="poll, pending", do=DeepLane.poll),
    Act(name="poll, final", do=DeepLane.poll_final),
    Act(name="job, from release to outcome", do=DeepLane.run),
)


def measure(database: str, scale: Scale) -> Sequence[Figure]:
    """Milliseconds of each, and buffers."""
    with fresh(database) as few_url, fresh(database) as many_url:
        few = DeepLane(few_url, _FEW, final=_FEW)
        many = DeepLane(many_url, scale.queued, final=scale.final)
        found = [compare(few, many, act, scale.pairs) for act in _ACTS]
        for lane in (few, many):
            lane.database.close()
    rows = f"{scale.final:,} final and {scale.queued:,} queued rows"
    return [figure for pairs in found for figure in _figures(pairs, TITLES[database], rows)]


def _figures(pairs: Pairs, title: str, rows: str) -> Iterator[Figure]:
    yield Figure(
        what=f"{pairs.name}, {rows}",
        database=title,
        unit="ms",
        ours=[1000 * seconds for seconds in pairs.many],
        yardstick=f"with {_FEW:,} of each",
        theirs=[1000 * seconds for seconds in pairs.few],
        reach=MOST_RATIO,
        better="less",
    )
    if pairs.buffers:
        few, many = pairs.buffers
        yield Figure(
            what=f"{pairs.name}, buffers more than the {few} with {_FEW:,} of each",
            database=title,
            unit="",
            ours=[many - few],
            reach=MOST_BUFFERS_APART,
            better="less",
        )


if __name__ == "__main__":
    command.main("many_rows", __doc__, measure)
