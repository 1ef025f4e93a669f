"""What a task is, as plain data: classes, colours, wording, reader, augmentation.

A new task is one more entry of `TASKS`; no other file needs to know.

>>> get_task("breast-ultrasound").classes
('normal', 'benign', 'malignant')
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

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
        absent: the class that means "nothing there", or None where every picture shows something.
        grey: True where colour carries no information; the network then sees one grey channel three times.
        augmentation: name of the recipe in `bcx.train.augment`.
    """

    name: str
    title: str
    image_noun: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    meaning: tuple[str, ...]
    positive: str
    absent: str | None
    grey: bool
    augmentation: str

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.colours) == len(self.meaning):
            raise ConfigError(
                f"Task '{self.name}' has {len(self.classes)} classes, {len(self.colours)} colours "
                f"and {len(self.meaning)} sentences.",
                expected="one colour and one sentence per class",
                remedy="Complete the entry in bcx/tasks.py.",
            )


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

TASKS = MappingProxyType({task.name: task for task in (BREAST_ULTRASOUND,)})


def get_task(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        ConfigError: no such task.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigError(
            f"There is no task called '{name}'.",
            expected=f"one of {', '.join(TASKS)}",
            remedy="Use one of these names, or add an entry to bcx/tasks.py.",
        ) from None
