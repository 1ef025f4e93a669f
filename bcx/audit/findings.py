"""What an audit found, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bcx.audit.look import Look
from bcx.audit.matching import NEAR_DUPLICATE, Match
from bcx.audit.oddities import KINDS, Odd
from bcx.data.reading import join


@dataclass(frozen=True)
class Group:
    """Scans that show the same frame or lesion."""

    name: str  # made of the content, so that it does not depend on file names
    files: tuple[str, ...]  # sorted
    labels: tuple[str, ...]  # the different ones among them; more than one is a conflict
    parts: tuple[str, ...]  # of the split, the different ones among them; more than one means that it leaks

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
    """What an audit found."""

    root: Path
    looks: list[Look]  # one for each image, in order of file names
    pairs: list[Pair]  # near-duplicates first, then by how well they agree
    groups: list[Group]  # what pairs tie together
    odd: list[tuple[str, Odd]]  # (file, what), in the order of `KINDS`
    labels: dict[str, str]  # by file, where known
    parts: dict[str, str]
    left_out: list[tuple[str, str]]  # files that are no images, as (file, why)
    notes: tuple[str, ...]  # what is worth knowing about the run
    seconds: float

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

    def told(self) -> Iterator[tuple[str, str, int]]:
        """Yield (name, heading, count) of all that is worth telling: oddities only where there are some."""
        for name, count in self.counts().items():
            if count or name not in KINDS:
                words = KINDS.get(name, name)
                yield name, f"{words[0].upper()}{words[1:]}", count

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
