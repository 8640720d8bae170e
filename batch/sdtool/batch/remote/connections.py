"""Connections to web servers: allowed addresses only, certificates checked, with time-outs.

The standard library's client is used because sdtool must control two things that other clients do
by themselves: which address a redirect may lead to, checked on the address that is really
connected to, and which host gets a credential.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from itertools import chain
from typing import TypeAlias
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from sdtool.batch.remote.pace import paced
from sdtool.checkpoint import Unreadable, UsageError, dataclass

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""How long a server may say nothing."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: what a credential is meant for, and what a connection leads to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the server of a URL.

        Raises:
            ValueError: it is no URL of the web.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(parts.scheme)
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


class Connections:
    """The connections of one file: those that are idle are used again.

    The first server is the one that a person named. It may be anywhere. It may redirect to a
    private address only if it has one itself.
    """

    def __init__(self) -> None:
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._named: Origin | None = None
        self._named_is_public = True

    def take(self, origin: Origin) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was used before.

        Raises:
            OSError: there is no way to the server, or its certificate is not valid.
            Unreadable: connecting to it is not allowed.
            UsageError: `HTTPS_PROXY` is no URL.
        """
        with self._lock:
            idle = self._idle.get(origin)
            used = idle.pop() if idle else None
        connection = used or self._connected(origin)
        with self._lock:
            self._busy.add(connection)
        return connection, used is not None

    def give_back(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose response was read completely."""
        with self._lock:
            self._busy.discard(connection)
            self._idle.setdefault(origin, []).append(connection)

    def hang_up(self, connection: http.client.HTTPConnection) -> None:
        """Close one, even in the middle of a response."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close all of them; who reads from one gets an error at once."""
        with self._lock:
            for connection in self._busy:
                with contextlib.suppress(OSError, AttributeError):  # it is being closed
                    connection.sock.shutdown(socket.SHUT_RDWR)
            for connection in chain.from_iterable(self._idle.values()):
                connection.close()
            self._idle.clear()

    def _connected(self, origin: Origin) -> http.client.HTTPConnection:
        with self._lock:
            self._named = self._named or origin
            is_named = origin == self._named
        proxy = _proxy_of(origin)
        if proxy is not None:
            return self._through(proxy, origin, is_named=is_named)
        connected = _socket_to(origin, None if is_named else self._allows)
        try:
            address = ipaddress.ip_address(connected.getpeername()[0].partition("%")[0])
            connected.settimeout(SILENCE_SECONDS)
            if origin.scheme == "http":
                if not address.is_loopback:
                    raise _unencrypted(origin)
                connection = http.client.HTTPConnection(origin.host, origin.port)
            else:
                context = self._context()
                connection = http.client.HTTPSConnection(origin.host, origin.port, context=context)
                connected = context.wrap_socket(connected, server_hostname=origin.host)
        except BaseException:
            connected.close()
            raise
        if is_named:  # only now it is sure that it is that server, whatever a name was resolved to
            self._named_is_public = is_public(address)
        connection.auto_open = 0  # nobody but this class connects
        connection.response_class = paced  # type: ignore[assignment]
        connection.sock = connected
        return connection

    def _through(self, proxy: str, origin: Origin, *, is_named: bool) -> http.client.HTTPConnection:
        """Connect through the proxy of the environment, which looks up the address by itself."""
        try:
            literal = ipaddress.ip_address(origin.host)
        except ValueError:
            pass
        else:
            if is_named:
                self._named_is_public = is_public(literal)
            elif not self._allows(literal):
                raise _private(origin)
        try:
            parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
            host, port = parts.hostname or "", parts.port or 3128
        except ValueError:  # which quotes what may hold a password
            raise _no_proxy() from None
        if not host:
            raise _no_proxy()
        headers = {}
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = basic(login)
        connection = http.client.HTTPSConnection(
            host, port, timeout=SILENCE_SECONDS, context=self._context()
        )  # fmt: skip
        connection.response_class = paced  # type: ignore[assignment]
        connection.set_tunnel(origin.host, origin.port, headers)
        try:
            connection.connect()
        except socket.gaierror as e:
            raise Unreadable(f"there is no proxy called {host} (HTTPS_PROXY)") from e
        connection.auto_open = 0
        return connection

    def _allows(self, address: _Address) -> bool:
        is_near = not self._named_is_public and not _meant(address).is_link_local
        return is_near or is_public(address)

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls


def basic(login: str) -> str:
    """Return the header that says who asks; `login` is `user:password`."""
    return "Basic " + base64.b64encode(login.encode()).decode("ascii")


def is_public(address: _Address) -> bool:
    """Whether an address is one of the internet at large, also where it holds another."""
    meant = _meant(address)
    if isinstance(meant, ipaddress.IPv6Address) and meant.teredo is not None:
        return False
    return meant.is_global and not meant.is_multicast


def _meant(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address leads to; any other as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _socket_to(origin: Origin, allows: Callable[[_Address], bool] | None) -> socket.socket:
    """Connect to the first address of a server that answers; only to those that are allowed."""
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    failure = OSError("has no address")
    is_refused = False
    for family, kind, protocol, _, where in found:
        if allows is not None and not allows(ipaddress.ip_address(str(where[0]).partition("%")[0])):
            is_refused = True
            continue
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(CONNECT_SECONDS)
            connected.connect(where)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        except OSError as e:
            connected.close()
            failure = e
    if is_refused:
        raise _private(origin)
    raise failure


def _proxy_of(origin: Origin) -> str | None:
    if origin.scheme != "https":  # that is for this machine alone
        return None
    proxy = getproxies().get("https")
    return None if not proxy or proxy_bypass(origin.host) else proxy


def _no_proxy() -> UsageError:
    return UsageError("HTTPS_PROXY is not a valid URL")


def _private(origin: Origin) -> Unreadable:
    return Unreadable(
        f"the server redirects to {origin}, which is not a public address",
        hint="if that is intended, name that server directly",
    )


def _unencrypted(origin: Origin) -> Unreadable:
    return Unreadable(
        f"http:// is accepted only for this machine, not for {origin}",
        hint="use https://: unencrypted data may be changed in transit",
    )
