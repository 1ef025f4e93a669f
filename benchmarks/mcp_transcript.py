"""Write down what an MCP client and the page say to each other: results/page/mcp.json.

python benchmarks/mcp_transcript.py
"""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from pathlib import Path
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from bcx import DEFAULT_MODEL
from bcx.train.provenance import describe_command, write_json

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "page" / "mcp.json"


def as_address(file: Path) -> str:
    """Return a picture as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def shortened(value: Any) -> Any:
    """The same with long texts cut and numbers rounded, to be read by a person."""
    if isinstance(value, dict):
        return {key: shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shortened(each) for each in value]
    if isinstance(value, str) and len(value) > 400:
        return f"{value[:120]}... ({len(value):,} characters)"
    return round(value, 4) if isinstance(value, float) else value


async def talk(url: str) -> list[dict[str, Any]]:
    """Ask which tools there are, then classify a scan, a batch with a broken entry, and something that is no file."""
    scan = as_address(ROOT / "examples" / "simulated-malignant-1.png")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("classify", {"scan": scan}),
        ("classify", {"scan": scan, "overlay": True}),
        ("batch", {"scans": [scan, "missing.png"]}),
        ("classify", {"scan": "/etc/hostname"}),
    ]
    async with (
        streamablehttp_client(f"{url}gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        tools = await session.list_tools()
        said = [{"ask": "tools/list", "answer": {tool.name: shortened(tool.description) for tool in tools.tools}}]
        for tool, arguments in calls:
            answer = await session.call_tool(tool, arguments)
            said.append(
                {"ask": tool, "with": shortened(arguments), "answer": shortened(answer.model_dump(mode="json"))}
            )
    return said


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["GRADIO_TEMP_DIR"] = temporary
        from bcx.app.server import create, launch

        app = create(DEFAULT_MODEL)
        url = launch(app, prevent_thread_lock=True, quiet=True)[1]
        said = asyncio.run(talk(url))
        app.close()
    about = describe_command("python benchmarks/mcp_transcript.py")
    write_json(OUT, {"what": "an MCP client and the page", **about, "transcript": said})


if __name__ == "__main__":
    main()
