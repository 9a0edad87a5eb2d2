"""GET /v1/scale: what each queue has and wants; and that what is shipped for orchestrators finds its number there."""

import functools
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.processes import REPOSITORY
from tests.support.scrape import Scrape
from tests.support.web import LEASE, Web, assert_is_problem
from tidegate.access.key_store import KeyStore
from tidegate.access.keys import Role

DEPLOY = REPOSITORY / "config" / "deploy"


@pytest.fixture
def web(web: Web) -> Web:
    """The face, with one small worker for 40 jobs of which four may be open."""
    web.store.limits.declare(web.app.extensions["tidegate"].registry.downstreams.values())
    web.store.heartbeats.beat("io-1", queue="io", size=2, until=LEASE)
    web.claim(web.accepted("quote"))
    for _ in range(3):
        web.accepted("quote")
    web.store.samples.sample()
    web.store.scale.measure(web.store.samples.due)
    return web


def test_each_queue_is_told_also_one_that_has_nothing(web: Web) -> None:
    document = web.client.get("/v1/scale").get_json()
    assert document["queues"].keys() == {"io", "cpu", "webhooks"}
    assert document["queues"]["webhooks"] == {
        "workers": 0, "places": 0, "wanted": 0, "because": "nothing waits and nothing runs",
    }  # fmt: skip
    found = document["queues"]["io"]
    assert found["wanted"] == 1
    assert found["because"] == "sample can use 2 place(s) now, for how long its calls take is not known yet"


@pytest.mark.parametrize(("role", "status"), [(Role.OPERATOR, 200), (Role.METRICS, 200), (Role.CLIENT, 403)])
def test_operators_and_those_who_read_metrics_are_told(
    tmp_path: Path, database_url: str, role: Role, status: int
) -> None:
    keyed = Web(tmp_path, database_url, auth="keys", public_url="http://localhost")
    _, key = KeyStore(keyed.database).create("one", name="of a test", role=role)
    answer = keyed.client.get("/v1/scale", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == status
    assert_is_problem(keyed.client.get("/v1/scale"), 401, "unauthorized")


def test_metrics_and_page_say_the_same(web: Web) -> None:
    web.store.heartbeats.beat("io-2", queue="io", size=2, until=LEASE)
    found = Scrape(web.client.get("/metrics").get_data(as_text=True))
    queues = web.client.get("/v1/scale").get_json()["queues"]
    for queue, each in queues.items():
        assert found.value("tidegate_workers_wanted", queue=queue) == each["wanted"]
        assert found.value("tidegate_workers", queue=queue) == each["workers"]
    shown = re.findall(
        r'<b>(\w+)</b>[^<]*<span title="([^"]*)">\((\d+) there, (\d+) wanted\)', web.client.get("/").text
    )
    assert ("io", queues["io"]["because"], "2", "1") in shown
    assert "webhooks" not in {queue for queue, *_ in shown}, "it has what it wants"


def test_keda_finds_a_number_where_it_looks(tmp_path: Path, database_url: str, web: Web) -> None:
    """Asked as it asks: by the service's name, with a key for metrics."""
    (asked,) = [each["metadata"] for each in triggers() if each["type"] == "metrics-api"]
    keyed = Web(tmp_path, database_url, auth="keys", public_url="https://gateway.example")
    _, key = KeyStore(keyed.database).create("keda", name="", role=Role.METRICS)
    url = urlsplit(asked["url"])
    assert asked["authMode"] == "bearer"
    answer = keyed.client.get(url.path, headers={"Host": url.netloc, "Authorization": f"Bearer {key}"})
    number = functools.reduce(lambda part, member: part[member], asked["valueLocation"].split("."), answer.get_json())
    assert number == 1
    assert type(number) is int


def test_keda_finds_a_number_in_prometheus(web: Web) -> None:
    (asked,) = [each["metadata"] for each in triggers() if each["type"] == "prometheus"]
    assert _value(web, asked["query"]) == 0


def test_each_object_of_keda_names_what_there_is() -> None:
    by_kind: dict[str, list[Any]] = {}
    for each in yaml.safe_load_all((DEPLOY / "keda.yaml").read_text()):
        by_kind.setdefault(each["kind"], []).append(each)
    (secret,), (authentication,) = by_kind["Secret"], by_kind["TriggerAuthentication"]
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert (reference["name"], reference["parameter"]) == (secret["metadata"]["name"], "token")
    assert reference["key"] in secret["stringData"]
    services = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    for scaled in by_kind["ScaledObject"]:
        assert scaled["spec"]["scaleTargetRef"]["name"].removeprefix("tidegate-") in services
        assert scaled["spec"]["minReplicaCount"] >= 1, "from nothing to one job nothing gets slower"
        for each in scaled["spec"]["triggers"]:
            assert {"targetValue", "threshold"} & each["metadata"].keys()
            assert (
                each.get("authenticationRef", authentication["metadata"])["name"] == authentication["metadata"]["name"]
            )


def test_the_autoscaler_of_kubernetes_finds_its_metric(web: Web) -> None:
    adapter, scaler = yaml.safe_load_all((DEPLOY / "hpa.yaml").read_text())
    (rule,) = yaml.safe_load(adapter["data"]["config.yaml"])["externalRules"]
    (metric,) = scaler["spec"]["metrics"]
    external = metric["external"]["metric"]
    assert external["name"] == rule["seriesQuery"]
    labels = ",".join(f'{name}="{value}"' for name, value in external["selector"]["matchLabels"].items())
    assert _value(web, rule["metricsQuery"].replace("<<.LabelMatchers>>", labels)) == 1


def test_the_loop_for_compose_is_a_shell_script_and_asks_for_a_number() -> None:
    page = (REPOSITORY / "docs" / "scaling.md").read_text()
    (script,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert "tidegate scale io" in script
    assert len(script.splitlines()) <= 12


def triggers() -> list[Any]:
    """Those of every ScaledObject."""
    objects = yaml.safe_load_all((DEPLOY / "keda.yaml").read_text())
    return [trigger for each in objects if each["kind"] == "ScaledObject" for trigger in each["spec"]["triggers"]]


def _value(web: Web, query: str) -> float:
    """What Prometheus would answer: the most of one metric with these labels."""
    asked = re.fullmatch(r'max\((\w+)\{(\w+)="(\w+)"\}\)', query)
    assert asked, query
    found = Scrape(web.client.get("/metrics").get_data(as_text=True)).value(asked[1], **{asked[2]: asked[3]})
    assert found is not None, f"no series {query}"
    return found
