"""What is checked before Gradio sees a request: its login, route, the page that it speaks for, and its body's form.

Gradio's server answers on many more routes than a page of bcx asks for, among them some that hand out another page's
content to whoever knows its name, fetch addresses, or write files. Those that are not listed here do not exist.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from bcx.app.incoming import checked_arguments, checked_call, checked_stop, session_name
from bcx.errors import RequestError
from bcx.imaging.scan import MAX_BYTES

if TYPE_CHECKING:
    import gradio as gr

    from bcx.app.login import Login
    from bcx.app.privacy import Sessions

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

#: Bytes of a request that is no upload: one scan as a data address, and room for the rest.
MOST_BODY = MAX_BYTES * 4 // 3 + (1 << 20)
#: What a browser is given to show that it is the one that opened the page.
COOKIE = "bcx-page"
_API = "/gradio_api"
#: Gradio asks itself for this once when it starts, without any login; it says "true".
_START = f"{_API}/startup-events"
#: What browsers are told with every answer. Gradio's page writes scripts and styles of its own into itself; a page of
#: the Hub shows a Space in a frame.
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), display-capture=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_PAGE = re.compile(
    r"/(config/?|(static|assets|svelte)/.+|favicon\.ico|theme\.css|robots\.txt|manifest\.json|pwa_icon(/\d+)?|login/?|logout)?"
)
_READ = re.compile(
    r"/(info/?|openapi\.json|app_id/?|token/?|user/?|login_check/?|startup-events|theme\.css|heartbeat/[^/]+"
    r"|queue/(data|status)|call/(v2/)?[^/]+/[^/]+|upload_progress|file=/?(?![a-zA-Z][a-zA-Z0-9+.-]*:).+|mcp(/.*)?)"
)
_CALL = re.compile(r"/(queue/join|(?P<plain>run|api|call)/(?P<name>[^/]+)/?|call/v2/(?P<named>[^/]+)/?)")
_SENT = re.compile(r"/(cancel|reset/?|upload/?|mcp(/.*)?)")
_ASK_LOGIN = (b"www-authenticate", b'Basic realm="bcx", charset="UTF-8"')
_HEARTBEAT = re.compile(r"/heartbeat/([^/]+)")


class Guard:
    """ASGI middleware around the page.

    - Where there is a login, nothing is answered without it.
    - A page's heartbeat, which lasts as long as the page is open, opens and closes its session. While it is open, no
      request without that page's cookie can name the session, where the browser takes cookies.
    - Routes that no page of bcx asks for answer 404.
    - Bodies have a largest size, and calls are rewritten to what `incoming.checked_call` lets through.
    """

    def __init__(self, app: App, page: gr.Blocks, sessions: Sessions, login: Login | None = None) -> None:
        self._app = app
        self._page = page
        self._sessions = sessions
        self._login = login

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks through a websocket
            await send({"type": "websocket.close", "code": 1000})
            return
        path = scope.get("path", "")
        send = _with_headers(send, private=path.startswith(f"{_API}/"))
        starting = path == _START and not scope["app"].startup_events_triggered
        if self._login is not None and not starting and not self._login.lets_in(dict(scope["headers"])):
            await _say(send, 401, "Log in first: name and password, as HTTP Basic.", _ASK_LOGIN)
            return
        try:
            await self._answer(scope, receive, send)
        except RequestError as error:
            await _say(send, 400, str(error))
        except PermissionError:
            await _say(send, 404, "There is no such page. Load the page again.")
        except FileNotFoundError:
            await _say(send, 404, "There is nothing here.")

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path, method = scope.get("path", ""), scope["method"]
        api = path.removeprefix(_API) if path.startswith(f"{_API}/") else None
        if "\0" in path:
            raise FileNotFoundError(path)
        mine = _cookie(scope)
        if method in ("GET", "HEAD"):
            if not (_PAGE.fullmatch(path) if api is None else _READ.fullmatch(api)):
                raise FileNotFoundError(path)
            heartbeat = _HEARTBEAT.fullmatch(api or "")
            if heartbeat:
                await self._while_open(session_name(heartbeat[1]) or "", mine, scope, receive, send)
                return
            for named in parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", []):
                self._own(session_name(named), mine)
            await self._app(scope, receive, send if mine or path != "/" else _with_cookie(send, scope))
            return
        call = _CALL.fullmatch(api or "")
        if not (method == "OPTIONS" or call or _SENT.fullmatch(api or "") or path.rstrip("/") == "/login"):
            raise FileNotFoundError(path)
        if method != "OPTIONS" and api != "/upload" and api != "/upload/":
            body = await _whole(receive)
            if body is None:
                await _say(send, 413, f"The request is larger than {MOST_BODY // 10**6} MB. Upload the file instead.")
                return
            if call or api == "/cancel":
                sent = _parsed(body)
                self._own(session_name(sent.get("session_hash")), mine)
                if call and call["named"]:
                    body = json.dumps(checked_arguments(sent, self._page.fns, call["named"])).encode()
                elif api == "/cancel":
                    body = json.dumps(checked_stop(sent)).encode()
                elif call:
                    body = json.dumps(checked_call(sent, self._page.fns, call["name"])).encode()
                kept = [pair for pair in scope["headers"] if pair[0] not in (b"content-length", b"content-type")]
                as_json = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
                scope["headers"] = [*kept, *as_json]
            receive = _again(body, receive)
        await self._app(scope, receive, send)

    def _own(self, name: str | None, cookie: str) -> None:
        if name is not None and not self._sessions.may_speak_for(name, cookie):
            raise PermissionError(name)

    async def _while_open(self, name: str, cookie: str, scope: Message, receive: Receive, send: Send) -> None:
        """Hold a session open as long as its page's connection lasts, and not a moment longer."""
        self._own(name, cookie)
        self._sessions.opened(name, cookie)
        serving = asyncio.ensure_future(self._app(scope, receive, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((serving, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # In a thread: the files of a large batch take a moment, and other pages should not wait for it.
            await asyncio.to_thread(self._sessions.closed, name)
            gone.cancel()
            await serving  # Gradio notices by itself, a heartbeat later


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _cookie(scope: Message) -> str:
    """Return the cookie of the browser that asks, "" where it has none."""
    jar: SimpleCookie = SimpleCookie()
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                jar.load(value.decode("latin-1"))
            except CookieError:
                continue
    return jar[COOKIE].value if COOKIE in jar else ""


def _with_cookie(send: Send, scope: Message) -> Send:
    cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; HttpOnly; SameSite=Lax; Path=/"
    if scope.get("scheme") == "https":
        cookie += "; Secure"

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"set-cookie", cookie.encode())]
        await send(message)

    return answer


def _with_headers(send: Send, private: bool) -> Send:
    # What was computed for one person is kept by no browser and no proxy.
    more = {**HEADERS, "cache-control": "no-store"} if private else HEADERS
    added = [(name.encode(), value.encode()) for name, value in more.items()]

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if pair[0].decode("latin-1").lower() not in more]
            message["headers"] = [*kept, *added]
        await send(message)

    return answer


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise RequestError(
            "The request's body is no JSON object.",
            expected='an object such as {"data": [...]}',
            remedy="See docs/how-to/call-it-over-http.md for the calls that there are.",
        )
    return sent


async def _whole(receive: Receive) -> bytes | None:
    """Return the whole body, None where it is too large."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
        if len(body) > MOST_BODY:
            return None
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _say(send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": text, "detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
