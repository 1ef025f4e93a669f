"""Recipes: every setting of a training run, checked before anything starts."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bcx.checkpoints.config import DenseBlock, Std, Width
from bcx.data.settings import Settings, checked, read_settings
from bcx.errors import ConfigError
from bcx.tasks import get_task

_Drop = Annotated[float, Field(ge=0, lt=1)]
_Part = Annotated[float, Field(ge=0)]
_Some = Annotated[float, Field(gt=0)]


class LesionRecipe(Settings):
    """Settings of the lesion head."""

    balance: bool = Field(True, description="show smaller hospitals' scans several times an epoch: equal weight")
    enlarge: bool = Field(True, description="every second view is the lesion with its surroundings, enlarged")
    presence_elsewhere: float = Field(0.5, ge=0, le=1, description="weight of presence in hospitals without normals")
    presence: float = Field(0.5, ge=0, le=10, description="weight of 'is there a lesion' in the loss")
    absent: float = Field(1.5, gt=0, le=20, description="weight of a scan without a lesion there")
    context: bool = Field(True, description="'is there a lesion' also reads the deepest features, not the map alone")


class DenseRecipe(DenseBlock, strict=False):
    """Settings of the dense head (bcx/networks/dense.py)."""

    pool: Literal["flatten", "average"] = Field("average", description="every place of the last map, or their mean")
    widths: tuple[Width, ...] = Field((256,), max_length=4, description="units of the dense layers before the output")
    drops: tuple[_Drop, ...] = Field((0.0, 0.5), description="dropout before each dense layer and before the output")


class Published(Settings):
    """What a published system reports, and what differs in its repetition; nothing here changes the training."""

    system: str = Field(min_length=1, description="what it is called in the table")
    split: tuple[_Some, _Part, _Some] | None = Field(None, description="training, set aside, test; none: `folds` folds")
    figures: dict[str, float] = Field({}, description="what was reported, by names of bcx.evaluate.metrics")
    differs: tuple[str, ...] = Field((), description="what differs here, in sentences")


class Recipe(Settings):
    """One way to train a network. Folders and starting weights may also come from the command line."""

    name: str = Field("my-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the checkpoint")
    task: str | dict[str, Any] = Field("breast-ultrasound", description="a name from bcx/tasks.py, or a task of yours")
    data: dict[str, str] = Field({}, description="folders by source name: busi, busbra, breast or yours")
    arch: str = Field("mobilenetv2_100", description="timm's name of the network")
    init: str = Field("timm", description="'scratch', 'timm', or a .safetensors file in timm's names")
    size: int = Field(224, ge=32, le=1024, description="side of the network's input, pixels")
    mean: tuple[float, float, float] | None = Field(None, description="normalisation; default: what suits `init`")
    std: tuple[Std, Std, Std] | None = Field(None, description="normalisation; default: what suits `init`")

    lesion: LesionRecipe | None = Field(None, description="settings of the lesion head; none: the plain linear head")
    dense: DenseRecipe | None = Field(None, description="settings of the dense head; none: the plain linear head")

    epochs: int = Field(16, ge=1, le=1000)
    batch_size: int = Field(32, ge=2, le=1024)
    lr: float = Field(5e-4, gt=0, le=1, description="peak learning rate of the backbone")
    head_lr: float = Field(2e-3, gt=0, le=1, description="peak learning rate of the head")
    weight_decay: float = Field(0.02, ge=0, le=1)
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="adam: weight decay goes through the gradient")
    schedule: Literal["one-cycle", "constant"] = Field("one-cycle", description="up, then down; or the peak throughout")
    warmup: float = Field(0.2, gt=0, lt=1, description="share of the steps in which the learning rate rises")
    clip: float | None = Field(2.0, gt=0, description="largest gradient norm; none: gradients are taken as they are")
    drop: float = Field(0.2, ge=0, lt=1, description="dropout of whole channels of the last feature map")
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    class_weight_cap: float | None = Field(3.0, ge=1, description="largest weight of a class in the loss; none: all 1")
    oversample: bool = Field(False, description="draw scans of rarer classes again until all are as frequent")
    freeze_stages: int = Field(0, ge=0, le=12, description="stages at the input that are not trained")
    freeze_base: bool = Field(False, description="only the head is trained")
    balance: bool = Field(False, description="show smaller sources' scans several times an epoch: equal weight")
    presence_elsewhere: float = Field(1.0, ge=0, le=1, description="weight of presence in sources without normals")
    augment: float = Field(1.0, ge=0, le=2, description="strength of augmentation; 0 turns it off")
    augmentation: str | None = Field(None, description="a name from bcx/train/augment.py; none: what suits the task")
    averaged: tuple[str, ...] = Field((), max_length=16, description="augmentations: a training with each, averaged")

    inner_fraction: float = Field(0.0, ge=0, lt=0.9, description="share of the training groups kept aside to watch")
    patience: int | None = Field(None, ge=1, description="epochs without a better one, after which the best is kept")
    watch: Literal["roc_auc", "loss"] = Field("roc_auc", description="what `patience` calls better: its figure")
    folds: int = Field(5, ge=2, le=20, description="outer folds, where the data has no published ones")
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16 where the processor has it, or fp32")
    workers: int = Field(0, ge=0, le=64, description="processes that prepare batches beside the training one")

    #: Networks that answer together, each by what differs from this recipe ('lesion: null' reads the whole image).
    members: tuple[dict[str, Any], ...] = Field((), max_length=16)
    published: Published | None = Field(None, description="what a published system with this recipe reports")

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_fixed_now(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if key not in _FIXED or value != _FIXED[key]}

    @field_validator("task")
    @classmethod
    def _task_is_one(cls, task: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(task, dict):  # names are looked up when training starts, as folders are
            get_task(task)
        return task

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        lesion, members = self.lesion is not None, self.members
        if members and (len(members) < 2 or not lesion or members[0].get("lesion", {}) is None):
            raise ValueError("members need the lesion head, the first of them too, and there are at least two")
        if self.averaged and (not 1 < len(self.averaged) == len(set(self.averaged)) or self.augmentation is not None):
            raise ValueError("averaged names two augmentations or more, each once, and then no 'augmentation' is given")
        if self.patience is not None and self.inner_fraction == 0:
            raise ValueError("patience needs inner_fraction > 0: early stopping watches an inner validation part")
        if self.balance and self.oversample:
            raise ValueError("balance and oversample each have an order of their own: choose one")
        if lesion and self.size % 32:
            raise ValueError("with the lesion head, size must be a multiple of 32, since its maps stand at 1/8 to 1/32")
        if lesion and (asked := [name for name in ("dense", "oversample", "balance") if getattr(self, name)]):
            raise ValueError(f"the lesion head has a loss and an order of its own, no {asked[0]}")
        if lesion and self.presence_elsewhere < 1:
            raise ValueError("with the lesion head, presence_elsewhere belongs into the 'lesion' block")
        shared = {"task", "data", "arch", "size", "mean", "std", "folds", "inner_fraction", "members"}
        if fixed := sorted(key for settings in members for key in shared & set(settings)):
            raise ValueError(f"members share {fixed[0]}")
        self.member_recipes()  # each is checked
        return self

    def member_recipes(self) -> list["Recipe"]:
        """Return a recipe for each member, in full; empty where one network is trained."""
        own = self.model_dump(exclude={"members"})
        recipes = []
        for settings in self.members:
            block = settings.get("lesion", {})
            lesion = {**own["lesion"], **block} if isinstance(block, dict) else block
            recipes.append(Recipe(**{**own, **settings, "lesion": lesion}))
        return recipes

    def averaged_recipes(self) -> list["Recipe"]:
        """Return a recipe for each training whose weights are averaged; empty where there is one training."""
        own = self.model_dump(exclude={"averaged"})
        usual = get_task(self.task).augmentation if self.averaged else None
        return [Recipe(**{**own, "augmentation": None if name == usual else name}) for name in self.averaged]

    def trainings(self) -> list["Recipe"]:
        """Return the recipe of every single training that this one takes, in their order."""
        parts = self.member_recipes() or self.averaged_recipes()
        return [training for part in parts for training in part.trainings()] or [self]

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine a run's result, without folders and the starting file's place.

        Settings younger than the first stored results count only where they were changed: finished runs keep their
        mark.
        """
        settings = self.model_dump(exclude={"data", "init", "workers", "published"})
        changed = self.model_dump(exclude_defaults=True)
        if self.lesion is None:
            del settings["lesion"]
        else:
            settings["lesion"] = _without(_YOUNG_OF_LESION, settings["lesion"], changed["lesion"])
        return _without(_YOUNG, settings, changed)


#: What recipes of earlier versions could set, by the value that stored ones have.
_FIXED = {"focal": 0, "freeze_norms": False, "picture": {"presence": 1 / 3, "kind": 1 / 3}}
#: Settings that are younger than the first stored results.
_YOUNG = {"dense", "optimizer", "schedule", "oversample", "freeze_base", "augmentation", "averaged", "members", "watch"}
_YOUNG |= {"balance", "presence_elsewhere"}
_YOUNG_OF_LESION = {"presence", "absent", "context"}


def _without(young: set[str], settings: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in young or name in changed}


def require_one_training(recipe: Recipe) -> None:
    """Refuse what trains several networks, where settings or architectures are compared."""
    if (count := len(recipe.trainings())) > 1:
        raise ConfigError(
            f"This recipe takes {count} trainings.",
            expected="a recipe of one training",
            remedy="Leave out its 'members' and 'averaged'.",
        )


def find_recipe(file: Path) -> Path:
    """Return the file of a recipe given by path or by its bare name: below `configs/`, here or in the checkout."""
    if file.is_file() or file.suffix or file.parent != Path("."):
        return file
    folders = [Path("configs"), Path(__file__).resolve().parents[2] / "configs"]
    folders += [folder / "studies" for folder in folders]
    found = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.yaml")}  # the first one wins
    if file.name in found:
        return found[file.name]
    raise ConfigError(
        f"There is no recipe called '{file.name}'.",
        expected=f"a YAML file, or one of: {', '.join(sorted(found))}",
        remedy="Check the name, or give the path of your own recipe.",
    )


def load_recipe(file: Path | None, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe from YAML, and lay command-line values over it.

    `file` may be the bare name of one in configs/; None starts from the defaults. `data` is merged source by source.

    Raises:
        ConfigError: no such file, no mapping, an unknown key, or a value out of range; every problem is named.
    """
    values, where, over = dict[str, Any](), "the command line", dict(overrides or {})
    if file is not None:
        file = find_recipe(file)
        values, where = read_settings(file, "configs/mobilenetv2-busi.yaml"), f"'{file.name}'"
    if isinstance(values.get("data"), dict) and isinstance(over.get("data"), dict):
        over["data"] = values["data"] | over["data"]
    return checked(Recipe, values | over, where)
