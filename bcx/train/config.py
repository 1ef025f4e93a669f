"""Recipes: every setting of a training run, checked before anything starts.

>>> recipe = Recipe(epochs=3)
>>> recipe.arch, recipe.epochs
('mobilenetv2_100', 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bcx.errors import ConfigError


class LesionRecipe(BaseModel):
    """Settings of the lesion head (bcx/lesion.py). Scans without a mask, and hospitals without normals, still train."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    balance: bool = Field(True, description="show smaller hospitals' scans several times an epoch: equal weight")
    enlarge: bool = Field(True, description="every second view is the lesion with its surroundings, enlarged")
    presence_elsewhere: float = Field(
        0.5, ge=0, le=1, description="weight of 'there is a lesion' for hospitals that have no normal scans"
    )
    presence: float = Field(0.5, ge=0, le=10, description="weight of 'is there a lesion' in the loss")
    absent: float = Field(1.5, gt=0, le=20, description="weight of a scan without a lesion there")


class Recipe(BaseModel):
    """One way to train a network. Unknown keys are errors.

    The data's folders and the starting weights differ from machine to machine; they may stand here or be given
    on the command line (`--data busi=DIR`, `--init FILE`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("my-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the checkpoint")
    task: str = Field("breast-ultrasound", description="a name from bcx/tasks.py")
    data: dict[str, str] = Field(default_factory=dict, description="folders by source name: busi, busbra, or yours")
    arch: str = Field("mobilenetv2_100", description="timm's name of the network")
    init: str = Field("timm", description="'scratch', 'timm', or a .safetensors file in timm's names")
    size: int = Field(224, ge=32, le=1024, description="side of the network's input, pixels")
    mean: tuple[float, float, float] | None = Field(None, description="normalisation; default: what suits `init`")
    std: tuple[float, float, float] | None = Field(None, description="normalisation; default: what suits `init`")

    lesion: LesionRecipe | None = Field(None, description="settings of the lesion head; none: the plain linear head")

    epochs: int = Field(16, ge=1, le=1000)
    batch_size: int = Field(32, ge=2, le=1024)
    lr: float = Field(5e-4, gt=0, le=1, description="peak learning rate of the backbone")
    head_lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of the head")
    weight_decay: float = Field(0.02, ge=0, le=1)
    warmup: float = Field(0.2, gt=0, lt=1, description="share of the steps in which the learning rate rises")
    clip: float = Field(2.0, gt=0, description="largest gradient norm")
    drop: float = Field(0.2, ge=0, lt=1, description="dropout of whole channels of the last feature map")
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weight_cap: float = Field(3.0, ge=1, description="largest weight of a class in the loss")
    freeze_stages: int = Field(0, ge=0, le=12, description="stages at the input that are not trained")
    augment: float = Field(1.0, ge=0, le=2, description="strength of augmentation; 0 turns it off")

    inner_fraction: float = Field(
        0.0, ge=0, lt=0.9, description="share of the training groups kept aside to watch; 0 trains on all"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after this many epochs without a better inner ROC-AUC, and keep the best"
    )
    folds: int = Field(5, ge=2, le=20, description="outer folds, where the data has no published ones")
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16 autocast, or plain float32")
    workers: int = Field(0, ge=0, le=64, description="processes that prepare batches beside the training one")

    @model_validator(mode="after")
    def _patience_needs_inner(self) -> Recipe:
        if self.patience is not None and self.inner_fraction == 0:
            raise ValueError("patience needs inner_fraction > 0: early stopping watches an inner validation part")
        return self

    @model_validator(mode="after")
    def _lesion_maps_fit(self) -> Recipe:
        if self.lesion is not None and self.size % 32:
            raise ValueError("with the lesion head, size must be a multiple of 32, since its maps stand at 1/8 to 1/32")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine a run's result; folders and the starting file's place do not.

        Settings that are younger than the first stored results count where they differ from what was fixed before, so
        that finished runs keep their mark.
        """
        settings = self.model_dump(exclude={"data", "init", "workers"})
        lesion = settings["lesion"]
        if lesion is None:
            del settings["lesion"]
        else:
            _drop_defaults(lesion, LesionRecipe, ("presence", "absent"))
        return settings


def _drop_defaults(settings: dict[str, Any], model: type[BaseModel], names: Sequence[str]) -> None:
    for name in names:
        if settings[name] == model.model_fields[name].default:
            del settings[name]


def load_recipe(file: Path | None, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML, and lay command-line values over it.

    Args:
        file: YAML with any of `Recipe`'s keys; None starts from the defaults.
        overrides: values that win over the file's; `data` is merged source by source.

    Raises:
        ConfigError: no such file, no mapping, an unknown key, or a value out of range; every problem is named.
    """
    values: dict[str, Any] = {}
    where = "the command line"
    if file is not None:
        where = f"'{file.name}'"
        try:
            loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(
                f"The recipe {where} cannot be read ({error}).",
                expected="a YAML file, such as configs/mobilenetv2-busi.yaml",
                remedy="Check the path and the file's syntax.",
            ) from error
        if not isinstance(loaded, dict):
            raise ConfigError(
                f"The recipe {where} holds no settings.", expected="lines of 'key: value'", remedy="See configs/."
            )
        values = loaded
    for key, value in (overrides or {}).items():
        if key == "data" and isinstance(values.get("data"), dict):
            value = {**values["data"], **value}
        values[key] = value
    try:
        return Recipe(**values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"The recipe from {where} has settings that do not fit: {problems}.",
            expected=f"only these keys: {', '.join(Recipe.model_fields)}",
            remedy="Correct or remove the settings named.",
        ) from error
    except TypeError as error:
        raise ConfigError(
            f"The recipe from {where} has a key that is no word ({error}).",
            expected="keys such as 'epochs'",
            remedy="Correct the file.",
        ) from error
