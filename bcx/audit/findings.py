"""What an audit found, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bcx.audit.look import Look
from bcx.audit.matching import NEAR_DUPLICATE, Match
from bcx.audit.oddities import KINDS, Odd
from bcx.data.reading import join


@dataclass(frozen=True)
class Group:
    """Scans that show the same frame or lesion.

    Attributes:
        name: made of the content, so that it does not depend on file names.
        files: sorted.
        labels: the different labels among them; more than one is a conflict.
        parts: the different parts of the split among them; more than one means that it leaks.
    """

    name: str
    files: tuple[str, ...]
    labels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def harmful(self) -> bool:
        """Whether the group carries more than one label, or lies in more than one part of the split."""
        return len(self.labels) > 1 or len(self.parts) > 1


def make_groups(
    pairs: Iterable[tuple[str, str]],
    content: Mapping[str, str],
    labels: Mapping[str, str],
    parts: Mapping[str, str],
) -> list[Group]:
    """Join pairs of files into groups, in the order of their first file; `content` digests each file's pixels."""
    groups = []
    for members in join(pairs):
        if len(members) < 2:
            continue
        files = tuple(sorted(members))
        name = min(content[file] for file in files)[:12]
        found = [tuple(sorted({kind[f] for f in files if kind.get(f)})) for kind in (labels, parts)]
        groups.append(Group(name, files, *found))
    return sorted(groups, key=lambda group: group.files)


@dataclass(frozen=True)
class Pair:
    """Two files, in order of their names, and what they have in common."""

    a: str
    b: str
    match: Match

    @property
    def kind(self) -> str:
        return self.match.kind


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        looks: one for each image, in order of file names; files that are none are in `left_out`.
        pairs: near-duplicates first, then by how well they agree.
        groups: what pairs tie together.
        odd: (file, what), in the order of `KINDS`.
        labels, parts: of each file, where known.
        left_out: files that were not looked at further, as (file, why).
        notes: what is worth knowing about the run.
        seconds: how long it took.
    """

    root: Path
    looks: list[Look] = field(default_factory=list, repr=False)
    pairs: list[Pair] = field(default_factory=list, repr=False)
    groups: list[Group] = field(default_factory=list, repr=False)
    odd: list[tuple[str, Odd]] = field(default_factory=list, repr=False)
    labels: dict[str, str] = field(default_factory=dict, repr=False)
    parts: dict[str, str] = field(default_factory=dict, repr=False)
    left_out: list[tuple[str, str]] = field(default_factory=list, repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def conflicts(self) -> list[Group]:
        return [group for group in self.groups if len(group.labels) > 1]

    @property
    def straddling(self) -> list[Group]:
        return [group for group in self.groups if len(group.parts) > 1]

    @property
    def clean(self) -> bool:
        """Whether nothing at all was found."""
        return not (self.pairs or self.odd)

    def counts(self) -> dict[str, int]:
        """Return how much of each was found, by name."""
        pairs = Counter(pair.kind for pair in self.pairs)
        odd = Counter(odd.kind for _, odd in self.odd)
        return {
            "pictures": len(self.looks),
            "near-duplicate pairs": pairs[NEAR_DUPLICATE],
            "same-lesion pairs": len(self.pairs) - pairs[NEAR_DUPLICATE],
            "groups": len(self.groups),
            "pictures in groups": sum(len(group.files) for group in self.groups),
            "label conflicts": len(self.conflicts),
            **({"groups that straddle the split": len(self.straddling)} if self.parts else {}),
            **{kind: odd[kind] for kind in KINDS},
        }
