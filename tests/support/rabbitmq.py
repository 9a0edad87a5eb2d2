"""A real RabbitMQ server of one's own that a test may kill, freeze and restart. Nothing of it leaves loopback."""

import shutil
import socket
from contextlib import suppress
from pathlib import Path

from tests.support.processes import ChildProcess, free_port, is_listening
from tests.support.tls import Certificates
from tests.support.waiting import wait_until

NOT_FOUND = "no RabbitMQ server found: install it (Debian: apt install rabbitmq-server, macOS: brew install rabbitmq)"
# The script itself: Debian's on PATH goes through `su` to an account of its own and its folders.
_INSTALLED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# A boot takes a few seconds, on a busy machine many.
_BOOT_SECONDS = 120


def find_server() -> Path | None:
    """The server's start script; None: there is none, or nothing to run it."""
    script = str(_INSTALLED) if _INSTALLED.exists() else shutil.which("rabbitmq-server")
    return Path(script) if script and shutil.which("epmd") else None


class RabbitMQ:
    """One node with its data in `folder`: what was confirmed is there after a kill -9.

    With `certificates` it also listens on `tls_port`, for clients that show one.
    """

    def __init__(self, folder: Path, *, certificates: Certificates | None = None) -> None:
        script = find_server()
        if script is None:
            raise RuntimeError(NOT_FOUND)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        names_port = free_port()
        # Erlang's name server. Left to itself the node would start one that stays, and listens on every address.
        self._names = ChildProcess(["epmd", "-address", "127.0.0.1", "-port", str(names_port)], log=folder / "epmd.log")
        self._names_port = names_port
        self.process = ChildProcess(
            [str(script)],
            log=folder / "rabbitmq.log",
            environment={
                "HOME": str(folder),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "ERL_EPMD_PORT": str(names_port),
                "RABBITMQ_NODENAME": f"tidegate-{self.port}@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(free_port()),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
                # Then the script becomes the server, instead of waiting for it.
                "RUNNING_UNDER_SYSTEMD": "1",
            },
        )
        self.tls_port = free_port()
        (folder / "rabbitmq.conf").write_text(_tls(self.tls_port, certificates) if certificates else "")
        (folder / "enabled_plugins").write_text("[].\n")

    def start(self) -> None:
        """Starts it, a second time on the same port, and waits until it takes connections."""
        if not self._names.is_running:
            self._names.start()
            wait_until(lambda: is_listening(self._names_port), description="Erlang's name server listens")
        self.process.start()
        self.process.wait_for_log("Server startup complete", timeout_seconds=_BOOT_SECONDS)
        wait_until(self._answers, description=f"RabbitMQ answers on {self.port}")

    def kill(self) -> None:
        """kill -9; what it had confirmed lies on its disk."""
        self.process.kill()

    def restart(self) -> None:
        """Kills it and starts it on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Connections stay open and new ones are taken, but nothing is answered."""
        self.process.freeze()

    def thaw(self) -> None:
        """Goes on after `freeze`."""
        self.process.thaw()

    def stop(self) -> None:
        """Ends it and its name server, at once."""
        self.process.kill()
        self._names.kill()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(1))
        return False


def _tls(port: int, certificates: Certificates) -> str:
    return f"""\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {certificates.authority}
ssl_options.certfile = {certificates.server}
ssl_options.keyfile = {certificates.server_key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""
