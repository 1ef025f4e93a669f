"""What only a cluster shows, of two nodes on this machine: the files and errors of the local engine, and nothing lost.

All tests share the cluster, so they are one file; the last one kills a node.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bcx
from bcx.cli import main as cli
from bcx.cli.outputs import drawn
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import BcxError, ScanError
from bcx.imaging.style import MapStyle
from bcx.inference import shards
from bcx.inference.cluster import Job, run
from bcx.inference.shards import plan_shards
from bcx.studies.compare import compare, plan_comparison
from bcx.studies.leak import leak_study
from bcx.studies.transfer import transfer_study
from bcx.tasks import get_task
from bcx.train.config import Published, Recipe
from bcx.train.crossval import crossval
from bcx.train.runs import carry_out
from bcx.train.tune import tune
from tests.conftest import few_resamples
from tests.layouts import write_busi_folder

pytestmark = pytest.mark.slow
_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=2, folds=2
)
SPLIT = RECIPE.model_copy(update={"published": Published(system="A system", split=(60, 0, 40))})
TREE = Path(bcx.__file__).parents[1]


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes with a core each, and the second of them."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TREE))
        patch.syspath_prepend(TREE / "benchmarks")
        cluster, second = importlib.import_module("cluster").two_nodes()
        yield cluster, second
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes):
    return nodes[0].address


def read(name: str, folder: Path) -> list:
    return assign_folds(read_source(name, folder, task=get_task("breast-ultrasound")), k=2)


@pytest.fixture(scope="module")
def records(busi_folder):
    """Twelve scans, four of each class, in two folds."""
    return read("mine", busi_folder)


def test_each_run_has_a_worker_and_a_lost_workers_run_goes_on_elsewhere(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, here, names = [], Path("here"), ["one", "done", "lost"]
    here.mkdir()

    def visit(run: str, on_word: Any) -> None:
        """Note in which process a run is done; that of "lost" ends as by a lack of memory, the first time."""
        with (here / run).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if run == "lost" and (here / run).read_text().count("\n") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        on_word(run, len(run))

    done = carry_out(
        *(iter(names), visit, {"on_word": lambda *words: said.append(words)}),
        **{"out": here, "most": 3, "is_done": lambda run: run == "done", "cluster": cluster},
    )
    assert sorted(done) == sorted(names)
    assert sorted(said) == sorted((name, len(name)) for name in names)
    workers = {name: (here / name).read_text().split() for name in names}
    assert workers["done"] == [str(os.getpid())]
    assert len({*workers["one"], *workers["lost"], *workers["done"]}) == 4
    assert sorted(path.name for path in here.iterdir()) == sorted(names)


def hospitals(records: list, **asked: Any) -> dict[str, Any]:
    if not Path("other").exists():
        shutil.copytree(records[0].file.parents[1], "other")
    return transfer_study(RECIPE, [*records, *read("other", Path("other"))], parts=["hospital"], **asked)


def architectures(records: list, **asked: Any) -> dict[str, Any]:
    return compare(plan_comparison(RECIPE, ["mobilenetv2_035", "tiny_cnn"]), records, folds=[0], **asked)


STUDIES = {
    "crossval": (partial(crossval, RECIPE), "fold-1"),
    "compare": (architectures, "tiny_cnn/fold-0"),
    "leak": (partial(leak_study, SPLIT, seeds=[0]), "runs/grouped-0-0"),
    "transfer": (hospitals, "hospital-other"),
}
_TIMES = {"seconds", "milliseconds", "times_base"}


def timeless(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: timeless(value) for key, value in found.items() if key not in _TIMES}
    return [timeless(each) for each in found] if isinstance(found, list) else found


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_on_a_cluster_is_that_of_this_machine(name, cluster, records, tmp_path, monkeypatch):
    """Of two runs the cluster does the one that is not there, and the other is kept."""
    monkeypatch.chdir(tmp_path)
    (study, undone), here, there = STUDIES[name], [], []

    def told_to(said: list) -> Any:
        return lambda *about: said.append((about[-2]["epoch"], about[-2]["train_loss"], about[-1]))

    local = study(records, out=Path("local"), command="x", on_epoch=told_to(here))
    shutil.copytree("local", "far")
    shutil.rmtree(Path("far", undone))
    kept = {path: path.stat().st_mtime_ns for path in Path("far").rglob("run.json")}
    far = study(records, out=Path("far"), command="x", on_epoch=told_to(there), cluster=cluster)
    assert timeless(far) == timeless(local)
    files = {path.relative_to("local") for path in Path("local").rglob("*")}
    assert files == {path.relative_to("far") for path in Path("far").rglob("*")}
    for file in files:
        if file.name in ("oof.csv", "predictions.csv", "model.safetensors", "config.json"):
            assert Path("far", file).read_bytes() == Path("local", file).read_bytes(), file
    assert len(here) == 2 * RECIPE.epochs
    assert there == here[RECIPE.epochs :]
    assert len(kept) == 1
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_run_that_fails_there_says_what_it_says_here(cluster, records, tmp_path):
    lost = [replace(record, file=tmp_path / "gone.png") if record is records[0] else record for record in records]
    said = []
    for name, address in (("local", None), ("far", cluster)):
        with pytest.raises(BcxError) as caught:
            crossval(RECIPE, lost, out=tmp_path / name, command="x", only=[1 - records[0].fold], cluster=address)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert issubclass(said[0][0], ScanError)


def test_trials_on_a_cluster_join_one_search(cluster, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = RECIPE.model_copy(update={"epochs": 1})
    settings = {"fold": 0, "inner_folds": 2, "run_folds": 1, "out": Path("tune"), "command": "bcx tune"}
    ended = []
    results = tune(
        *(recipe, records), **settings, trials=2, cluster=cluster, on_trial=lambda trial, count: ended.append(count)
    )
    assert ended == sorted(ended)
    assert ended[-1] == results["trials"]["complete"] == sum(results["trials"].values()) == 2
    alone = tune(recipe, records, **settings | {"out": tmp_path / "alone"}, trials=1)
    assert alone["recipe_as_it_stood"] == results["recipe_as_it_stood"]
    more = tune(recipe, records, **settings, trials=3)  # here, and after those
    assert sum(more["trials"].values()) == 3


def test_a_stopped_command_goes_on_where_it_was(cluster, busi_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    command = ["crossval", "--data", f"mine={busi_folder}", "--out", "out", "--fold", "0", "--epochs", "500"]
    command += ["--engine", "ray", "--address", cluster, "--arch", "mobilenetv2_035", "--init", "scratch"]
    command += [word for setting in ("folds=2", "size=48", "precision=fp32") for word in ("--set", setting)]
    history, epochs = Path("out/fold-0/history.csv"), [0]
    for sent, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        ended = threading.Event()

        def stop(sent: int = sent, ended: threading.Event = ended) -> None:
            while not history.exists() or len(history.read_text().splitlines()) - 1 <= epochs[-1]:
                if ended.wait(0.05):
                    return
            os.kill(os.getpid(), sent)

        stopper = threading.Thread(target=stop)
        stopper.start()
        try:
            with pytest.raises(SystemExit) as caught:
                cli.main(command)
        finally:
            ended.set()
            stopper.join()
        assert caught.value.code == status
        assert "bcx: stopped.\nThe same command goes on where it was." in capfd.readouterr().err
        rows = history.read_text().splitlines()[1:]
        assert [int(row.split(",")[0]) for row in rows] == [*range(1, len(rows) + 1)]
        epochs.append(len(rows))
        assert [path.name for path in Path("out").iterdir()] == ["fold-0"]


def test_workers_draw_overlays(cluster, tiny_checkpoint, busi_folder, tmp_path):
    planned, over = plan_shards([str(busi_folder)], str(tmp_path / "over")), tmp_path / "over"
    sha256 = bcx.load(tiny_checkpoint).weights_sha256
    job = Job(str(tiny_checkpoint), sha256, str(tmp_path / "out"), "csv", overlays={"folder": str(over)})
    draw = partial(drawn, mask_text=False, style=MapStyle())
    assert [each["scans"] for each in run(job, planned, address=cluster, draw=draw)] == [12]
    overlays = {f"{entry.base}_overlay.png" for shard in planned for entry in shard.entries()}
    assert {path.relative_to(over).as_posix() for path in over.rglob("*.*")} == overlays


def test_a_node_that_dies_loses_nothing(nodes, tiny_checkpoint, tmp_path, monkeypatch):
    """As the benchmark shows it on 1,000 scans with the shipped model."""
    monkeypatch.setattr(shards, "LEAST", 4)
    benchmark, classifier = sys.modules["cluster"], bcx.load(tiny_checkpoint)
    planned = plan_shards([str(write_busi_folder(tmp_path / "scans", per_class=16))])
    job = Job(str(tiny_checkpoint), classifier.weights_sha256, str(tmp_path / "out"), "csv")
    expected = benchmark.local_rows(classifier, planned)
    found = benchmark.lose_a_node(nodes, job, planned, expected)
    assert found.pop("seconds") > 0
    assert 4 <= found.pop("shards_before") < 12
    assert found == {"scans": 48, "shards": 12, "shards_made_twice": 0, "rows_that_differ": 0}
    expected[7]["label"] = ""
    assert benchmark.differing(benchmark.shard_rows(tmp_path / "out"), expected) == 1
