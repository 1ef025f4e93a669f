"""What MCP clients are told and get: how to send a file, JSON text with the same content as structure, real pictures.

Gradio answers with Python's own notation, which no JSON parser reads, and without structured content.
"""

from __future__ import annotations

import json
from typing import Any

import gradio.mcp
from mcp import types

_KINDS = "a data address, a public http or https address, or the path that /gradio_api/upload returned"
_server: Any = gradio.mcp.GradioMCPServer
_simplified, _created = _server.simplify_filedata_schema, _server.create_mcp_server


def content(self: Any, data: list[Any], root_url: str) -> list[Any]:
    """Return each output as JSON text, and the overlay, where there is one, as a picture after it."""
    parts: list[Any] = []
    for output in data:
        shown = dict(output) if isinstance(output, dict) else output
        overlay = shown.pop("overlay", None) if isinstance(shown, dict) else None
        parts.append(types.TextContent(type="text", text=json.dumps(shown, ensure_ascii=False)))
        if overlay:
            encoded = overlay.partition(",")[2]
            parts.append(types.ImageContent(type="image", data=encoded, mimeType="image/png"))
    return parts


def create(self: Any) -> Any:
    """Return Gradio's MCP server, whose answers also have their structured content: a list stands under `answers`."""
    server = _created(self)
    call = server.request_handlers[types.CallToolRequest]

    async def structured(request: types.CallToolRequest) -> types.ServerResult:
        result = await call(request)
        if isinstance(result.root, types.CallToolResult) and not result.root.isError:
            text: Any = result.root.content[0]
            answer = json.loads(text.text)
            result.root.structuredContent = answer if isinstance(answer, dict) else {"answers": answer}
        return result

    server.request_handlers[types.CallToolRequest] = structured
    return server


def schema(self: Any, given: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return a tool's schema with what may stand in a file's place."""
    simple, places = _simplified(self, given)
    waiting: list[Any] = [simple]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if str(node.get("format", "")).startswith("Gradio"):
                node["format"] = _KINDS
                node.pop("title", None)
                node.pop("required", None)  # of a file as Gradio describes it, as is the text of a list's items
                if places and node.get("description", "").startswith("The FileData"):
                    del node["description"]
            waiting += node.values()
    return simple, places


def how_to_send(self: Any) -> str:
    """Return the end of each tool's description that takes files. All but web addresses work on localhost too."""
    address = f"{(self.local_url or 'http://127.0.0.1:7860').rstrip('/')}/gradio_api/upload"
    return (
        " How to send a file: as a data address (`data:image/png;base64,...`); or upload it "
        f"(`curl -F files=@scan.png {address}`, or this server's address as you know it) and send the path that this "
        "returns, each path once; or as a public http or https address. Paths of your own machine mean nothing here."
    )


def install() -> None:
    """Make Gradio's MCP server answer like this; it offers no settings for it."""
    _server.postprocess_output_data = content
    _server.create_mcp_server = create
    _server.simplify_filedata_schema = schema
    _server._file_data_tool_description = property(how_to_send)
