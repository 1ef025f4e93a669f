"""What is looked at before Gradio sees a request: which pages are open, and two things that no page of bcx asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from bcx.app.privacy import Sessions

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)$")
_ELSEWHERE = re.compile(r"/(file|proxy)[=/]\s*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_MCP = re.compile(r"/gradio_api/mcp(/|$)")


class Guard:
    """ASGI middleware around the page.

    - A page's heartbeat, which lasts as long as the page is open, opens and closes its session.
    - `file=http://...` would fetch addresses for strangers: refused.
    - The client that Gradio's MCP server calls itself with uploads any local file that an argument names as
      `{"path": ...}`: such arguments are refused. MCP clients send addresses.
    """

    def __init__(self, app: App, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        path = unquote(scope.get("path", "")) if scope["type"] == "http" else ""
        page = _HEARTBEAT.search(path)
        if page:
            self._sessions.opened(page[1])
            try:
                await self._app(scope, receive, send)
            finally:
                self._sessions.closed(page[1])
            return
        if _ELSEWHERE.search(path):
            await _answer(send, 403, "This server hands out its own files alone.")
            return
        if _MCP.search(path) and scope["method"] == "POST":
            messages, body = await _whole(receive)
            if _names_files(body):
                await _answer(send, 400, "Send a file as an http, https or data address, not as a path.")
                return
            receive = _again(messages, receive)
        await self._app(scope, receive, send)


async def _whole(receive: Callable[[], Awaitable[Message]]) -> tuple[list[Message], bytes]:
    messages, body, more = [], bytearray(), True
    while more:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        more = message["type"] == "http.request" and message.get("more_body", False)
    return messages, bytes(body)


def _again(messages: list[Message], receive: Callable[[], Awaitable[Message]]) -> Callable[[], Awaitable[Message]]:
    waiting = iter(messages)

    async def next_message() -> Message:
        for message in waiting:
            return message
        return await receive()

    return next_message


def _names_files(body: bytes) -> bool:
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):  # not for us to judge: Gradio refuses it
        return False
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            path = node.get("path")
            if isinstance(path, str) and not path.startswith(("http://", "https://", "data:")):
                return True
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return False


async def _answer(send: Callable[[Message], Awaitable[None]], status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
