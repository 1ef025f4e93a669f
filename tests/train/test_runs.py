"""Independent runs: one after the other here, or side by side on a Ray cluster, with the same files and errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import bcx
from bcx.cli import main as cli
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import BcxError, ConfigError, MissingExtra, ScanError
from bcx.inference.cluster import connected, cores_of_each
from bcx.studies.transfer import transfer_study
from bcx.tasks import get_task
from bcx.train import runs as module
from bcx.train.config import Recipe
from bcx.train.crossval import crossval
from bcx.train.runs import carry_out
from bcx.train.tune import tune

RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=2, folds=2
)
TREE = Path(bcx.__file__).parents[1]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one node with two cores, on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TREE))
        running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield running.address
        running.shutdown()


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def told_to(said: list) -> dict:
    return {
        "on_epoch": lambda fold, row, epochs: said.append((fold, row["epoch"], row["train_loss"], epochs)),
        "on_batch": lambda: said.append("step"),
    }


def greet(run: str, folder: Path, on_word=None) -> None:
    """Leave a file that says in which process the run was done."""
    if on_word:
        on_word(run, len(run))
    (folder / run).write_text(str(os.getpid()))


def die_once(run: str, folder: Path) -> None:
    """End the process of the worker, as a lack of memory does, unless that was done before."""
    with (folder / run).open("a") as stream:
        stream.write("x")
    if (folder / run).read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)


def die(run: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk(run: str) -> None:
    raise OSError(28, "No space left on device", "oof.csv")


def test_here_a_run_is_asked_for_when_the_one_before_has_ended(tmp_path):
    order = []

    def asked():
        for name in ("one", "two"):
            order.append(f"asked {name}")
            yield name

    for run in carry_out(asked(), lambda run: order.append(f"did {run}"), {}, out=tmp_path, most=2):
        order.append(f"ended {run}")
    assert order == ["asked one", "did one", "ended one", "asked two", "did two", "ended two"]


@pytest.mark.parametrize(
    ("nodes", "gpus", "most", "expected"),
    [
        ([{"CPU": 2}], False, 2, (1, 2)),
        ([{"CPU": 8}], False, 3, (2, 4)),
        ([{"CPU": 8}], False, 1, (8, 1)),
        ([{"CPU": 2}], False, 20, (1, 2)),
        ([{"CPU": 16}, {"CPU": 16}, {}], False, 5, (5, 6)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 2}, {"CPU": 64}], True, 5, (8, 4)),
        ([{}], False, 5, (1, 1)),  # nodes may still come
    ],
)
def test_cores_are_shared_out_so_that_all_runs_go_at_once(nodes, gpus, most, expected):
    known = [{"Alive": True, "Resources": node} for node in nodes] + [{"Alive": False, "Resources": {"CPU": 99}}]
    assert cores_of_each(SimpleNamespace(nodes=lambda: known), most, gpus=gpus) == expected


def test_without_ray_the_pip_line_is_named(monkeypatch, records, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"bcx\[cluster\]"):
        crossval(RECIPE, records, out=tmp_path, command="bcx crossval", cluster="local")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("crossval --engine ray", 'pip install "bcx[cluster]"'),
        ("tune --fold 0 --trials 1 --inner-folds 2 --engine ray", 'pip install "bcx[cluster]"'),
        ("evaluate --transfer CONFIG --parts corruption --engine ray", 'pip install "bcx[cluster]"'),
        ("crossval --address auto", "--address was given without --engine ray"),
        ("tune --fold 0 --trials 1 --engine spark", "--engine is 'spark'"),
        ("evaluate --engine ray", "--engine was given without --transfer"),
    ],
)
def test_each_command_says_what_it_lacks(command, said, busi_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("arch: mobilenetv2_035\ninit: scratch\nsize: 48\nfolds: 2\n")
    words = command.replace("CONFIG", str(recipe)).split()
    words += [] if words[0] == "evaluate" else [str(recipe)]
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--data", f"mine={busi_folder}", "--out", str(tmp_path / "out")])
    assert caught.value.code == (1 if "pip" in said else 2)
    assert said in capsys.readouterr().err


def test_a_cluster_that_does_not_start_is_told(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConfigError, match=r"no Ray cluster at 'local' .*timed out"), connected("local"):
        pass


def test_a_node_without_the_folders_says_which(tmp_path):
    with pytest.raises(ConfigError, match="does not see '/elsewhere'"):
        module._do_elsewhere(greet, "one", [], "/elsewhere", str(tmp_path), "cpu", 1)


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="several processes"):
        next(carry_out(["one"], greet, {}, out=tmp_path, most=1, cluster="local"))


@pytest.mark.slow
def test_on_a_cluster_each_run_has_a_worker_and_says_what_there_was(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said, here, names = [], Path("here"), ["one", "two", "three", "four"]
    here.mkdir()
    done = carry_out(
        *(iter(names), partial(greet, folder=here), {"on_word": lambda *words: said.append(words)}),
        **{"out": here, "most": 4, "is_done": lambda run: run == "two", "cluster": cluster},
    )
    assert sorted(done) == sorted(names)
    assert sorted(said) == sorted((name, len(name)) for name in names)
    workers = {name: (here / name).read_text() for name in names}
    assert workers["two"] == str(os.getpid())
    assert len(set(workers.values())) == 4
    assert sorted(path.name for path in here.iterdir()) == sorted(names)


@pytest.mark.slow
def test_a_lost_workers_run_goes_on_elsewhere(cluster, tmp_path, monkeypatch):
    done = carry_out(["one"], partial(die_once, folder=tmp_path), {}, out=tmp_path, most=1, cluster=cluster)
    assert list(done) == ["one"]
    assert (tmp_path / "one").read_text() == "xx"
    monkeypatch.setattr(module, "_RETRIES", 0)
    with pytest.raises(BcxError, match="lost a worker too often"):
        list(carry_out(["one"], die, {}, out=tmp_path, most=1, cluster=cluster))
    with pytest.raises(OSError, match="No space left") as caught:
        list(carry_out(["one"], fill_the_disk, {}, out=tmp_path, most=1, cluster=cluster))
    assert caught.value.errno == 28


@pytest.mark.slow
def test_folds_on_a_cluster_are_those_of_this_machine(cluster, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here, there = [], []
    local = crossval(RECIPE, records, out=tmp_path / "local", command="x", **told_to(here))
    far = crossval(RECIPE, records, out=Path("far"), command="x", cluster=cluster, **told_to(there))
    for file in ("oof.csv", "fold-0/oof.csv", "fold-1/network/model.safetensors", "fold-1/network/config.json"):
        assert Path("far", file).read_bytes() == Path("local", file).read_bytes(), file
    names = [{path.relative_to(top) for path in top.rglob("*")} for top in (Path("local"), Path("far"))]
    assert names[0] == names[1]
    apart = {"seconds": 0, "runs": 0}
    assert local | apart == far | apart
    assert sorted(map(str, there)) == sorted(map(str, here))
    # What is done is not done again.
    before = {fold: times(Path("far", f"fold-{fold}")) for fold in (0, 1)}
    Path("far/fold-1/run.json").unlink()
    again = []
    crossval(RECIPE, records, out=Path("far"), command="x", cluster=cluster, **told_to(again))
    assert times(Path("far/fold-0")) == before[0]
    assert times(Path("far/fold-1"))["oof.csv"] > before[1]["oof.csv"]
    assert Path("far/oof.csv").read_bytes() == Path("local/oof.csv").read_bytes()
    assert (again.count("step"), len(again)) == (here.count("step"), here.count("step") + RECIPE.epochs)


@pytest.mark.slow
def test_a_run_that_fails_there_says_what_it_says_here(cluster, records, tmp_path):
    lost = [replace(record, file=tmp_path / "gone.png") if record is records[0] else record for record in records]
    said = []
    for name, address in (("local", None), ("far", cluster)):
        with pytest.raises(BcxError) as caught:
            crossval(RECIPE, lost, out=tmp_path / name, command="x", cluster=address)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert issubclass(said[0][0], ScanError)


@pytest.mark.slow
def test_trials_on_a_cluster_join_one_search(cluster, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"fold": 0, "inner_folds": 2, "run_folds": 1, "out": Path("tune"), "command": "bcx tune"}
    ended = []
    results = tune(
        *(RECIPE, records), **settings, trials=2, cluster=cluster, on_trial=lambda trial, count: ended.append(count)
    )
    assert ended == sorted(ended)
    assert ended[-1] == results["trials"]["complete"] == sum(results["trials"].values()) == 2
    alone = tune(RECIPE, records, **settings | {"out": tmp_path / "alone"}, trials=1)
    assert alone["recipe_as_it_stood"] == results["recipe_as_it_stood"]
    more = tune(RECIPE, records, **settings, trials=3)  # here, and after those
    assert sum(more["trials"].values()) == 3


@pytest.mark.slow
def test_hospitals_on_a_cluster_are_scored_as_here(cluster, busi_folder, records, tmp_path):
    other = shutil.copytree(busi_folder, tmp_path / "other")
    both = [*records, *assign_folds(read_source("other", other, task=get_task("breast-ultrasound")), k=2)]
    asked = {"command": "x", "parts": ["hospital"]}
    local = transfer_study(RECIPE, both, out=tmp_path / "local", **asked)
    far = transfer_study(RECIPE, both, out=tmp_path / "far", **asked, cluster=cluster)
    assert far["table"] == local["table"]
    answers = [(tmp_path / name / "hospital-mine" / "oof.csv").read_bytes() for name in ("local", "far")]
    assert answers[0] == answers[1]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_goes_on_where_it_was(cluster, busi_folder, tmp_path, sent, status):
    command = [sys.executable, "-m", "bcx", "crossval", "--data", f"mine={busi_folder}", "--out", "out", "--engine"]
    command += ["ray", "--address", cluster, "--arch", "mobilenetv2_035", "--init", "scratch", "--epochs", "3"]
    command += [word for setting in ("folds=2", "size=48", "batch_size=2") for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    begun = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        while begun.poll() is None and not list(tmp_path.glob("out/fold-*/history.csv")):
            time.sleep(0.1)
        begun.send_signal(sent)
        said = begun.communicate(timeout=120)[1]
    finally:
        begun.kill()
    assert begun.returncode == status, said
    assert "bcx: stopped.\nThe same command goes on where it was." in said
    assert not (tmp_path / "out" / "results.json").exists()
    assert not list(tmp_path.glob("out/.*"))
    if sent == signal.SIGINT:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "out" / "results.json").read_text())["oof"]["rows"] == 12
        assert "Written: out/results.json" in done.stdout
