"""What a task is, as plain data: classes, colours, wording, augmentation.

A new task is one more entry of `TASKS`, or a few lines in a recipe; no other file needs to know.

>>> task = get_task({"name": "skin", "classes": ["mole", "melanoma"]})
>>> task.positive, task.colours, task.meaning[1]
('melanoma', ('#009E73', '#D55E00'), 'The network calls this picture melanoma.')
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from bcx.errors import ConfigError


@dataclass(frozen=True)
class Task:
    """One classification task.

    Attributes:
        name: key in `TASKS`, stored in checkpoints.
        title: what a person calls it.
        image_noun: what one image of it is called ("breast ultrasound scan").
        classes: labels in the order of logits, probabilities and maps.
        colours: one hex colour per class, distinguishable by colour-blind readers (Okabe & Ito 2008).
        meaning: one sentence per class in plain words, for readers without training.
        positive: the class whose sensitivity matters most.
        absent: the class that means "nothing there", which comes first, or None where every image shows something.
        grey: True where colour carries no information; the network then sees one grey channel three times.
        augmentation: name of the recipe in `bcx.train.augment`.
        tile: side in pixels of one image, where all have the same and larger ones are read tile by tile; or None.
        microns: micrometres that one pixel of them is wide, where that is known; larger images are scaled to it.
    """

    name: str
    title: str
    image_noun: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    meaning: tuple[str, ...]
    positive: str
    absent: str | None = None
    grey: bool = False
    augmentation: str = "plain"
    tile: int | None = None
    microns: float | None = None

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.colours) == len(self.meaning):
            raise self._wrong(
                f"has {len(self.classes)} classes, {len(self.colours)} colours and {len(self.meaning)} sentences",
                "one colour and one sentence per class",
            )
        if len(set(self.classes)) < max(2, len(self.classes)) or not all(self.classes):
            raise self._wrong(f"has the classes {list(self.classes)}", "at least two, each with a name of its own")
        if self.positive not in self.classes or self.absent not in (None, self.classes[0]):
            raise self._wrong(
                f"has the positive class '{self.positive}' and the absent class '{self.absent}'",
                f"a positive class out of {', '.join(self.classes)}, and as absent class the first one or none",
            )
        if self.positive == self.absent or (self.tile is not None and self.tile < 16):
            raise self._wrong(
                f"has positive '{self.positive}', absent '{self.absent}' and tile {self.tile}",
                "two different classes, and tiles of at least 16 pixels",
            )

    def _wrong(self, what: str, expected: str) -> ConfigError:
        return ConfigError(
            f"Task '{self.name}' {what}.", expected=expected, remedy="Correct the recipe's task, or bcx/tasks.py."
        )

    def stored(self) -> str | dict[str, Any]:
        """Return what a checkpoint keeps, and `get_task` reads: the name, or the whole of a task of yours."""
        if TASKS.get(self.name) == self:
            return self.name
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


BREAST_ULTRASOUND = Task(
    name="breast-ultrasound",
    title="Breast ultrasound: normal, benign or malignant",
    image_noun="breast ultrasound scan",
    classes=("normal", "benign", "malignant"),
    colours=("#009E73", "#0072B2", "#D55E00"),
    meaning=(
        "The network found no lump in this picture.",
        "The network found something that looks like a harmless lump.",
        "The network found something that looks like a cancer.",
    ),
    positive="malignant",
    absent="normal",
    grey=True,
    augmentation="ultrasound",
)

HISTOLOGY_IDC = Task(
    name="histology-idc",
    title="Breast tissue under the microscope: invasive ductal carcinoma or not",
    image_noun="histology patch",
    classes=("negative", "positive"),
    colours=("#56B4E9", "#E69F00"),
    meaning=(
        "The network found no invasive ductal carcinoma, the commonest breast cancer, in this patch of tissue.",
        "The network found what looks like invasive ductal carcinoma, the commonest breast cancer, in this patch.",
    ),
    positive="positive",
    augmentation="histology",
    tile=50,
    microns=4.0,  # the slides were scanned at 0.25 and made 16 times smaller (Cruz-Roa et al. 2014)
)

HISTOLOGY_BREAKHIS = Task(
    name="histology-breakhis",
    title="Breast tissue under the microscope: benign or malignant",
    image_noun="histology picture",
    classes=("benign", "malignant"),
    colours=("#0072B2", "#D55E00"),
    meaning=(
        "The network found tissue that looks like a harmless tumour.",
        "The network found tissue that looks like a cancer.",
    ),
    positive="malignant",
    augmentation="histology",
)

HISTOLOGY_BREAKHIS_SUBTYPES = Task(
    name="histology-breakhis-subtypes",
    title="Breast tissue under the microscope: four benign and four malignant tumours",
    image_noun="histology picture",
    classes=(
        "adenosis",
        "fibroadenoma",
        "phyllodes tumor",
        "tubular adenoma",
        "ductal carcinoma",
        "lobular carcinoma",
        "mucinous carcinoma",
        "papillary carcinoma",
    ),
    colours=("#56B4E9", "#0072B2", "#009E73", "#F0E442", "#D55E00", "#E69F00", "#CC79A7", "#000000"),
    meaning=(
        "It looks like adenosis: more glands than usual, harmless.",
        "It looks like a fibroadenoma, a harmless lump of glands and fibres.",
        "It looks like a phyllodes tumour, which is mostly harmless and grows fast.",
        "It looks like a tubular adenoma, a harmless lump of glands.",
        "It looks like a ductal carcinoma, the commonest breast cancer.",
        "It looks like a lobular carcinoma, a breast cancer whose cells grow in single files.",
        "It looks like a mucinous carcinoma, a breast cancer that swims in mucus.",
        "It looks like a papillary carcinoma, a breast cancer with finger-like folds.",
    ),
    positive="ductal carcinoma",
    augmentation="histology",
)

TASKS = MappingProxyType(
    {task.name: task for task in (BREAST_ULTRASOUND, HISTOLOGY_IDC, HISTOLOGY_BREAKHIS, HISTOLOGY_BREAKHIS_SUBTYPES)}
)

#: An image with the area of so many tiles is a slide; a smaller one is a patch, which the network sees whole.
SLIDE_TILES = 16
# For tasks of your own that name no colours: Okabe & Ito's, the harmless end first, the last class always vermilion.
_PALETTE = ("#009E73", "#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
_LAST = "#D55E00"
_MOST_CLASSES, _LONGEST = 100, 300


def is_slide(width: int, height: int, tile: int) -> bool:
    """Whether an image is to be read in tiles: large enough for one, and of the area of `SLIDE_TILES` of them."""
    return min(width, height) >= tile and width * height >= SLIDE_TILES * tile * tile


def get_task(task: str | Mapping[str, Any]) -> Task:
    """Return a task by its name in `TASKS`, or from a block of `Task`'s fields.

    Only `name` and `classes` must be there. Else the last class is the positive one, none is absent, colour counts, and
    the augmentation is "plain". `ConfigError` where there is no such task, or the block does not fit.
    """
    if isinstance(task, str):
        if task in TASKS:
            return TASKS[task]
        raise ConfigError(
            f"There is no task called '{task}'.",
            expected=f"one of {', '.join(TASKS)}, or a block with a name and classes of your own",
            remedy="Use one of these names, or write the task into the recipe (docs/how-to/bring-your-own-images.md).",
        )
    known = {field.name for field in fields(Task)}
    if not isinstance(task, Mapping) or not {"name", "classes"} <= set(task) <= known:
        found = ", ".join(map(str, task)) if isinstance(task, Mapping) else repr(task)
        raise ConfigError(
            f"A task of your own has the keys {found}.",
            expected=f"name and classes, and any of {', '.join(sorted(known - {'name', 'classes'}))}",
            remedy="Correct the 'task' block of the recipe.",
        )
    # A checkpoint may come from a stranger: these words stand in paths, tables, HTML and style sheets.
    texts, lists = ("name", "title", "image_noun", "positive", "augmentation"), ("classes", "colours", "meaning")
    fit = all(_is_word(task[key]) for key in texts if key in task)
    fit &= all(_is_list_of(_is_word, task[key]) for key in ("classes", "meaning") if key in task)
    fit &= _is_list_of(_is_colour, task.get("colours", ("#000000",))) and not {"/", "\\"} & set(str(task["name"]))
    fit &= isinstance(task.get("absent", ""), str | None) and isinstance(task.get("grey", True), bool)
    tile, microns = task.get("tile"), task.get("microns")
    fit &= tile is None or (type(tile) is int and 1 <= tile <= 4096)
    fit &= microns is None or (type(microns) in (int, float) and 1e-3 <= microns <= 1e3)
    if not fit:
        raise ConfigError(
            f"The task '{str(task['name'])[:80]}' has a value of the wrong kind.",
            expected="words that begin with a letter or digit, in lists for classes and meaning; colours such as "
            "#009E73; grey true or false; tile up to 4096 pixels; microns above 0",
            remedy="Correct the 'task' block of the recipe (put quotes around words such as 'no').",
        )
    classes = tuple(task["classes"])
    values: dict[str, Any] = {
        "title": f"{task['name']}: {', '.join(classes[:-1])} or {classes[-1]}",
        "image_noun": "picture",
        "colours": (*(_PALETTE[i % len(_PALETTE)] for i in range(len(classes) - 1)), _LAST),
        "meaning": tuple(f"The network calls this picture {name}." for name in classes),
        "positive": classes[-1],
    }
    given = {key: tuple(value) if key in lists else value for key, value in task.items()}
    return Task(**(values | given))


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() and value[:1].isalnum()


def _is_colour(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("#[0-9A-Fa-f]{6}", value) is not None


def _is_list_of(kind: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= _MOST_CLASSES and all(map(kind, value))
