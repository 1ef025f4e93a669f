"""What is claimed about a scan: a class, "refer" or "not a scan". Every card, row, caption and report speaks from it.

>>> from bcx.tasks import BREAST_ULTRASOUND
>>> claim("normal", task=BREAST_ULTRASOUND, lesion=0.2)
('normal', '')
>>> claim("normal", task=BREAST_ULTRASOUND, lesion=0.8)[0]
'refer'
>>> claim("malignant", task=BREAST_ULTRASOUND, no_scan="This picture is blank.", unsure="Not clear enough.")
('not a scan', 'This picture is blank.')
"""

from bcx.tasks import Task

#: `decision` of an image that is no scan, and of a scan that a person should read.
NOT_A_SCAN, REFER = "not a scan", "refer"
#: From this value of the lesion map on, both stages together, nobody may say that nothing is there. Of the
#: answers "normal" by `mobilenetv2-lesion` in BrEaST, a place that it never saw, all four cancers and 11 of 17 benign
#: lesions reach it; of BUSI's normals, on which it was trained, four in ten do.
PRESENT = 0.5


def claim(
    label: str,
    *,
    task: Task,
    likeliest: str | None = None,
    lesion: float = 0.0,
    no_scan: str = "",
    damage: str = "",
    unsure: str = "",
) -> tuple[str, str]:
    """Return the decision (`NOT_A_SCAN`, `REFER` or the label) and its reason, a sentence, "" where it is the label.

    Args:
        label: the class by the stored rule.
        likeliest: the most probable class, where no other may be said; None: at a chosen operating point, one may.
        lesion: largest value of the lesion map, 0..1; 0 for models without one.
        no_scan, damage, unsure: why the image is no scan, what is wrong with the file, why the stored rule refers it:
            a sentence each, "" where it does not apply. The gravest doubt is said.
    """
    if no_scan:
        return NOT_A_SCAN, no_scan
    if damage or unsure:
        return REFER, damage or unsure
    if likeliest not in (None, label):
        return REFER, f"{label} is above its threshold, but {likeliest} is more probable.".capitalize()
    if label == task.absent and lesion >= PRESENT:
        return REFER, f"The picture as a whole looks {label}, but one place looks like a lesion."
    return label, ""


def may_outline(decision: str, task: Task) -> bool:
    """Tell whether a lesion may be outlined: not on what is no scan, and not beside the claim that nothing is there."""
    return decision != NOT_A_SCAN and decision != task.absent
