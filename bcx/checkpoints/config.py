"""What config.json of a checkpoint, which may come from a stranger, may say; checked before anything is built from it.

Every key has a type and a range here, an unknown one is named, and nothing in it names a file or a place on the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from bcx.errors import CheckpointError, ConfigError, problems_of
from bcx.tasks import Task, get_task

FORMAT = 1
INPUT_CHECK_FILE = "gate.safetensors"
Linear = Literal["average pooling, linear", "average pooling, linear, in place of the network's own"]
Head = Literal[Linear, "dense layers of its own", "lesion", "dense"]
LINEAR, PLAIN, TINY, LESION, DENSE = get_args(Head)
MOST_BYTES = 1_000_000  # of config.json; the shipped ones have 5,000
MOST_MEMBERS = 16

Share = Annotated[float, Field(ge=0, le=1)]
_Classes = Annotated[tuple[str, ...], Field(min_length=2, max_length=100)]
_Mean = Annotated[float, Field(ge=-10, le=10)]
Std = Annotated[float, Field(ge=1e-3, le=10)]
Width = Annotated[int, Field(ge=1, le=4096)]
_Side = Annotated[int, Field(ge=16, le=2048)]


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class ModelArgs(_Block):
    """What timm builds the network from: no addresses, no files, no other kind of pooling."""

    num_classes: int = Field(ge=0, le=100)
    in_chans: Literal[3] = 3
    global_pool: Literal["avg"] = "avg"
    pad_type: Literal["", "same"] = ""
    drop_rate: Share = 0.0
    img_size: tuple[_Side, _Side] | _Side | None = None


class PreprocessBlock(_Block):
    """Of `bcx.imaging.preprocess.Preprocess`."""

    size: _Side
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[Std, Std, Std]
    grey: bool
    fit: Literal["squash"]


class DenseBlock(_Block):
    """Of `bcx.networks.dense.DenseNetwork`."""

    pool: Literal["flatten", "average"]
    widths: tuple[Width, ...] = Field(max_length=4)
    drops: tuple[Share, ...]

    @model_validator(mode="after")
    def _lengths_agree(self) -> DenseBlock:
        if len(self.drops) != len(self.widths) + 1:
            raise ValueError("drops needs one number more than widths: one before each dense layer and the output")
        return self


class ShareBlock(_Block):
    """Of `bcx.networks.ensemble.PictureShare`."""

    presence: Share
    kind: Share


class PictureBlock(_Block):
    """Which members of an ensemble read the whole image, and their share."""

    members: tuple[Annotated[int, Field(ge=1, lt=MOST_MEMBERS)], ...] = Field(min_length=1, max_length=MOST_MEMBERS)
    share: ShareBlock


class InputCheckBlock(_Block):
    """Of `bcx.trust.input_check.InputCheck`, beside its arrays in `INPUT_CHECK_FILE`."""

    kind: Literal["mahalanobis of stage means"]
    file: Literal["gate.safetensors"]
    unit: float = Field(gt=0, le=1e6)
    allowance: float = Field(gt=0, le=1000)


class DecisionsBlock(_Block):
    """Of `bcx.trust.rule.Decider`, which checks what each holds."""

    rule: dict[str, JsonValue] | None = None
    operating_point: dict[str, JsonValue] | None = None
    refer: dict[str, JsonValue] | None = None


class BcxBlock(_Block):
    format: Literal[1]
    task: str | dict[str, Any]
    classes: _Classes
    head: Head
    dense: DenseBlock | None = None
    members: int = Field(1, ge=1, le=MOST_MEMBERS)
    picture: PictureBlock | None = None
    preprocess: PreprocessBlock
    temperature: float = Field(ge=0.05, le=20)
    input_check: InputCheckBlock | None = Field(None, alias="gate")  # its name in the stored format
    decisions: DecisionsBlock | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _blocks_agree(self) -> BcxBlock:
        try:
            task = get_task(self.task)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if self.classes != task.classes:
            raise ValueError(f"the classes are not those of the task: {', '.join(task.classes)}")
        if (self.head == DENSE) != (self.dense is not None):
            raise ValueError(f"a 'dense' block belongs to the head '{DENSE}'")
        if self.head != LESION and (self.members, self.picture) != (1, None):
            raise ValueError(f"members and picture belong to the head '{LESION}'")
        if self.head == LESION and (task.absent is None or len(task.classes) != 3 or self.preprocess.size % 32):
            raise ValueError(f"the head '{LESION}' needs three classes, an absent one, and a size in steps of 32")
        if self.picture is not None and max(self.picture.members) >= self.members:
            raise ValueError(f"a member that reads the picture is none of the {self.members}")
        return self


class Config(_Block):
    """config.json: timm's keys, of which it needs the first and `model_args`, and the `bcx` block."""

    architecture: str = Field(pattern=r"^[A-Za-z0-9_]{1,100}$")
    num_classes: int = Field(ge=0)
    num_features: int = Field(ge=1)
    global_pool: str = ""
    label_names: _Classes
    label_descriptions: dict[str, str] | None = None
    model_args: ModelArgs
    pretrained_cfg: dict[str, JsonValue]
    bcx: BcxBlock

    @model_validator(mode="after")
    def _timm_is_told_the_same(self) -> Config:
        outputs = 0 if self.bcx.head in (LESION, DENSE) else len(self.bcx.classes)
        if not self.num_classes == self.model_args.num_classes == outputs:
            raise ValueError(f"num_classes is not {outputs}, as the head '{self.bcx.head}' has it")
        if self.label_names != self.bcx.classes:
            raise ValueError("label_names are not the task's classes")
        size = self.bcx.preprocess.size
        if self.model_args.img_size not in (None, size, (size, size)):
            raise ValueError(f"img_size is not the preprocessing's size, {size}")
        return self

    @property
    def task(self) -> Task:
        return get_task(self.bcx.task)


def read_config(folder: Path) -> Config:
    """Read config.json of a checkpoint; `CheckpointError` where it or a key is missing, or a value does not fit."""
    try:
        with (folder / "config.json").open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise _damaged(folder, f"config.json cannot be read ({error.strerror})") from error
    if len(text) > MOST_BYTES:
        raise _damaged(folder, f"config.json has more than {MOST_BYTES:,} bytes")
    return check_config(folder, text)


def check_config(folder: Path, text: bytes | str) -> Config:
    """Check what config.json of a checkpoint in `folder` holds, or is to hold; errors as `read_config`."""
    try:
        return Config.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(folder, f"config.json does not fit: {problems_of(error)}") from error


def _damaged(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint '{folder.name}' is incomplete or damaged: {what}.",
        expected=f"a config.json as `bcx train` writes it, with a 'bcx' block of format {FORMAT}",
        remedy="Fetch or train the checkpoint again, or use the version of bcx that made it.",
    )
