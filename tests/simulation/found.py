"""Plans that broke a rule once: each is kept as a file in found/, and is a test from then on."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.plan import Step

FOLDER = Path(__file__).parent / "found"


def keep(seed: int, plan: Sequence[Step], broken: str) -> Path:
    """Writes a plan that breaks a rule into the folder; returns its file, which wants a telling name."""
    path = FOLDER / f"seed-{seed}.json"
    steps = [[step.at, step.what, step.who, *step.detail] for step in plan]
    lines = ",\n    ".join(json.dumps(step) for step in steps)
    text = f'{{\n  "broken": {json.dumps(broken)},\n  "seed": {seed},\n  "steps": [\n    {lines}\n  ]\n}}\n'
    FOLDER.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def read(path: Path) -> tuple[int, Sequence[Step]]:
    """The seed and the plan in a file."""
    kept = json.loads(path.read_text("utf-8"))
    return kept["seed"], [Step(at, what, who, tuple(detail)) for at, what, who, *detail in kept["steps"]]
