"""Finds the fewest steps of a plan that still break the same rule (delta debugging), and tells what happens then."""

import re
from collections.abc import Callable, Iterator, Sequence

from tests.simulation.plan import Step
from tests.simulation.run import Simulated, simulate

_MOST_TRIES = 400


def rule_of(simulated: Simulated) -> str | None:
    """The name of the rule that did not hold."""
    return simulated.broken.partition(":")[0] if simulated.broken else None


def shrunk(seed: int, plan: Sequence[Step], tell: Callable[[str], None] = lambda _: None) -> Sequence[Step]:
    """The smallest plan that was found. Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
    Input", 2002."""
    rule = rule_of(simulate(seed, plan))
    left, parts, tries = list(plan), 2, 0
    while len(left) > 1 and tries < _MOST_TRIES:
        size = max(1, len(left) // parts)
        for smaller in _without(left, size):
            tries += 1
            if rule_of(simulate(seed, smaller)) == rule:
                left, parts = smaller, max(2, parts - 1)
                tell(f"{len(left)} steps break it, too")
                break
        else:
            if size == 1:
                break
            parts = min(len(left), parts * 2)
    return left


def _without(steps: Sequence[Step], size: int) -> Iterator[list[Step]]:
    """The steps without a part of them, one part after the other; the last ones first, for what came later matters."""
    for begin in reversed(range(0, len(steps), size)):
        yield [*steps[:begin], *steps[begin + size :]]


def story_of(simulated: Simulated, plan: Sequence[Step]) -> str:
    """The plan, and what happened, with short names for the jobs."""
    lines = [f"{at:9.4f}  {who:<14} {what}" for at, who, what in simulated.story]
    text = "\n".join(["The plan:", *map(str, plan), "", "What happened:", *lines, "", str(simulated.broken)])
    names: dict[str, str] = {}
    for label, job in re.findall(r"(\S+) is accepted as ([0-9a-f]{32})", text):
        names.setdefault(job, label)
    for number, job in enumerate(dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b", text))):
        names.setdefault(job, f"unknown-{number}")
    return re.sub(r"\b[0-9a-f]{32}\b", lambda found: names[found[0]], text)
