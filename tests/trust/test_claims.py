"""What is claimed, over every combination of doubts."""

from itertools import product

import pytest

from bcx.tasks import get_task
from bcx.trust.claims import NOT_A_SCAN, PRESENT, REFER, claim, may_outline

TASK, CELLS = get_task("breast-ultrasound"), get_task("histology-idc")


@pytest.mark.parametrize("label", TASK.classes)
@pytest.mark.parametrize(
    ("no_scan", "damage", "unsure", "lesion", "against"),
    product(["", "It is blank."], ["", "It ends early."], ["", "Not clear."], [0.0, PRESENT], [False, True]),
)
def test_the_gravest_doubt_is_said_and_a_class_only_without_any(label, no_scan, damage, unsure, lesion, against):
    likeliest = next(name for name in TASK.classes if name != label) if against else label
    said, why = claim(
        label, task=TASK, likeliest=likeliest, lesion=lesion, no_scan=no_scan, damage=damage, unsure=unsure
    )
    if no_scan:
        assert (said, why) == (NOT_A_SCAN, no_scan)
    elif damage or unsure or against or (label == "normal" and lesion):
        assert said == REFER
        assert why == (damage or unsure or why)
        assert why
    else:
        assert (said, why) == (label, "")


def test_nothing_is_outlined_beside_the_claim_that_nothing_is_there_nor_on_what_is_no_scan():
    assert [may_outline(said, TASK) for said in (*TASK.classes, REFER, NOT_A_SCAN)] == [False, True, True, True, False]


def test_a_chosen_operating_point_may_say_another_class_than_the_likeliest():
    assert claim("malignant", task=TASK) == ("malignant", "")


def test_a_task_without_an_absent_class_knows_no_lesion():
    assert claim("negative", task=CELLS, lesion=1.0) == ("negative", "")
