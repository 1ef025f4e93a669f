"""What a kind of hostile input is: valid inputs that are made once, and an attack that damages one and uses it."""

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bcx.errors import BcxError
from bcx.tasks import get_task
from tests.fuzz.hostile import damaged, scratched, spelled

#: Cases of each kind in a run of the tests.
CASES = int(os.environ.get("BCX_FUZZ_CASES", "50"))
ROOT = Path(__file__).resolve().parents[2]
TASK = get_task("breast-ultrasound")


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        prepare: makes valid inputs in an empty folder; returns what `attack` gets.
        attack: damages one of them by a random generator, in a folder of its own, and uses it. It raises whatever the
            use raised; the same generator gives the same case.
        clock: seconds, by which it is slow or not: of this process, since machines may be busy.
    """

    prepare: Callable[[Path], Any]
    attack: Callable[[Any, Random, Path], None]
    clock: Callable[[], float] = time.process_time


def outcome(kind: Kind, prepared: Any, case: int) -> str:
    """Return "answered", or the type of the `BcxError` in which a case ended; any other exception is raised."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.attack(prepared, Random(case), Path(folder))
        except BcxError as error:
            return type(error).__name__
    return "answered"


# Checkpoints.


def prepare_checkpoints(folder: Path) -> list[Path]:
    """Tiny networks with every kind of head, one with its graph; input checks, rules and results beside them."""
    import torch

    from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint, update_config
    from bcx.checkpoints.onnx_export import export_onnx
    from bcx.imaging.preprocess import Preprocess
    from bcx.networks.build import build_dense_network, build_lesion_network, build_network, forward_maps
    from bcx.networks.ensemble import LesionEnsemble
    from bcx.trust.decisions import OperatingPoint, ReferRule
    from bcx.trust.input_check import fit_input_check
    from bcx.trust.rule import HarmRule

    arch, own = "mobilenetv2_035", get_task({"name": "own", "classes": ["plain", "odd"], "absent": "plain"})
    old = {"operating_point": OperatingPoint(0.4).to_dict(), "refer": ReferRule(0.5).to_dict()}
    new = {"rule": HarmRule(0.8, 0.1, 0.05, 0.7, unlike_above=2.0, prevalence=(0.2, 0.5, 0.3)).to_dict()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lesion = [build_lesion_network(arch, TASK), build_lesion_network(arch, TASK)]
        made = {
            "linear": (build_network(arch, 3), TASK, 64, new),
            "lesion": (lesion[0], TASK, 64, new),
            "ensemble": (LesionEnsemble([*lesion, build_network(arch, 3)]), TASK, 64, new),
            "dense": (
                build_dense_network(arch, 2, size=64, pool="flatten", widths=(8,), drops=(0.0, 0.5)),
                own,
                64,
                None,
            ),
            "tiny": (build_network("tiny_cnn", 2, size=32), own, 32, old),
        }
        for name, (network, task, size, decisions) in made.items():
            place = folder / name
            save_checkpoint(
                place,
                network.eval(),
                task=task,
                preprocess=Preprocess(size=size),
                decisions=decisions,
                training={"recipe": {"epochs": 1, "seed": 0}, "data": {"busi": {"scans": 3, "sha256": "0"}}},
            )
            with torch.inference_mode():
                stages = forward_maps(load_checkpoint(place).network, torch.rand(12, 3, size, size)).stages.numpy()
            update_config(place, gate=fit_input_check(stages, np.arange(12) % 3).save(place))
    export_onnx(load_checkpoint(folder / "linear"))
    shutil.copy(ROOT / "checkpoints" / "mobilenetv2-busi" / "results.json", folder / "linear")
    return sorted(folder.iterdir())


def attack_checkpoint(prepared: list[Path], rng: Random, folder: Path) -> None:
    """Damage config.json mostly, else another file of a checkpoint; load, answer a first scan, tell the card."""
    import bcx
    from bcx.report.card import card_text
    from bcx.report.facts import gather
    from bcx.simulate import simulate

    place = folder / "hostile"
    shutil.copytree(rng.choice(prepared), place)
    _damage_checkpoint(place, rng)
    backend = "auto" if rng.random() < 0.3 else "torch"
    answer = bcx.load(place, backend=backend).predict(simulate("malignant", 3, 120, 100).pixels)
    json.dumps(answer.to_dict(), allow_nan=False)
    answer.overlay(answer.label, 0.5)
    if (place / "results.json").is_file():
        card_text(gather(place))


def _damage_checkpoint(place: Path, rng: Random) -> None:
    how, config = rng.random(), place / "config.json"
    if how < 0.7:
        tree = json.loads(config.read_text())
        config.write_text(spelled(damaged(tree, rng, ("bcx",) if rng.random() < 0.7 else ())))
    elif how < 0.75:
        config.write_bytes(scratched(config.read_bytes(), rng))
    elif how < 0.8 and (place / "results.json").is_file():
        tree = json.loads((place / "results.json").read_text())
        (place / "results.json").write_text(spelled(damaged(tree, rng)))
    elif how < 0.9:
        _damage_tensors(rng.choice(sorted(place.glob("*.safetensors"))), rng)
    else:
        file = rng.choice(sorted([*place.glob("*.safetensors"), *place.glob("*.onnx")]))
        if rng.random() < 0.1:
            file.unlink()
        else:
            file.write_bytes(scratched(file.read_bytes(), rng))


def _damage_tensors(file: Path, rng: Random) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    value = tensors[name]
    how = rng.randrange(8)
    if how == 0:
        del tensors[name]
    elif how == 1:
        tensors[rng.choice(("surplus", "members.7.x", "members.x", "backbone", ""))] = value.clone()
    elif how == 2:
        tensors[name] = value.to(rng.choice((torch.int64, torch.bool, torch.float64, torch.uint8, torch.bfloat16)))
    elif how == 3:
        tensors[name] = value.reshape(-1)[: rng.choice((0, 1, 2))]
    elif how == 4:
        tensors[name] = value[None]
    else:
        fill = rng.choice((float("nan"), float("inf"), 1e38, -1e38, -1.0, 0.0)) if value.is_floating_point() else 10**15
        tensors[name] = torch.full(value.shape, fill).to(torch.float32 if value.is_floating_point() else value.dtype)
    save_file(tensors, file, metadata={"format": "pt"})


# YAML.

_SNIPPETS = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c, *c]\n",
    "bomb: &b [*b]\n",
    "<<: {epochs: 3}\n",
    "epochs: !!python/object/apply:os.system ['true']\n",
    "epochs: !!timestamp x\n",
    "epochs: !!int ''\n",
    "epochs: !!binary '='\n",
    "epochs: !<tag:yaml.org,2002:float> 1_\n",
    "seed: 2001-99-99\n",
    "seed: 0b_\n",
    "seed: 190:20:30\n",
    "seed: 9" + "9" * 6000 + "\n",
    "? [a, b]\n: 1\n",
    "? {a: 1}\n: 1\n",
    "1: 2\n",
    "null: 1\n",
    "epochs: 3\nepochs: 4\n",
    "x: " + "[" * 3000 + "\n",
    "- " * 3000 + "\n",
    "x: '" + "y" * 200_000 + "'\n",
    "--- \n--- \n",
    "%YAML 9.9\n---\n",
    "\tepochs: 3\n",
    "x: \x07\n",
    "\ufeffepochs: 3\n",
    "epochs: .inf\n",
    "*a\n",
    "members: [{lesion: 3}, {}]\nlesion: {}\n",
    "members: [{lesion: [1]}, {lesion: null}]\nlesion: {}\n",
    "members: [{averaged: [a, b]}, 3]\nlesion: {}\n",
    "averaged: [ultrasound, ultrasound-machines]\n",
    "task: {name: a, classes: [b, c], colours: 3}\n",
)


def prepare_yaml(folder: Path) -> list[Path]:
    """Every recipe that ships."""
    return sorted(ROOT.glob("configs/**/*.yaml"))


def attack_yaml(prepared: list[Path], rng: Random, folder: Path) -> None:
    """Damage a recipe by its values or its text, and read it as what it is."""
    import yaml

    from bcx.data.settings import parse_value
    from bcx.studies.synthesis.recipes import load_study, load_synth_recipe
    from bcx.train.config import load_recipe

    origin = rng.choice(prepared)
    text, file = origin.read_text("utf-8"), folder / origin.name
    for beside in prepared:  # a study names a generator's recipe beside it
        if beside.parent == origin.parent:
            shutil.copy(beside, folder)
    how = rng.random()
    if how < 0.6:
        file.write_text(spelled(damaged(yaml.safe_load(text), rng)), "utf-8")
    elif how < 0.8:
        lines = text.splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(_SNIPPETS))
        file.write_text("".join(lines), rng.choice(("utf-8", "utf-8", "utf-16", "latin-1")), "replace")
    elif how < 0.85:
        file.write_text(rng.choice(_SNIPPETS), "utf-8")
    else:
        file.write_bytes(scratched(text.encode(), rng))
    if rng.random() < 0.1:
        parse_value(rng.choice(_SNIPPETS))
    known = yaml.safe_load(text)
    if "generator" in known:
        load_study(file, {"classifier": {"seed": 3}})
    elif "networks" in known or "noise" in known:
        load_synth_recipe(file, {"seed": 3}).identity()
    else:
        recipe = load_recipe(file, {"data": {"busi": "scans"}})
        json.dumps([training.identity() for training in recipe.trainings()], default=str)
        get_task(recipe.task)


# CSV.

_CELLS = (
    *("", " ", "0", "-1", "1,5", "1e400", "nan", "inf", "9" * 5000, "1_000", "0x10", "\u0661", "x" * 200_000),
    *(
        "=1+1",
        "@x",
        "'=1",
        '"',
        '""',
        "a\nb",
        "\r",
        "\0",
        "\x1b[31m",
        "\ud7ff",
        "/etc/passwd",
        "../../x.png",
        "C:\\x.png",
    ),
    *("a" * 5000 + ".png", "|||", "benign", "MALIGNANT", "dev", "a,b", "a;b", "\u202egnp.exe"),
)


def prepare_csv(folder: Path) -> dict[str, Path]:
    """A valid table of every kind that is read, each in the place where it is looked for."""
    import pandas as pd

    from bcx.evaluate.oof import oof_columns, write_oof
    from bcx.studies.corruptions import write_corruption_frame
    from bcx.studies.leak import leak_columns, write_leak
    from tests.layouts import write_breast_folder, write_busbra_folder, write_busi_folder

    breast = write_breast_folder(folder / "breast", cases=4)
    busbra = write_busbra_folder(folder / "busbra", 4)
    grouped = write_busi_folder(folder / "grouped", per_class=1)
    names = sorted(file.relative_to(grouped).as_posix() for file in grouped.rglob("*.png") if "mask" not in file.name)
    (grouped / "groups.csv").write_text("file,group\n" + "".join(f"{name},g{i % 2}\n" for i, name in enumerate(names)))
    (folder / "split.csv").write_text(
        "file,split,fold\n" + "".join(f"{name},dev,{i}\n" for i, name in enumerate(names))
    )
    rng = np.random.default_rng(0)
    about = {"file": [f"a/{i}.png" for i in range(9)], "source": "a", "group": [f"g{i}" for i in range(9)]}
    about |= {"fold": np.arange(9) % 3, "label": [TASK.classes[i % 3] for i in range(9)]}
    oof = pd.DataFrame(about | {name: rng.normal(size=9) for name in oof_columns(TASK)[5:]})
    write_oof(folder / "oof.csv", oof, TASK)
    shares = {f"p_{name}": rng.random(9) for name in TASK.classes}
    write_corruption_frame(folder / "corrupted.csv", pd.DataFrame({"kind": "clean"} | about | shares))
    leak = pd.DataFrame(
        {"protocol": "random", "seed": 0, "copies": 1, "copies_in_training": 0}
        | about
        | {f"logit_{name}": rng.normal(size=9).astype(np.float32) for name in TASK.classes}
    )
    write_leak(folder / "predictions.csv", leak[leak_columns(TASK)], TASK)
    tables = {"breast": breast / "manifest.csv", "busbra": next(busbra.glob("*.csv")), "groups": grouped / "groups.csv"}
    return tables | {name.partition(".")[0]: folder / name for name in os.listdir(folder) if name.endswith(".csv")}


def attack_csv(prepared: dict[str, Path], rng: Random, folder: Path) -> None:
    """Damage a table by its cells or its bytes, and read it by its door."""
    from bcx.audit.listing import read_split
    from bcx.data.readers import read_source
    from bcx.evaluate.oof import read_oof
    from bcx.studies.corruptions import read_corruption_frame
    from bcx.studies.leak import read_leak

    kind = rng.choice(sorted(prepared))
    table = prepared[kind]
    whole = table.read_bytes()
    try:
        table.write_bytes(_damaged_table(whole, rng))
        if kind in ("breast", "busbra", "groups"):
            root = table if kind == "breast" and rng.random() < 0.5 else table.parent
            read_source("mine" if kind == "groups" else kind if root != table else "mine", root, task=TASK)
        elif kind == "split":
            read_split(table, ["benign/benign (1).png"])
        elif kind == "oof":
            read_oof(table, TASK)
        elif kind == "corrupted":
            read_corruption_frame(table, TASK)
        else:
            read_leak(table, TASK)
    finally:
        table.write_bytes(whole)


def _damaged_table(whole: bytes, rng: Random) -> bytes:
    how = rng.random()
    if how < 0.25:
        return scratched(whole, rng)
    if how < 0.3:
        return rng.choice(
            (
                b"",
                b"\0" * 1000,
                b"," * 3_000_000,
                b"file,label\n" + b"," * 3_000_000,
                b"\n" * 3_000_000,
                b"a,b\n" * 1_000_000,
                whole + b"\n" * 1_200_000,
                b'"' * 10_001,
                b'"a\n",' * 400_000,
                b"sep=\r\n" + whole,
                b'sep="\n' + whole,
                b"sep=\xff\n" + whole,
                b"\xff\xfe" + whole,
                b"\xff\xfe\0\0" + whole,
                whole.decode().encode("utf-16"),
                whole.decode().encode("utf-32"),
                rng.randbytes(3000),
            )
        )
    rows = [line.split(",") for line in whole.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.choice(rows)
        at = rng.randrange(len(row) + 1)
        way = rng.random()
        if way < 0.6 and at < len(row):
            row[at] = rng.choice(_CELLS)
        elif way < 0.7:
            row.insert(at, rng.choice(_CELLS))
        elif way < 0.8 and len(row) > 1:
            row.pop()
        elif way < 0.9:
            rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))
        else:
            row[:] = row * rng.choice((2, 300))
    delimiter = rng.choice((",", ",", ";", "\t", "|", " "))
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(delimiter.join(row) for row in rows)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "cp1252")), "replace")


# Scans.


def prepare_scans(folder: Path) -> list[bytes]:
    """A file or more of every format."""
    from tests.fuzz.scans import seeds

    return [data for _, data in sorted(seeds().items())]


def attack_scan(prepared: list[bytes], rng: Random, folder: Path) -> None:
    """Damage a file, and open its first and its last frame."""
    from bcx.imaging.scan import Scan, frame_count
    from tests.fuzz.scans import mutate

    data = mutate(rng.choice(prepared), np.random.default_rng(rng.getrandbits(32)))
    assert Scan.open(data).pixels.dtype == np.uint8
    Scan.open(data, frame=frame_count(data) - 1)


KINDS = {
    "checkpoints": Kind(prepare_checkpoints, attack_checkpoint),
    "yaml": Kind(prepare_yaml, attack_yaml),
    "csv": Kind(prepare_csv, attack_csv),
    "scans": Kind(prepare_scans, attack_scan, time.monotonic),
}
