"""Planted bugs of batches: who goes together, what each is told, and the one place and turn that a call has."""

from tests.simulation.bug import Bug

_ENDINGS = "tidegate/execution/batch_endings.py"
_LEAD = "tidegate/execution/batch_lead.py"
_FOLD = "tidegate/dispatch/batches.py"
_RUNNER = "tidegate/execution/batch_runner.py"
_STORE = "tidegate/execution/batch_store.py"

BATCH_BUGS: tuple[Bug, ...] = (
    # Who goes together.
    Bug(
        "halves are joined again",
        _STORE,
        'values["batch"] = ending.batch.text if ending.batch else None',
        'values["batch"] = None',
    ),
    Bug(
        "what is left out is called all the same",
        _RUNNER,
        "        staying = [claim for claim in call.claims if claim.job_id in counting]\n",
        "        staying = [*call.claims]\n",
    ),
    Bug(
        "who is left keeps the key of all",
        _RUNNER,
        "        changed = InBatch.among([claim.job_id for claim in staying])[0].id\n",
        "        changed = call.batch_id\n",
    ),
    Bug(
        "partitions mix",
        "tidegate/dispatch/partitions/shared_lanes.py",
        "            along |= folded.companions\n",
        "            others = next(iter(along.values()), ())\n"
        "            along |= {head: [*jobs, *others] for head, jobs in folded.companions.items()}\n",
    ),
    # What each is told.
    Bug(
        "outcomes are told to the wrong jobs",
        _ENDINGS,
        "for claim, its_own in zip(claims, outcome, strict=True)]",
        "for claim, its_own in zip(claims, [*outcome][::-1], strict=True)]",
    ),
    # Place and turn.
    Bug(
        "a batch takes as many places as it has jobs",
        _FOLD,
        "            follows |= {member.job_id: (job.job_id, job.fence) for member in along}\n",
        "",
    ),
    Bug(
        "a batch takes no place",
        _FOLD,
        "            follows |= {member.job_id: (job.job_id, job.fence) for member in along}\n",
        "            follows |= {member.job_id: (job.job_id, job.fence) for member in members}\n",
    ),
    Bug(
        "the place of a batch is free when its first job leaves",
        _LEAD,
        "values(**passed, **alone)",
        "values(**passed)",
    ),
    Bug(
        "the turn does not go with the lead",
        _LEAD,
        '_PASSED = ("slot_at", "partition", "turn")',
        '_PASSED = ("slot_at",)',
    ),
    Bug(
        "places of a lost batch are never free",
        "tidegate/maintenance/store.py",
        ".where(is_over, attempts.c.claimed_at.is_not(None))",
        ".where(is_over, attempts.c.batch_id.is_(None))",
    ),
)
