"""Fetching what a stranger names: never from within the network, however it is hidden, and never without end."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bcx.app import download
from bcx.errors import RequestError

#: The first stands in for the internet; the second is the network within.
OUTSIDE, WITHIN = "127.0.0.3", "127.0.0.1"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/gone":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            for _ in range(20 if self.path in ("/large", "/slow") else 1):
                self.wfile.write(b"picture" * 100)
                time.sleep(0.05 if self.path == "/slow" else 0)

    def log_message(self, *_: object) -> None:
        pass


def serve(address: str):
    server = ThreadingHTTPServer((address, 0), Answer)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def connect(patch: pytest.MonkeyPatch) -> tuple[ThreadingHTTPServer, ThreadingHTTPServer]:
    """Start a server outside and one within, and give both names."""
    public = download._is_public
    patch.setattr(download, "_is_public", lambda ip: ip == OUTSIDE or public(ip))
    names = {"outside.test": [OUTSIDE], "within.test": [WITHIN], "both.test": [OUTSIDE, WITHIN]}
    look_up = socket.getaddrinfo

    def resolve(host, port, *arguments, **named):
        host = host.decode() if isinstance(host, bytes) else host
        found = [look_up(ip, port, *arguments, **named) for ip in names.get(host, [host])]
        return [info for infos in found for info in infos]

    patch.setattr(socket, "getaddrinfo", resolve)
    return serve(OUTSIDE), serve(WITHIN)


@pytest.fixture
def network(monkeypatch):
    yield (servers := connect(monkeypatch))
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_public_address_is_read_under_its_own_name(network):
    port = network[0].server_port
    assert download.download(f"http://outside.test:{port}/scan.png", 10_000) == b"picture" * 100
    assert network[0].asked == [("/scan.png", f"outside.test:{port}")]


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{within}/x", "http://within.test:{within}/x", "http://both.test:{within}/x"]
)
@pytest.mark.parametrize("redirected", [False, True])
def test_the_network_within_is_never_reached(network, address, redirected):
    outside, within = network
    address = address.format(within=within.server_port)
    if redirected:
        address = f"http://outside.test:{outside.server_port}/to/{address}"
    with pytest.raises(RequestError, match="private network"):
        download.download(address, 10_000)
    assert within.asked == []


def test_a_name_that_changes_its_mind_leads_nowhere_else(network, monkeypatch):
    """The connection goes to the address that was checked: the name is looked up once."""
    outside, within = network
    asked, resolve = [], socket.getaddrinfo

    def changing(host, *arguments, **named):
        asked.append(host)
        return resolve("within.test" if asked.count("outside.test") > 1 else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    download.download(f"http://outside.test:{outside.server_port}/x", 10_000)
    assert asked.count("outside.test") == 1
    assert within.asked == []


@pytest.mark.parametrize(
    ("path", "why"),
    [("/large", "more than"), ("/slow", "took longer"), ("/gone", "404"), ("/to/" * 9 + "/x", "led on")],
)
def test_too_large_too_slow_and_lost_are_told(network, monkeypatch, path, why):
    monkeypatch.setattr(download, "SECONDS", 0.3 if path == "/slow" else 30)
    if path.startswith("/to/"):
        path = f"/to/http://outside.test:{network[0].server_port}" * 8 + "/x"
    with pytest.raises(RequestError, match=why):
        download.download(f"http://outside.test:{network[0].server_port}{path}", 9_000 if path == "/large" else 10**6)


@pytest.mark.parametrize(
    "ip",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
        ),
        *("::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_addresses_of_networks_within_are_known(ip):
    assert not download._is_public(ip)


@pytest.mark.parametrize("ip", ["1.1.1.1", "2606:4700:4700::1111"])
def test_public_addresses_are_known(ip):
    assert download._is_public(ip)


@pytest.mark.parametrize(
    "address", ["ftp://example.com/x", "http://", "http://[", "http:///x", "https://\0/x", "file:///x"]
)
def test_what_is_no_web_address_is_refused(address):
    with pytest.raises(RequestError):
        download.download(address, 1000)
