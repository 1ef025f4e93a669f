"""Fetch an image from a web address that somebody else chose, without reaching into the server's own network.

Every host name is looked up once, every address that it has must be public, and the connection goes to that very
address, so that a second look-up cannot lead elsewhere. Redirects are followed by the same rule.
"""

import ipaddress
import socket
import time

import httpx

from bcx.errors import RequestError

#: Seconds for the whole download, redirects included, and between two pieces of it.
SECONDS, SECONDS_SILENT = 30.0, 10.0
MOST_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(address: str, most: int) -> bytes:
    """Return what lies at an http or https address from a client, `most` bytes at most.

    `RequestError`: within a private network, directly, by name or by redirect; too large, too slow, or not there.
    """
    deadline = time.monotonic() + SECONDS
    try:
        for _ in range(MOST_REDIRECTS + 1):
            url = httpx.URL(address)
            with (
                httpx.Client(transport=_Pinned(_public_ip(url)), trust_env=False, timeout=SECONDS_SILENT) as client,
                client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.has_redirect_location:
                    address = str(url.join(response.headers["Location"]))
                    continue
                if response.status_code != 200:
                    raise _refused(f"it answered with status {response.status_code}")
                content = bytearray()
                for piece in response.iter_raw(1 << 16):
                    content += piece
                    if len(content) > most:
                        raise _refused(f"it has more than {most // 10**6} MB")
                    if time.monotonic() > deadline:
                        raise _refused(f"it took longer than {SECONDS:g} s")
                return bytes(content)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise _refused(f"it could not be fetched ({type(error).__name__})") from error
    raise _refused(f"it led on more than {MOST_REDIRECTS} times")


class _Pinned(httpx.HTTPTransport):
    """Connects to one address, whatever the host name says by then; the name still stands in Host and in TLS."""

    def __init__(self, ip: str) -> None:
        self._ip = ip
        super().__init__()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Host"] = request.url.netloc.decode("ascii")
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host=self._ip)
        return super().handle_request(request)


def _public_ip(url: httpx.URL) -> str:
    if url.scheme not in ("http", "https") or not url.host:
        raise _refused("it is neither http nor https")
    found = {info[4][0] for info in socket.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)}
    if not found or not all(_is_public(str(ip)) for ip in found):
        raise _refused("it leads into a private network")
    return str(sorted(found)[0])


def _is_public(ip: str) -> bool:
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            return _is_public(str(within))
    return address.is_global and not address.is_multicast


def _refused(why: str) -> RequestError:
    return RequestError(
        f"The address was not read: {why}.",
        expected="a public http or https address of one picture",
        remedy="Upload the file instead, or send it as a data address.",
    )
