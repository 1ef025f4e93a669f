"""Recipes of generators: every setting of a training run, checked before anything starts.

>>> recipe = SynthRecipe(size=32, epochs=10, per_class={"malignant": {"epochs": 20}})
>>> recipe.for_class("malignant").epochs, recipe.for_class("normal").epochs
(20, 10)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bcx.data.settings import checked, read_settings
from bcx.errors import ConfigError
from bcx.tasks import get_task

#: The parts of DiffAugment that make sense without colour, and the mirror image.
AugmentationName = Literal["flip", "brightness", "contrast", "translation", "cutout"]
AUGMENTATIONS: tuple[AugmentationName, ...] = ("flip", "brightness", "contrast", "translation", "cutout")


class ClassSettings(BaseModel):
    """What differs for one class; None takes the recipe's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int | None = Field(None, ge=1, le=100_000)
    batch_size: int | None = Field(None, ge=2, le=1024)
    images: int | None = Field(None, ge=1, description="pictures that were generated of this class, for the record")


class SynthRecipe(BaseModel):
    """One way to train a generator and its discriminator, once per class. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("my-generator", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: str = Field("breast-ultrasound", description="a name from bcx/tasks.py")
    data: dict[str, str] = Field(default_factory=dict, description="folders by source name, as in `bcx train`")
    classes: tuple[str, ...] = Field((), description="classes that get a generator; none named: every class")
    networks: Literal["dcgan", "upsampling"] = Field(
        "upsampling", description="transposed convolutions as in DCGAN, or enlarging and convolving"
    )
    size: int = Field(64, ge=16, le=256, description="side of the pictures, pixels")
    noise: int = Field(128, ge=2, le=1024, description="numbers that a picture is made from")
    width: int = Field(32, ge=4, le=256, description="channels at the finest grid; coarser grids have more")
    spectral_norm: bool = Field(True, description="hold every layer of the discriminator to a spectral norm of 1")
    loss: Literal["bce", "hinge"] = Field("hinge")
    augment: tuple[AugmentationName, ...] = Field(
        AUGMENTATIONS, description="changes that the discriminator sees, on real and generated pictures alike"
    )
    ema: float = Field(0.99, ge=0, lt=1, description="per step, of the generator that is kept; 0 keeps the last one")
    lr_generator: float = Field(2e-4, gt=0, le=1)
    lr_discriminator: float = Field(2e-4, gt=0, le=1)
    beta1: float = Field(0.0, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    epochs: int = Field(300, ge=1, le=100_000)
    batch_size: int = Field(16, ge=2, le=1024)
    per_class: dict[str, ClassSettings] = Field(default_factory=dict, description="settings of single classes")
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16 autocast, or plain float32")

    @model_validator(mode="after")
    def _fits(self) -> SynthRecipe:
        try:
            known = get_task(self.task).classes
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if strange := sorted({*self.classes, *self.per_class} - set(known)):
            raise ValueError(f"no class is called '{strange[0]}'; the task has {', '.join(known)}")
        if self.networks == "dcgan" and self.size % 8:
            raise ValueError("with networks: dcgan, size must be a multiple of 8, which is its first grid")
        if self.networks == "upsampling" and self.size & (self.size - 1):
            raise ValueError("with networks: upsampling, size must be a power of 2, since it doubles from 4 pixels on")
        return self

    def labels(self) -> tuple[str, ...]:
        """Return the classes that get a generator."""
        return self.classes or get_task(self.task).classes

    def for_class(self, label: str) -> SynthRecipe:
        """Return the recipe of one class, with its own epochs and batch size in place."""
        own = self.per_class.get(label, ClassSettings.model_validate({}))
        changes: dict[str, Any] = {"classes": (label,), "per_class": {}}
        changes |= {key: value for key, value in own.model_dump(exclude={"images"}).items() if value is not None}
        return self.model_copy(update=changes)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the weights; names and folders do not."""
        return self.model_dump(mode="json", exclude={"data", "name"})


def load_synth_recipe(file: Path, overrides: dict[str, Any] | None = None) -> SynthRecipe:
    """Read a generator's recipe from YAML, and lay other values over it.

    Args:
        overrides: values that win over the file's. `epochs` and `batch_size` win over those of single classes too.

    Raises:
        ConfigError: as `bcx.data.settings.read_settings` and `checked`.
    """
    values = {**read_settings(file, "configs/synth-modern.yaml"), **(overrides or {})}
    recipe = checked(SynthRecipe, values, f"'{file.name}'")
    won = {key for key in ("epochs", "batch_size") if key in (overrides or {})}
    own = {label: s.model_copy(update=dict.fromkeys(won)) for label, s in recipe.per_class.items()}
    return recipe.model_copy(update={"per_class": own})
