"""Recipes of generators and of the study: every setting, checked before anything starts, and the runs they need."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from bcx.data.records import Record
from bcx.data.settings import Settings, checked, read_settings
from bcx.errors import ConfigError
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.crossval import split_fold
from bcx.train.provenance import hash_of

AugmentationName = Literal["flip", "brightness", "contrast", "translation", "cutout"]
AUGMENTATIONS: tuple[AugmentationName, ...] = ("flip", "brightness", "contrast", "translation", "cutout")


class ClassSettings(Settings):
    """What differs for one class; None takes the recipe's own."""

    epochs: int | None = Field(None, ge=1, le=100_000)
    batch_size: int | None = Field(None, ge=2, le=1024)
    images: int | None = Field(None, ge=1, description="images that were generated of this class, for the record")


class SynthRecipe(Settings):
    """One way to train a generator and its discriminator, once per class. Unknown keys are errors."""

    name: str = Field("my-generator", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: str = Field("breast-ultrasound", description="a name from bcx/tasks.py")
    classes: tuple[str, ...] = Field((), description="classes that get a generator; none named: every class")
    networks: Literal["dcgan", "upsampling"] = Field("upsampling", description="see `bcx.studies.synthesis.generator`")
    size: int = Field(64, ge=16, le=256, description="side of the images, pixels")
    noise: int = Field(128, ge=2, le=1024, description="numbers that an image is made from")
    width: int = Field(32, ge=4, le=256, description="channels at the finest grid; coarser grids have more")
    spectral_norm: bool = Field(True, description="hold every layer of the discriminator to a spectral norm of 1")
    loss: Literal["bce", "hinge"] = Field("hinge")
    augment: tuple[AugmentationName, ...] = Field(AUGMENTATIONS, description="what the discriminator sees changed")
    ema: float = Field(0.99, ge=0, lt=1, description="per step, of the generator that is kept; 0 keeps the last one")
    lr_generator: float = Field(2e-4, gt=0, le=1)
    lr_discriminator: float = Field(2e-4, gt=0, le=1)
    beta1: float = Field(0.0, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    epochs: int = Field(300, ge=1, le=100_000)
    batch_size: int = Field(16, ge=2, le=1024)
    per_class: dict[str, ClassSettings] = Field(default_factory=dict, description="settings of single classes")
    seed: int = Field(0, ge=0, lt=2**31)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="bf16 where the processor has it, or fp32")

    @model_validator(mode="after")
    def _fits(self) -> Self:
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

    def for_class(self, label: str) -> Self:
        """Return the recipe of one class, with its own epochs and batch size in place."""
        own = self.per_class[label].model_dump(exclude={"images"}, exclude_none=True) if label in self.per_class else {}
        return self.model_copy(update={"classes": (label,), "per_class": {}} | own)

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the weights; the name does not."""
        return self.model_dump(mode="json", exclude={"name"})


def load_synth_recipe(file: Path, overrides: dict[str, Any] | None = None) -> SynthRecipe:
    """Read a generator's recipe from YAML; `overrides` win, `epochs` and `batch_size` over those of classes too."""
    values = {**read_settings(file, "configs/synth-modern.yaml"), **(overrides or {})}
    recipe = checked(SynthRecipe, values, f"'{file.name}'")
    won = dict.fromkeys({"epochs", "batch_size"} & set(overrides or {}))
    own = {label: settings.model_copy(update=won) for label, settings in recipe.per_class.items()}
    return recipe.model_copy(update={"per_class": own})


@dataclass(frozen=True)
class Arm:
    """One way to train the classifier: augmented, with rare classes drawn again, or filled with generated images.

    These are by a generator that saw the training part only ("fold"), or by one that saw every scan ("all").
    """

    words: str
    augmented: bool = False
    oversample: bool = False
    generated: Literal["fold", "all"] | None = None


ARMS = {
    "plain": Arm("scans as they are (System 1)"),
    "oversampled": Arm("rare classes drawn again", oversample=True),
    "augmented": Arm("strong augmentation", augmented=True),
    "synthetic": Arm("rare classes filled with generated pictures (System 2)", generated="fold"),
    "synthetic-leaking": Arm("System 2, its generators saw the scored scans too", generated="all"),
    "augmented-oversampled": Arm("strong augmentation, rare classes drawn again", augmented=True, oversample=True),
    "augmented-synthetic": Arm(
        "strong augmentation, rare classes filled with generated pictures", augmented=True, generated="fold"
    ),
}
#: What is compared with what, where both were run: the question, then the arms.
QUESTIONS = (
    ("Do generated pictures help?", "synthetic", "plain"),
    ("Do they help more than drawing real ones again?", "synthetic", "oversampled"),
    ("Do they help more than augmentation?", "synthetic", "augmented"),
    ("Does drawing again help?", "oversampled", "plain"),
    ("Does augmentation help?", "augmented", "plain"),
    ("What does it add that generators saw the scored scans?", "synthetic-leaking", "synthetic"),
    ("Do generated pictures help beside augmentation?", "augmented-synthetic", "augmented"),
    ("And more than drawing again?", "augmented-synthetic", "augmented-oversampled"),
)


class StudyRecipe(Settings):
    """A study: a generator's recipe, a classifier's, the arms, folds and seeds. Unknown keys are errors."""

    name: str = Field("synth-study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    generator: SynthRecipe
    classifier: Recipe
    arms: tuple[str, ...] = Field(min_length=1)
    folds: tuple[Annotated[int, Field(ge=0, lt=20)], ...] = Field(min_length=1, description="outer folds to score")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        min_length=1, max_length=100, description="of the classifiers, and of the images that are drawn"
    )
    judge_by: str = Field("mobilenetv2-busi", description="checkpoint that describes images for their quality")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if strange := [name for name in self.arms if name not in ARMS]:
            raise ValueError(f"there is no arm called '{strange[0]}', only {', '.join(ARMS)}")
        for name in ("arms", "folds", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must be named once each")
        if self.generator.task != self.classifier.task:
            raise ValueError("generator and classifier must have the same task")
        if self.classifier.lesion is not None:
            raise ValueError("generated pictures have no lesion masks; use a head without them")
        return self


def load_study(file: Path, overrides: dict[str, Any] | None = None) -> StudyRecipe:
    """Read a study from YAML, whose `generator` may be a file beside it; `overrides` win, blocks key by key."""
    values = read_settings(file, "configs/synth-study.yaml")
    if isinstance(values.get("generator"), str):
        values["generator"] = load_synth_recipe(file.parent / values["generator"]).model_dump()
    for key, value in (overrides or {}).items():
        blocks = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = {**values[key], **value} if blocks else value
    return checked(StudyRecipe, values, f"'{file.name}'")


@dataclass(frozen=True)
class GeneratorJob:
    """One generator to train: of class `label`, from `records` without those of `fold` (None: from all)."""

    fold: int | None
    label: str
    records: list[Record]

    @property
    def folder(self) -> str:
        """Where it lies below the folder of generators."""
        return f"{'all' if self.fold is None else f'fold-{self.fold}'}/{self.label}"


@dataclass(frozen=True)
class RunJob:
    """One classifier to train, on real scans and as many generated images of each class as `wanted`, and to score."""

    arm: str
    fold: int
    seed: int
    recipe: Recipe
    train: list[Record]
    held: list[Record]
    wanted: dict[str, int]

    @property
    def folder(self) -> str:
        """Where it lies below the folder of classifiers."""
        return f"{self.arm}/fold-{self.fold}/seed-{self.seed}"

    def fingerprint(self, generators: Sequence[str]) -> str:
        """Return a hash of what determines the answers: settings, scans, and the generators' own marks."""
        content = [self.recipe.identity(), Path(self.recipe.init).name, self.wanted, list(generators)]
        content += [[record.key for record in part] for part in (self.train, self.held)]
        return hash_of(content)


def plan_generators(study: StudyRecipe, records: Sequence[Record]) -> list[GeneratorJob]:
    """Return the generators that the arms need: of each fold's training part, and of all scans for the leaking arm."""
    kinds = {ARMS[arm].generated for arm in study.arms}
    scopes: list[tuple[int | None, list[Record]]] = []
    if "fold" in kinds:
        scopes += [(fold, split_fold(records, fold)[0]) for fold in sorted(study.folds)]
    if "all" in kinds:
        scopes.append((None, [record for record in records if record.fold is not None]))
    return [GeneratorJob(fold, label, part) for fold, part in scopes for label in study.generator.labels()]


def plan_runs(study: StudyRecipe, records: Sequence[Record]) -> list[RunJob]:
    """Return every training of a classifier, seed by seed, so that a study that is stopped has all arms of a seed."""
    jobs = []
    for seed in study.seeds:
        for fold in sorted(study.folds):
            train, held = split_fold(records, fold)
            counts = Counter(record.label for record in train)
            missing = {label: max(counts.values()) - counts[label] for label in study.generator.labels()}
            for name in study.arms:
                arm = ARMS[name]
                augment = study.classifier.augment if arm.augmented else 0.0
                settings = {"seed": seed, "oversample": arm.oversample, "augment": augment}
                recipe = study.classifier.model_copy(update=settings)
                wanted = {label: count for label, count in missing.items() if count} if arm.generated else {}
                jobs.append(RunJob(name, fold, seed, recipe, train, held, wanted))
    return jobs
