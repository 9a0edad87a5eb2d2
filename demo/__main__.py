"""The demo (`make demo`): one burst straight at the sample downstream, the same through the gateway, side by side."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from config.settings import settings
from demo import picture
from demo.bursts import straight, through
from demo.gateway import running
from embedded.stack import address
from tidegate.errors import ConfigurationError
from tidegate_client import Client

# Of the sample: what is refused in the first burst must not be counted in the second.
WINDOW_SECONDS = 2


@click.command()
@click.option("--requests", type=click.IntRange(2, 10_000), default=300, show_default=True)
@click.option(
    "--url", envvar="TIDEGATE_URL", help="A gateway that runs; without: that of `make run`, else one of its own."
)
@click.option("--sample", help="The sample downstream beside it.")
@click.option("--key", envvar="TIDEGATE_KEY")
@click.option("--png", type=click.Path(path_type=Path), default=Path("demo.png"), show_default=True)
def main(requests: int, url: str | None, sample: str | None, key: str | None, png: Path) -> None:
    """Sends REQUESTS in one burst, once straight at an API that takes 20 a second, once through Tidegate."""
    try:
        current = settings()
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    console = Console()
    with running(url or address(current), sample or f"http://127.0.0.1:{current.sample_port}") as place:
        console.print(f"{'Started' if place.is_own else 'Found'} Tidegate at {place.url}: open it, or run")
        console.print(f"  .venv/bin/tidegate watch --url {place.url}", highlight=False)
        with Client(place.url, key) as client:
            rate = _rate(client)
            console.print(f"{requests} requests straight at the API, which takes {rate} …")
            alone = straight(place.sample_url, requests)
            time.sleep(WINDOW_SECONDS)
            console.print(f"{requests} requests through Tidegate …")
            with Progress(console=console, transient=True) as progress:
                bar = progress.add_task("quotes", total=requests)
                paced = through(client, place.sample_url, requests, lambda done: progress.update(bar, completed=done))
        picture.show(console, alone, paced, rate)
        picture.save(png, alone, paced, rate)
        console.print(f"The plot as a picture: {png}")


def _rate(client: Client) -> str:
    """What the sample takes, as the gateway says it to every client."""
    limits = client.operation("quote")["downstream"]
    return f"{', '.join(limits['rate'])} and {limits['concurrency']} at once"


if __name__ == "__main__":
    main()
