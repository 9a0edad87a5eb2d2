"""The part of a plan that is of batches: many jobs of operations that do them together, some of which no call takes."""

import random
from collections.abc import Mapping, Sequence

MOST: Mapping[str, int] = {"models": 6, "bulk": 8, "pooled": 5}
"""Operations that take many jobs in a call, and how many."""
OF_POOLED = ("", "heavy", "single", "rated")
"""The partitions of the downstream `pooled`."""
BAD = "-bad"
"""How the label of a job ends that fails each call it is in."""
HAS_BATCHES = 0.4
_WORKERS = ("io-1", "io-2")


def batched(
    chance: random.Random, at: float, webs: Sequence[str], clients: Sequence[str]
) -> Sequence[tuple[float, str, str, tuple[object, ...]]]:
    """In two of five plans, from this time on: jobs come together, are cancelled, and workers die under their calls."""
    if chance.random() > HAS_BATCHES:
        return []
    steps: list[tuple[float, str, str, tuple[object, ...]]] = []
    for lane in chance.sample([*MOST], k=chance.choice((1, 1, 2))):
        for number in range(chance.choice((2, 3, 4))):
            begins = at + chance.choice((0.0, 0.0, 0.002, 1.0, 4.0))
            steps += _fill(chance, begins, lane, f"{lane}-{number}", (webs, clients))
        if chance.random() < 0.3:
            change = chance.choice((("concurrency", 1), ("concurrency", 3)))
            steps.append((at + chance.uniform(0.5, 5), "change", lane, change))
        if chance.random() < 0.15:
            steps.append((at + chance.uniform(0.2, 4), "pause", lane, (1.5,)))
    for _ in range(chance.choice((0, 1, 1, 2))):
        role = chance.choice(_WORKERS)
        what, detail = chance.choice(
            (
                ("kill", (chance.choice((0.1, 2.0)),)),
                ("kill", (0.1,)),
                ("retire", (chance.choice((0.0, 1.0)),)),
                ("freeze", (chance.choice((0.3, 3.0, 9.0)),)),
                ("cut", (chance.choice(("lost", "unknown", "late")), chance.choice((1, 3)))),
            )
        )
        steps.append((at + chance.uniform(0.2, 6), what, role, detail))
    if chance.random() < 0.2:
        steps.append((at + chance.uniform(0, 3), chance.choice(("lose", "double")), "broker", (0.4, 2.0)))
    return [(round(when, 3), *step) for when, *step in steps]  # type: ignore[misc]


def _fill(
    chance: random.Random, at: float, lane: str, labelled: str, people: tuple[Sequence[str], Sequence[str]]
) -> Sequence[tuple[float, str, str, tuple[object, ...]]]:
    """Jobs of one partition that come together: a few have little time, are bad, or are cancelled soon."""
    size = chance.choice((1, 4, 9, 16))
    bad = set(chance.sample(range(size), k=min(size, chance.choice((0, 0, 1, 1, 2)))))
    labels = tuple(f"{labelled}-{each}{BAD if each in bad else ''}" for each in range(size))
    whose = (chance.choice(people[1]), chance.choice(OF_POOLED) if lane == "pooled" else "")
    timeout, later = chance.choice((60.0, 60.0, 60.0, 7.0)), chance.choice((0.0, 0.0, 0.0, 1.0))
    steps = [(at, "share", lane, (chance.choice(people[0]), *whose, None, timeout, later, *labels))]
    for _ in range(chance.choice((0, 1, 2, 3))):
        some = tuple(chance.sample(labels, k=max(1, size // 4)))
        when = at + later + chance.choice((0.02, 0.05, 0.15, 0.4, 1.0, 3.0)) * chance.uniform(0.5, 1.5)
        steps.append((when, "cancel all", lane, some))
        if chance.random() < 0.3:
            steps.append((when + chance.uniform(0.02, 2), "delete", some[0], ()))
    return steps
