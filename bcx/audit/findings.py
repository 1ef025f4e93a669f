"""What an audit found, as plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bcx.audit.grouping import Group
from bcx.audit.look import Look
from bcx.audit.matching import NEAR_DUPLICATE, Match
from bcx.audit.oddities import KINDS, Odd


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
