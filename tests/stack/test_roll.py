"""`make roll`: new containers for old ones while clients submit, and what is left of a roll that failed.

The tests of this file stand on one another's stack, in this order.
"""

import httpx2
import pytest

from tests.stack.jobs import accepted, assert_nothing_is_lost, final
from tests.support.compose import IMAGE, Compose, await_health, docker, inspect
from tests.support.persistent_client import PersistentClient
from tests.support.waiting import wait_until

NUMBERS = {"web": 2, "scheduler": 2, "worker-io": 3, "worker-cpu": 1, "worker-webhooks": 1}
SINGLE = ("flower", "sample", "proxy")


def losses(stack: Compose) -> int:
    """How many attempts ended with their process."""
    (found,) = stack.sql("SELECT coalesce(sum(losses), 0) FROM jobs;")
    return int(found)


def numbers(stack: Compose) -> dict[str, int]:
    """How many containers of each service there are, whatever they do."""
    return {service: len(stack.run("ps", "--all", "--quiet", service).split()) for service in NUMBERS}


def test_while_every_container_is_replaced_one_by_one_nobody_is_refused(
    running: Compose, operator: httpx2.Client
) -> None:
    for service, number in NUMBERS.items():
        running.set_number(service, number)
    running.up()
    old = set(running.containers(*NUMBERS))
    single = running.containers(*SINGLE)
    await_health([*old, *single])
    before = losses(running)
    running.set("LOG_LEVEL", "WARNING")

    with PersistentClient(operator, per_second=10) as load:
        running.roll(*NUMBERS)

    assert_nothing_is_lost(operator, load)
    assert not load.troubles
    assert losses(running) == before
    assert numbers(running) == NUMBERS
    new = running.containers(*NUMBERS)
    assert not old & set(new)
    assert all("TIDEGATE_LOG_LEVEL=WARNING" in inspect(container)["Config"]["Env"] for container in new)


def test_numbers_by_setting_outlast_a_plain_up_and_a_roll(running: Compose) -> None:
    running.run("up", "--detach", "--no-build", "--wait")
    assert numbers(running) == NUMBERS
    running.set_number("worker-io", 1)
    running.set_number("scheduler", 1)
    running.set_number("web", 1)

    running.roll("worker-io", "scheduler", "web")

    assert numbers(running) == dict.fromkeys(NUMBERS, 1)


def test_a_roll_that_fails_leaves_what_runs_and_the_corrected_one_succeeds(
    running: Compose, operator: httpx2.Client
) -> None:
    old = running.containers("web", "scheduler")
    running.set("WEB_THREADS", "0")  # which only web has, so that `migrate` finds no fault

    with pytest.raises(AssertionError, match="TIDEGATE_WEB_THREADS"):
        running.roll("web", "scheduler")

    assert running.containers("web", "scheduler") == old
    assert numbers(running)["web"] == 1, "the broken one is gone"
    assert final(operator, accepted(operator)).status_code == 200
    running.set("WEB_THREADS", "16")
    running.roll("web", "scheduler")
    new = running.containers("web", "scheduler")
    assert len(new) == 2
    assert not {*old} & {*new}
    assert final(operator, accepted(operator)).status_code == 200


def test_what_an_interrupted_roll_left_behind_is_cleared_first(running: Compose, operator: httpx2.Client) -> None:
    (good,) = running.containers("web")
    running.set("WEB_THREADS", "0")
    running.run("up", "--detach", "--no-build", "--no-deps", "--no-recreate", "--scale=web=2", "web")
    (broken,) = {*running.run("ps", "--all", "--quiet", "web").split()} - {good}
    wait_until(lambda: inspect(broken)["RestartCount"] > 0, description="it starts again and again", timeout_seconds=60)
    running.set("WEB_THREADS", "8")

    running.roll("web")

    (new,) = running.run("ps", "--all", "--quiet", "web").split()
    assert new not in {good, broken}
    assert "TIDEGATE_WEB_THREADS=8" in inspect(new)["Config"]["Env"]
    assert final(operator, accepted(operator)).status_code == 200


def test_after_a_build_everything_of_ours_runs_the_new_image(running: Compose, operator: httpx2.Client) -> None:
    running.shell(f"printf 'FROM {IMAGE}\\nLABEL again=1\\n' | docker build --quiet --tag {IMAGE} -")
    image = docker("image", "inspect", "--format", "{{.Id}}", IMAGE).strip()

    with PersistentClient(operator, per_second=5) as load:
        running.roll()

    assert_nothing_is_lost(operator, load)
    ours = {container: inspect(container) for container in running.containers(*NUMBERS, *SINGLE)}
    assert len(ours) == len(NUMBERS) + len(SINGLE)
    assert {each["Image"] for each in ours.values()} == {image}
    assert operator.get("/health/ready").json()["status"] == "ready"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WEB_WORKERS", "2", "TIDEGATE_WEB_WORKERS is not for the stack: STACK_WEB"),
        ("DATABASE_URL", "postgresql+psycopg://elsewhere/x", "secrets/database_url"),
        ("AUTH", "off", "TIDEGATE_AUTH=off lets everyone in"),
        ("GRACE_SECONDS", "many", "stop_grace_period"),
        ("TRUSTED_PROXIES", "everybody", "TIDEGATE_TRUSTED_PROXIES: "),
    ],
)
def test_a_setting_that_can_have_no_effect_or_none_that_is_good_stops_the_roll(
    running: Compose, name: str, value: str, said: str
) -> None:
    before = running.containers()
    running.set(name, value)
    try:
        with pytest.raises(AssertionError, match=said):
            running.roll()
    finally:
        running.forget(name)
    assert running.containers() == before
