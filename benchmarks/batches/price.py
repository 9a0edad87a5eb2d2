"""What operations without batches pay for them: the same acts, beside the commit before batches."""

import tempfile
from pathlib import Path

from benchmarks.price.__main__ import FULL as _ALL
from benchmarks.price.__main__ import QUICK as _FEW
from benchmarks.price.__main__ import Price, Scale
from benchmarks.price.in_process import measure as measure_acts
from benchmarks.price.servers import price_server
from benchmarks.price.trees import this_tree, tree_of
from benchmarks.verdict import Verdicts

BEFORE = "c0c4460"
FULL, QUICK = _ALL, _FEW
_BUFFERS_MORE = 1.0


def measure(verdicts: Verdicts, scale: Scale, revision: str = BEFORE) -> None:
    """Submit, poll, release, claim and success in one process a side, in interleaved pairs."""
    with tempfile.TemporaryDirectory(prefix="tidegate-price-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user
        trees = [this_tree(), tree_of(revision, folder / "beside")]
        within = folder / "data"
        within.mkdir()
        within.chmod(0o711)
        with price_server(verdicts.database, within) as server:
            ours, theirs = measure_acts(trees, within, server, pairs=scale.pairs, times=scale.times)
    for what in ours:
        price = Price(what=what, database=verdicts.database, ours=ours[what], theirs=theirs[what])
        cells = dict(zip(("own", "other", "ratio", "half", "statements", "buffers"), price.cells()[2:8], strict=True))
        verdicts.add(
            f"{what}, beside {revision}",
            f"processor time {cells['own']} : {cells['other']}, ratio {cells['ratio']} ({cells['half']});"
            f" statements {cells['statements'] or 'with the next'}; buffers {cells['buffers'] or 'not counted'}",
            is_kept=price.is_kept,
        )
