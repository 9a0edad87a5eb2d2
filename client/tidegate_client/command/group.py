"""The command `tidegate` with all of its subcommands."""

import click

from tidegate_client.command import (
    deliveries,
    jobs,
    lanes,
    operations,
    partitions,
    scaling,
    server,
    watching,
    webhook_secrets,
)
from tidegate_client.command.exits import MEANINGS
from tidegate_client.transport import VERSION


@click.group(epilog=MEANINGS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="tidegate")
def tidegate() -> None:
    """Submits work to a Tidegate gateway, tells how far it is, and brings the result.

    TIDEGATE_URL and TIDEGATE_KEY, or --url and --key behind any command, say where the gateway is and who asks.
    Those marked (server) work where the server is installed.
    """


for command in (
    *(jobs.submit, jobs.status, jobs.wait, jobs.events, jobs.list_, jobs.cancel, jobs.retry, jobs.result, jobs.delete),
    *(watching.watch, operations.operations, lanes.downstreams, partitions.partitions, scaling.scale),
    *(deliveries.deliveries, webhook_secrets.webhook_secrets),
    *(server.keys, server.check, server.try_, server.settings),
):
    tidegate.add_command(command)
