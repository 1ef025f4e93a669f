"""What a published system reports, beside the recipe that repeats it.

>>> Published(system="R3", split=(80, 0, 20), figures={"accuracy": 0.98}).figures["accuracy"]
0.98
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Published(BaseModel):
    """What was published, and what differs in the repetition; it changes nothing in how a network is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    system: str = Field(min_length=1, description="what it is called in the table")
    split: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="sizes of the parts for training, set aside and test, in any unit; none: as many folds as the "
        "recipe says",
    )
    figures: dict[str, float] = Field(
        default_factory=dict, description="what was reported, by the names of bcx.evaluate.intervals.figure_names"
    )
    differs: tuple[str, ...] = Field((), description="what differs here, in sentences")

    @model_validator(mode="after")
    def _both_sides_hold_something(self) -> Published:
        if self.split is not None and (self.split[0] == 0 or self.split[2] == 0):
            raise ValueError("split needs a part for training (the first) and one for the test (the third)")
        return self
