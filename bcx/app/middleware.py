"""What is checked before Gradio sees a request: its login, route, the page that it speaks for, and its body's form.

Gradio's server answers on many more routes than a page of bcx asks for, among them some that hand out another page's
content to whoever knows its name, fetch addresses, or write files. Those that are not listed here do not exist.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bcx.app.incoming import checked_arguments, checked_call, checked_stop, session_name
from bcx.app.login import Login
from bcx.app.privacy import Sessions
from bcx.errors import RequestError
from bcx.imaging.scan import MAX_BYTES

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
_ASK_LOGIN = {"www-authenticate": 'Basic realm="bcx", charset="UTF-8"'}
_HEARTBEAT = re.compile(r"/heartbeat/([^/]+)")
_NOTHING = HTTPException(404, "There is nothing here.")


class Guard:
    """ASGI middleware around the page.

    - Where there is a login, nothing is answered without it.
    - A page's heartbeat, which lasts as long as the page is open, opens and closes its session. While it is open, no
      request without that page's cookie can name the session, where the browser takes cookies.
    - Routes that no page of bcx asks for answer 404.
    - Bodies have a largest size, and calls are rewritten to what `incoming.checked_call` lets through.
    """

    def __init__(self, app: ASGIApp, page: gr.Blocks, sessions: Sessions, login: Login | None = None) -> None:
        self._app, self._page, self._sessions, self._login = app, page, sessions, login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks through a websocket
            await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        # What was computed for one person is kept by no browser and no proxy.
        private = {"cache-control": "no-store"} if path.startswith(f"{_API}/") else {}
        send = _with_headers(send, {**HEADERS, **private})
        starting = path == _START and not scope["app"].startup_events_triggered
        try:
            if self._login is not None and not starting and not self._login.lets_in(dict(scope["headers"])):
                raise HTTPException(401, "Log in first: name and password, as HTTP Basic.", _ASK_LOGIN)
            await self._answer(Request(scope, receive), receive, send)
        except ClientDisconnect:  # nobody is left to answer
            return
        except (HTTPException, RequestError, FileNotFoundError, PermissionError) as error:
            refused = HTTPException(400, str(error)) if isinstance(error, RequestError) else error
            refused = refused if isinstance(refused, HTTPException) else _NOTHING
            said = {"error": refused.detail, "detail": refused.detail}
            await JSONResponse(said, refused.status_code, refused.headers)(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        scope, path, mine = request.scope, request.scope["path"], request.cookies.get(COOKIE, "")
        api = path.removeprefix(_API) if path.startswith(f"{_API}/") else None
        if request.method in ("GET", "HEAD"):
            if "\0" in path or not (_PAGE.fullmatch(path) if api is None else _READ.fullmatch(api)):
                raise _NOTHING
            heartbeat = _HEARTBEAT.fullmatch(api or "")
            if heartbeat:
                await self._while_open(session_name(heartbeat[1]) or "", mine, scope, receive, send)
                return
            for named in filter(None, request.query_params.getlist("session_hash")):
                self._own(session_name(named), mine)
            if not mine and path == "/":
                secure = "; Secure" if scope.get("scheme") == "https" else ""
                cookie = f"{COOKIE}={secrets.token_urlsafe(24)}; HttpOnly; SameSite=Lax; Path=/{secure}"
                send = _with_headers(send, {}, cookie)
            await self._app(scope, receive, send)
            return
        call = _CALL.fullmatch(api or "")
        asks = request.method == "OPTIONS"
        if "\0" in path or not (asks or call or _SENT.fullmatch(api or "") or path.rstrip("/") == "/login"):
            raise _NOTHING
        if not asks and api not in ("/upload", "/upload/"):
            body = await _whole(request)
            if call or api == "/cancel":
                sent = _parsed(body)
                self._own(session_name(sent.get("session_hash")), mine)
                if call is None:
                    sent = checked_stop(sent)
                elif call["named"]:
                    sent = checked_arguments(sent, self._page.fns, call["named"])
                else:
                    sent = checked_call(sent, self._page.fns, call["name"])
                body = json.dumps(sent).encode()
                length = {"content-length": str(len(body)), "content-type": "application/json"}
                MutableHeaders(scope=scope).update(length)
            receive = _again(body, receive)
        await self._app(scope, receive, send)

    def _own(self, name: str | None, cookie: str) -> None:
        if name is not None and not self._sessions.may_speak_for(name, cookie):
            raise HTTPException(404, "There is no such page. Load the page again.")

    async def _while_open(self, name: str, cookie: str, scope: Scope, receive: Receive, send: Send) -> None:
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


def _with_headers(send: Send, more: Mapping[str, str], cookie: str = "") -> Send:
    """Send with these headers, each in the place of any of its name, and one more cookie."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            headers.update(more)
            if cookie:
                headers.append("set-cookie", cookie)
        await send(message)

    return answer


def _parsed(body: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(sent := json.loads(body), dict):
            return sent
    expected = 'an object such as {"data": [...]}'
    remedy = "See docs/how-to/call-it-over-http.md for the calls that there are."
    raise RequestError("The request's body is no JSON object.", expected=expected, remedy=remedy)


async def _whole(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY:
            said = f"The request is larger than {MOST_BODY // 10**6} MB. Upload the file instead."
            raise HTTPException(413, said)
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
