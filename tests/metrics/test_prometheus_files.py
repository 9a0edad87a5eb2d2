"""What the stack's Prometheus is given: its configuration and its alerts, judged by promtool; and their page."""

import re
from pathlib import Path

import yaml

from tests.support.processes import REPOSITORY
from tests.support.promtool import promtool
from tests.support.scrape import Scrape
from tests.support.web import Web

STACK = REPOSITORY / "config" / "stack"
PAGE = REPOSITORY / "docs" / "metrics.md"


def test_the_configuration_can_be_loaded(tmp_path: Path) -> None:
    """With the key where Prometheus finds it: promtool looks for it, too."""
    key = tmp_path / "metrics_key"
    key.write_text("tg_key\n")
    text = (STACK / "prometheus.yml").read_text().replace("/run/secrets/metrics_key", str(key))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_text((STACK / "alerts.yml").read_text())

    said = promtool("check", "config", "--lint-fatal", tmp_path / "prometheus.yml")

    assert str(key) in text
    assert "1 rule files found" in said


def test_the_rules_are_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", STACK / "alerts.yml")


def test_each_alert_comes_when_it_should_and_not_else() -> None:
    """The cases are in alerts.test.yml; each alert has one in which it fires."""
    cases = Path(__file__).with_name("alerts.test.yml")
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", cases.read_text()))
    assert fired == set(alerts())
    assert "SUCCESS" in promtool("test", "rules", cases)


def test_the_alerts_ask_for_metrics_and_labels_that_there_are(web: Web) -> None:
    found = Scrape(web.client.get("/metrics").get_data(as_text=True))
    labels = {family.name: {name for each in family.samples for name in each.labels} for family in found.families}
    rules = (STACK / "alerts.yml").read_text()
    asked = set(re.findall(r"\b(tidegate_\w+)", rules))
    assert asked
    for name in asked:
        assert name.removesuffix("_total") in labels, name
    for name, label in re.findall(r"\b(tidegate_\w+)\{(\w+)!?=", rules):
        known = labels[name.removesuffix("_total")]
        assert label in known or not known, f"{name} has no label {label}"


def test_the_page_tells_every_metric_and_every_alert(web: Web) -> None:
    found = Scrape(web.client.get("/metrics").get_data(as_text=True))
    there = {family.name + ("_total" if family.type == "counter" else "") for family in found.families}

    page = PAGE.read_text()

    assert set(re.findall(r"^\| `(tidegate_\w+)", page, re.MULTILINE)) == there
    assert set(re.findall(r"^### (Tidegate\w+)", page, re.MULTILINE)) == set(alerts())


def test_the_service_comes_by_its_profile_and_is_as_hardened_as_the_others() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    service = compose["services"]["prometheus"]
    assert service["profiles"] == ["prometheus"]
    assert re.fullmatch(r"\$\{STACK_PROMETHEUS_IMAGE:-prom/prometheus:v3\.\d+\.\d+\}", service["image"])
    assert service["ports"] == ["${PROMETHEUS_HOST:-127.0.0.1}:${PROMETHEUS_PORT:-9090}:9090"]
    for name in ("read_only", "cap_drop", "security_opt", "restart", "logging"):
        assert service[name] == compose["x-hardened"][name]
    mounted = [volume.split(":") for volume in service["volumes"]]
    for path, target, *options in mounted[:-1]:
        assert (REPOSITORY / path).is_file()
        assert target.startswith("/etc/prometheus/")
        assert options == ["ro"]
    assert mounted[-1] == ["prometheus", "/prometheus"]
    assert set(service["secrets"]) <= compose["secrets"].keys()
    assert [target for each in targets() for target in each] == ["proxy:8000"], "one, or all is counted twice"


def targets() -> list[list[str]]:
    """What is scraped."""
    (scraped,) = yaml.safe_load((STACK / "prometheus.yml").read_text())["scrape_configs"]
    return [each["targets"] for each in scraped["static_configs"]]


def alerts() -> list[str]:
    """The names of all alerts."""
    return re.findall(r"^ +- alert: (\w+)$", (STACK / "alerts.yml").read_text(), re.MULTILINE)
