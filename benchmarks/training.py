"""Images per second of a training, against the code of another commit on the same images in the same run.

```
python benchmarks/training.py --against COMMIT --out results/benchmarks/training.json
```

Both train the recipe mobilenetv2-lesion-machines from random weights on simulated scans, two epochs, in turns; what
counts is the second epoch. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from bcx.train.provenance import describe_command, write_json

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "mobilenetv2-lesion-machines.yaml"


def second_epoch(tree: Path, scans: Path, out: Path) -> dict[str, float]:
    """Return seconds and training loss of the second epoch of one network, by the code in `tree`."""
    recipe = next((tree / "configs").rglob(RECIPE))  # where it stood in that commit
    command = [sys.executable, "-m", "bcx", "train", str(recipe), "--data", f"mine={scans}", "--init", "scratch"]
    command += ["--epochs", "2", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    history = next(out.rglob("history.csv"))
    with history.open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {"seconds": float(last["seconds"]), "train_loss": float(last["train_loss"])}


def main() -> None:
    """Measure, and write what came out."""
    from tests.layouts import write_busi_folder

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", required=True, help="commit to compare with")
    parser.add_argument("--per-class", type=int, default=160)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results/benchmarks/training.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scans = write_busi_folder(place / "scans", per_class=chosen.per_class)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(place / "before"), chosen.against], check=True)
        try:
            trees = {"before": place / "before", "now": ROOT}
            found = [
                (name, second_epoch(tree, scans, place / f"{name}-{turn}"))
                for turn in range(chosen.turns)
                for name, tree in trees.items()
            ]
        finally:
            subprocess.run([*git, "remove", "--force", str(place / "before")], check=True)
    seconds = {name: statistics.median(one["seconds"] for which, one in found if which == name) for name in trees}
    result = {
        "what": "images per second of a training, against the code of another commit",
        **describe_command(f"python benchmarks/training.py {' '.join(sys.argv[1:])}"),
        "cores": torch.get_num_threads(),
        "images": 3 * chosen.per_class,
        "images_per_second": {name: round(3 * chosen.per_class / value, 2) for name, value in seconds.items()},
        "ratio": round(seconds["before"] / seconds["now"], 3),
        "train_loss": {name: [one["train_loss"] for which, one in found if which == name] for name in trees},
    }
    print(result)
    write_json(chosen.out, result)


if __name__ == "__main__":
    main()
