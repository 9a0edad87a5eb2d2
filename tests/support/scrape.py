"""A scrape of /metrics as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from tidegate.metrics.counters import CountWriter
from tidegate.stores import Store


class Scrape:
    """Every sample by its name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self._samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """Of the one series with exactly these labels; None: there is none."""
        found = [sample.value for sample in self._samples if sample.name == name and sample.labels == labels]
        assert len(found) <= 1, f"{name}{labels} stands {len(found)} times"
        return found[0] if found else None

    def total(self, name: str, **labels: str) -> float:
        """Of all series that have these labels, and maybe others."""
        wanted = labels.items()
        return sum(each.value for each in self._samples if each.name == name and wanted <= each.labels.items())


def write_counts(store: Store) -> int:
    """What a process does every two seconds, so that a scrape tells what it counted."""
    return CountWriter(store.counts, store.counted.add).run_once()
