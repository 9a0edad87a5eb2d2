"""Certificates of an authority of one's own, and TLS before a server that has none itself."""

import socket
import ssl
from pathlib import Path

import trustme

from tests.support.http_server import HttpServer
from tests.support.proxy import Proxy


class Certificates:
    """Files in `folder`: an authority's, and of it a server's for 127.0.0.1 and a client's."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.authority = folder / "ca.pem"
        self.stranger = folder / "stranger.pem"
        """An authority that has signed none of these."""
        self.server, self.server_key = folder / "server.pem", folder / "server.key"
        self.client, self.client_key = folder / "client.pem", folder / "client.key"
        authority.cert_pem.write_to_path(str(self.authority))
        stranger.cert_pem.write_to_path(str(self.stranger))
        for certificate, key, name in (
            (self.server, self.server_key, "127.0.0.1"),
            (self.client, self.client_key, "client.example"),
        ):
            issued = authority.issue_cert(name)
            certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
            key.write_bytes(issued.private_key_pem.bytes())

    def of_server(self) -> ssl.SSLContext:
        """What a server speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        return context


def speak_tls(server: HttpServer, context: ssl.SSLContext) -> None:
    """Lets a server speak TLS, from now on."""
    serve = server._serve

    def serve_tls(connection: socket.socket) -> None:
        try:
            wrapped = context.wrap_socket(connection, server_side=True)
        except OSError:
            return
        with wrapped:
            serve(wrapped)

    server._serve = serve_tls  # type: ignore[method-assign] # this one server's, and it is gone with its test


def speak_no_tls(server: HttpServer) -> None:
    """Lets a server answer 400 at once to what is no HTTP, as servers do where somebody begins with TLS."""

    def refuse(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server._serve = refuse  # type: ignore[method-assign] # as above


class TlsProxy(Proxy):
    """Speaks TLS to those who call, and asks each for a certificate; what is behind it speaks plainly."""

    def __init__(self, target_port: int, certificates: Certificates) -> None:
        self._context = certificates.of_server()
        self._context.load_verify_locations(certificates.authority)
        self._context.verify_mode = ssl.CERT_REQUIRED
        super().__init__(target_port)

    def _join(self, near: socket.socket) -> None:
        near.settimeout(5)  # of a handshake that does not end
        try:
            wrapped = self._context.wrap_socket(near, server_side=True)
        except OSError:
            near.close()
            return
        super()._join(wrapped)
