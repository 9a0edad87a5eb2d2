"""Single acts in one process a side: a submit, a poll, a release, a claim with its success."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.price.servers import PriceServer
from benchmarks.price.trees import Tree

_RUN = ("release", "claim and success")


@dataclass
class Spent:
    """What acts of one kind cost a side. `seconds`: of processor time, of one act, a value a round."""

    seconds: list[float] = field(default_factory=list)
    statements: float = 0.0
    buffers: float | None = None


class Side:
    """A process with the application of a tree, that does what it is told."""

    def __init__(self, tree: Tree, folder: Path, server: PriceServer) -> None:
        self.tree = tree
        self._server = server
        self._url = server.make()
        environment = tree.environment(folder, self._url)
        tree.migrate(environment)
        script = Path(__file__).parent / "on_path" / "price_side.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=tree.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.acts: list[str] = self._read()

    def round(self, acts: Sequence[str], times: int) -> dict[str, dict[str, float]]:
        """Does each of these so often, in turns; what all of them cost together, by what is paid and by act."""
        print(json.dumps({"acts": list(acts), "times": times}), file=self._process.stdin, flush=True)
        answer: dict[str, dict[str, float]] = self._read()
        return answer

    def counted(self, acts: Sequence[str], times: int) -> tuple[float, float | None]:
        """Statements and buffers that these acts, one of each, take of the database."""
        before = self._server.sent(self._url)
        own = self.round(acts, times)
        if before is None:
            return sum(own["statements"].values()) / times, None
        after = self._server.sent(self._url)
        assert after is not None
        return (after.statements - before.statements) / times, (after.buffers - before.buffers) / times

    def stop(self) -> None:
        """Ends the process, which has nothing to keep."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the process of {self.tree.name} ended with {self._process.wait()}")
        return json.loads(line)


@contextmanager
def sides(trees: Sequence[Tree], folder: Path, server: PriceServer) -> Iterator[list[Side]]:
    """A process for each tree, ended afterwards."""
    started: list[Side] = []
    try:
        for number, tree in enumerate(trees):
            data = folder / f"side-{number}"
            data.mkdir()
            started.append(Side(tree, data, server))
        yield started
    finally:
        for side in started:
            side.stop()


def measure(
    trees: Sequence[Tree], folder: Path, server: PriceServer, *, pairs: int, times: int
) -> list[dict[str, Spent]]:
    """What each act costs each side, by act. Pairs are interleaved, and every other one goes the other way round."""
    with sides(trees, folder, server) as both:
        acts = [act for act in both[0].acts if all(act in side.acts for side in both)]
        spent = [{act: Spent() for act in acts} for _ in both]
        for side in both:
            side.round(acts, times)  # connections and plans are made
        for number in range(pairs):
            for which in (0, 1) if number % 2 else (1, 0):
                seconds = both[which].round(acts, times)["seconds"]
                for act in acts:
                    spent[which][act].seconds.append(seconds[act] / times)
        for which, side in enumerate(both):
            for group in [[act] for act in acts if act not in _RUN] + ([list(_RUN)] if _RUN[0] in acts else []):
                statements, buffers = side.counted(group, times)
                spent[which][group[-1]].statements = statements
                spent[which][group[-1]].buffers = buffers
        return spent
