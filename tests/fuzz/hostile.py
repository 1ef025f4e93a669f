"""Values that nobody asked for, and ways to put them into trees, texts and files."""

import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

#: Stands for itself in JSON and YAML once `spelled` has put the text there, which no Python value would give.
RAW = {
    "raw:overflow": "1e400",
    "raw:digits": "9" * 6000,
    "raw:deep": "[" * 2000 + "]" * 2000,
    "raw:deep-map": '{"a":' * 500 + "1" + "}" * 500,
    "raw:surrogate": '"\\ud800"',
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 7, 10**9, -(10**9), 2**63, 10**30, 1e-300, 0.5, -0.5, 1.0000001, 1e9, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "0.5", "nan", "1e9", "yes", "x" * 100_000, "\0", "a\nb", "\u202e", "=1+1", "<script>alert(1)</script>"),
    *("/etc/passwd", "../../../etc/passwd", "../gate.safetensors", "hf-hub:owner/model", "C:\\x", "http://127.0.0.1/"),
    *([], [[]], [None], [0], [1, 2, 3], [0.5] * 3, [1e9] * 3, [0.0, 0.5, float("nan")], ["a"] * 3, list(range(5000))),
    *({}, {"": {}}, {"a": 1}, {"0": [{}]}, {str(i): i for i in range(500)}),
    *RAW,
]

Path = tuple[Any, ...]


def paths_of(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the way to every value below the root."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from paths_of(value, (*path, key))


def damaged(tree: Any, rng: Random, at: Path = ()) -> Any:
    """Return a copy with one to three values replaced, removed, added, exchanged or scaled, all below `at`."""
    tree = deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = [path for path in paths_of(tree) if path[: len(at)] == at]
        if not ways:
            return tree
        path = rng.choice(ways)
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        how, key = rng.random(), path[-1]
        if how < 0.6:
            parent[key] = deepcopy(rng.choice(VALUES))
        elif how < 0.7:
            del parent[key]
        elif how < 0.8 and isinstance(parent, dict):
            parent[rng.choice(("surplus", "", "__class__", "size", "a.b"))] = deepcopy(rng.choice(VALUES))
        elif how < 0.9 and isinstance(parent[key], int | float):
            parent[key] = parent[key] * rng.choice((-1, 0, 0.5, 2, 10, 1000, 1e-6))
        elif isinstance(parent[key], list) and parent[key]:
            parent[key] = parent[key] * rng.choice((0, 2, 50))
        else:
            other = tree
            for step in rng.choice(ways):
                if not isinstance(other, dict | list) or step not in (
                    other if isinstance(other, dict) else range(len(other))
                ):
                    break
                other = other[step]
            parent[key] = deepcopy(other)
    return tree


def spelled(tree: Any) -> str:
    """Return JSON (which YAML reads too) with the texts of `RAW` in their places."""
    text = json.dumps(tree)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text


def scratched(data: bytes, rng: Random, head: int = 4000) -> bytes:
    """Return bytes with some changed, cut off, repeated or put in, mostly near the beginning, where headers are."""
    end = min(len(data), head) if rng.random() < 0.7 else len(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(max(1, end))
        how = rng.random()
        if how < 0.5:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif how < 0.65:
            data = data[:at]
        elif how < 0.8:
            data = data[:at] + data[at : at + rng.randrange(1, 200)] + data[at:]
        else:
            data = (
                data[:at]
                + rng.choice((b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"9" * 5000, b'"', b"\r", b"\n\n"))
                + data[at:]
            )
    return data
