"""Independent runs: one after the other here, or side by side on a Ray cluster, with the same files and errors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bcx.cli import main as cli
from bcx.errors import BcxError, ConfigError, MissingExtra
from bcx.inference.cluster import connected, cores_of_each
from bcx.train import runs as module
from bcx.train.config import Recipe
from bcx.train.crossval import crossval
from bcx.train.runs import carry_out

RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=2, folds=2
)


def greet(run: str, folder: Path) -> None:
    (folder / run).touch()


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
        ("compare --archs mobilenetv2_035,tiny_cnn --engine ray", 'pip install "bcx[cluster]"'),
        ("leak --engine ray", 'pip install "bcx[cluster]"'),
        ("crossval --address auto", "--address was given without --engine ray"),
        ("tune --fold 0 --trials 1 --engine spark", "no engine called 'spark'"),
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


@pytest.mark.slow
def test_a_cluster_that_does_not_start_is_told(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ConfigError, match=r"no Ray cluster at 'local' .*timed out"), connected("local"):
        pass


def test_what_a_worker_met_is_told_as_it_met_it(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def wrapped(cause: Exception) -> Exception:
        return ray.exceptions.RayTaskError("do", "Traceback ...", cause).as_instanceof_cause()

    with pytest.raises(OSError, match="No space left") as caught, connected("local"):
        raise wrapped(OSError(28, "No space left on device", "oof.csv"))
    assert caught.value.errno == 28
    with pytest.raises(ray.exceptions.RayTaskError), connected("local"):
        raise wrapped(KeyError("a fault of the code"))
    with pytest.raises(BcxError, match="lost a worker too often"), connected("local"):
        raise ray.exceptions.WorkerCrashedError


def test_a_node_without_the_folders_says_which(tmp_path):
    with pytest.raises(ConfigError, match="does not see '/elsewhere'"):
        module._do_elsewhere(greet, "one", [], "/elsewhere", str(tmp_path), "cpu", 1)


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "processes", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="several processes"):
        next(carry_out(["one"], greet, {}, out=tmp_path, most=1, cluster="local"))
