"""Checkpoint folders: plain timm loads them, nothing damaged gets through, and names are found where they should be."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config

import bcx
from bcx.checkpoints import checkpoint as module
from bcx.checkpoints.checkpoint import (
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    sha256_of,
    update_config,
)
from bcx.errors import CheckpointError
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_lesion_network, forward_maps
from bcx.networks.lesion import LesionNetwork
from bcx.simulate import simulate
from bcx.trust.input_check import fit_input_check

SCANS = [
    simulate(label, seed, 200, 240).pixels for seed, label in enumerate(("normal", "benign", "malignant", "benign"))
]


@pytest.fixture(scope="module", params=["tiny", "shipped"])
def folder(request, root, tiny_checkpoint):
    return tiny_checkpoint if request.param == "tiny" else root / "checkpoints" / "mobilenetv2-busi"


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A checkpoint to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def batch_of(preprocess):
    return torch.stack([preprocess.tensor(pixels) for pixels in SCANS])


def test_plain_timm_loads_the_folder_and_gives_the_same_logits(folder):
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    classifier = bcx.load(folder)
    preprocess = load_checkpoint(folder).preprocess
    with torch.inference_mode():
        logits = plain(batch_of(preprocess)).numpy()
    bias = plain.get_classifier().bias.detach().numpy()
    answers = [classifier.predict(pixels) for pixels in SCANS]
    found = np.stack([answer.grid_maps.mean((1, 2)) + bias for answer in answers])
    np.testing.assert_allclose(found, logits, atol=1e-5 * max(1, np.abs(logits).max()))
    # ... and the probabilities are those of these logits, divided by the stored temperature.
    scaled = torch.from_numpy(logits).double() / classifier.temperature
    for answer, expected in zip(answers, scaled.softmax(1).tolist(), strict=True):
        assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-5)


def test_timm_is_told_the_preprocessing_that_bcx_uses(folder):
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True)
    told, preprocess = resolve_model_data_config(plain), load_checkpoint(folder).preprocess
    assert told["input_size"] == (3, preprocess.size, preprocess.size)
    assert (tuple(told["mean"]), tuple(told["std"])) == (preprocess.mean, preprocess.std)
    assert (told["crop_mode"], told["crop_pct"]) == ("squash", 1.0)
    assert tuple(plain.pretrained_cfg["label_names"]) == bcx.load(folder).classes


# The lesion head, whose own weights stand in a second file.


@pytest.fixture
def lesion_copy(tiny_lesion_checkpoint, tmp_path):
    """A checkpoint with the lesion head, to damage."""
    return Path(shutil.copytree(tiny_lesion_checkpoint, tmp_path / "copy"))


def test_whoever_may_read_a_plain_file_may_read_a_checkpoint(tmp_path, tiny_lesion_checkpoint):
    first = load_checkpoint(tiny_lesion_checkpoint)
    save_checkpoint(tmp_path / "again", first.network, task=first.task, preprocess=first.preprocess)
    (tmp_path / "plain.txt").touch()
    modes = {file.name: file.stat().st_mode for file in (tmp_path / "again").iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {(tmp_path / "plain.txt").stat().st_mode}, modes


def test_a_lesion_network_is_loaded_as_it_was_saved(tmp_path, tiny_lesion_checkpoint):
    first = load_checkpoint(tiny_lesion_checkpoint)
    assert isinstance(first.network, LesionNetwork)
    assert not first.network.training
    save_checkpoint(tmp_path / "again", first.network, task=first.task, preprocess=first.preprocess, temperature=1.3)
    second = load_checkpoint(tmp_path / "again")
    assert (second.weights_sha256, second.temperature) == (first.weights_sha256, 1.3)
    assert (second.network.absent, second.network.positive) == (0, 2)
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, first.network.state_dict()[name]), name
    with torch.inference_mode():
        batch = batch_of(first.preprocess)
        for one, other in zip(forward_maps(first.network, batch), forward_maps(second.network, batch), strict=True):
            assert torch.equal(one, other)


def test_plain_timm_loads_the_backbone_of_a_lesion_network(tiny_lesion_checkpoint):
    plain = timm.create_model(f"local-dir:{tiny_lesion_checkpoint}", pretrained=True).eval()
    loaded = load_checkpoint(tiny_lesion_checkpoint)
    batch = batch_of(loaded.preprocess)
    with torch.inference_mode():
        last, stages = loaded.network.backbone.forward_intermediates(batch, indices=4)
        assert torch.equal(plain.forward_features(batch), last)
        described = torch.cat([stage.mean((2, 3)) for stage in stages], 1)
        torch.testing.assert_close(described, forward_maps(loaded.network, batch).stages)
    assert plain.num_classes == 0
    told = resolve_model_data_config(plain)
    assert (told["input_size"], told["crop_mode"]) == ((3, 96, 96), "squash")


def test_the_hash_is_that_of_both_files_and_changes_with_either(lesion_copy):
    files = [lesion_copy / "model.safetensors", lesion_copy / "head.safetensors"]
    found = [load_checkpoint(lesion_copy).weights_sha256]
    assert found[0] == hashlib.sha256(files[0].read_bytes() + files[1].read_bytes()).hexdigest()
    for file in files:
        tensors = load_file(file)
        name = sorted(name for name in tensors if name.endswith("weight"))[0]
        save_file({**tensors, name: tensors[name] + 0.5}, file, metadata={"format": "pt"})
        found.append(load_checkpoint(lesion_copy).weights_sha256)
    assert len(set(found)) == 3


def test_a_lesion_network_in_float16_changes_no_probability_by_more_than_allowed(tmp_path, tiny_lesion_checkpoint):
    stored = load_checkpoint(tiny_lesion_checkpoint)
    batch = batch_of(stored.preprocess)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(1)
        network = build_lesion_network("mobilenetv2_035", stored.task).eval()
        for last in (network.fine, network.coarse):
            torch.nn.init.normal_(last.weight, 0, 0.1)
        # Logits around zero, where probabilities move most: the mean presence and malignancy are taken away.
        normal, benign, malignant = forward_maps(network, batch).logits.mean(0)
        network.coarse.bias[1] -= (malignant - benign) / 2
        network.coarse.bias[2] += normal
        before = forward_maps(network, batch)
        save_checkpoint(tmp_path / "rounded", network, task=stored.task, preprocess=stored.preprocess)
        after = forward_maps(load_checkpoint(tmp_path / "rounded").network, batch)
    for file in ("model.safetensors", "head.safetensors"):
        assert torch.float16 in {value.dtype for value in load_file(tmp_path / "rounded" / file).values()}
    assert float(before.logits.softmax(1).std(0).max()) > 0.05  # there is something to compare
    assert 0 < float((before.logits.softmax(1) - after.logits.softmax(1)).abs().max()) <= 1e-3
    assert float((before.lesion - after.lesion).abs().max()) <= 5e-3


def drop_a_tensor(folder):
    tensors = load_file(folder / "head.safetensors")
    del tensors["coarse.weight"]
    save_file(tensors, folder / "head.safetensors")


LESION_DAMAGE = {
    "no head": lambda folder: (folder / "head.safetensors").unlink(),
    "head cut short": lambda folder: rewrite("head.safetensors", lambda data: data[: len(data) // 2])(folder),
    "head of something else": drop_a_tensor,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "an unknown head": lambda folder: change(head="forest")(folder),
    "the other head": lambda folder: change(head="average pooling, linear")(folder),
}


@pytest.mark.parametrize("damage", LESION_DAMAGE)
def test_a_damaged_checkpoint_with_the_lesion_head_is_a_checkpoint_error_too(lesion_copy, damage):
    LESION_DAMAGE[damage](lesion_copy)
    with pytest.raises(CheckpointError, match="'copy'") as caught:
        bcx.load(lesion_copy)
    assert caught.value.remedy


def test_a_save_that_fails_leaves_the_old_lesion_network_whole(lesion_copy, monkeypatch):
    before = {file.name: file.read_bytes() for file in lesion_copy.iterdir()}
    first = load_checkpoint(lesion_copy)
    real = module.save_file

    def full_disk(tensors, file, **options):
        if file.name == "head.safetensors":
            raise OSError("No space left on device")
        real(tensors, file, **options)

    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(lesion_copy, first.network, task=first.task, preprocess=first.preprocess, temperature=9.0)
    assert {file.name: file.read_bytes() for file in lesion_copy.iterdir() if file.is_file()} == before
    monkeypatch.undo()
    save_checkpoint(lesion_copy, first.network, task=first.task, preprocess=first.preprocess, temperature=9.0)
    assert load_checkpoint(lesion_copy).temperature == 9.0
    assert {file.name for file in lesion_copy.iterdir()} == set(before)


def test_what_is_saved_is_what_is_loaded(tmp_path, tiny_checkpoint):
    first = load_checkpoint(tiny_checkpoint)
    preprocess = Preprocess(size=80, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    stored = {"temperature": 1.7, "training": {"recipe": {"epochs": 3}}}
    save_checkpoint(tmp_path / "again", first.network, task=first.task, preprocess=preprocess, **stored)
    second = load_checkpoint(tmp_path / "again")
    assert (second.name, second.task, second.preprocess) == ("again", first.task, preprocess)
    assert {"temperature": second.temperature, "training": second.training} == stored
    assert second.input_check is None
    assert second.weights_sha256 == first.weights_sha256
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, first.network.state_dict()[name])


def test_other_files_of_the_folder_stay(copy):
    (copy / "README.md").write_text("The card.")
    first = load_checkpoint(copy)
    save_checkpoint(copy, first.network, task=first.task, preprocess=first.preprocess)
    assert (copy / "README.md").read_text() == "The card."


def test_entries_change_without_touching_the_weights(copy):
    before = load_checkpoint(copy)
    update_config(copy, temperature=2.5)
    after = load_checkpoint(copy)
    assert (after.temperature, after.weights_sha256, after.preprocess) == (
        2.5,
        before.weights_sha256,
        before.preprocess,
    )


def change(**entries):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        config["bcx"].update(entries)
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def rewrite(name, make):
    def edit(folder):
        (folder / name).write_bytes(make((folder / name).read_bytes()))

    return edit


def model_args(**entries):
    def edit(data):
        config = json.loads(data)
        config["model_args"].update(entries)
        return json.dumps(config).encode()

    return rewrite("config.json", edit)


def without(key):
    return lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k != key}).encode()


GATE = {"kind": "mahalanobis of stage means", "file": "gate.safetensors", "unit": 1.0, "allowance": 2.5}
DAMAGE = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights cut short": rewrite("model.safetensors", lambda data: data[: len(data) // 2]),
    "weights cut to nothing": rewrite("model.safetensors", lambda data: b""),
    "weights are a web page": rewrite("model.safetensors", lambda data: b"<html>Not found</html>" * 99),
    "config is no JSON": rewrite("config.json", lambda data: data[:-20]),
    "config is no text": rewrite("config.json", lambda data: b"\xff\xfe\x00" * 9),
    "config is a list": rewrite("config.json", lambda data: b"[1, 2]"),
    "config is timm's alone": rewrite("config.json", without("bcx")),
    "no architecture": rewrite("config.json", without("architecture")),
    "another architecture": rewrite("config.json", lambda data: data.replace(b"mobilenetv2_035", b"mobilenetv2_050")),
    "an unknown architecture": rewrite(
        "config.json", lambda data: data.replace(b"mobilenetv2_035", b"nothing_like_it")
    ),
    "another format": change(format=99),
    "an unknown task": change(task="palmistry"),
    "preprocessing of another kind": change(preprocess={"size": 224, "fit": "crop"}),
    "preprocessing out of range": change(preprocess={**Preprocess().to_dict(), "size": 4}),
    "a temperature in words": change(temperature="warm"),
    "an operating point out of range": change(
        decisions={"operating_point": {"normal_above": 2, "positive_above": 0.5, "positive": 2}}
    ),
    "a rule for referral of another kind": change(decisions={"refer": {"above": 0.5}}),
    "decisions in a list": change(decisions=["refer"]),
    "an unknown head": change(head="forest"),
    "the other head": change(head="lesion"),
    "a temperature of no use": change(temperature=1e9),
    "a path where a yes or no belongs": change(preprocess={**Preprocess().to_dict(), "grey": "/etc/passwd"}),
    "classes of another task": change(classes=["negative", "positive"]),
    "an input check elsewhere": change(gate={**GATE, "file": "../other/gate.safetensors"}),
    "a network from elsewhere": rewrite("config.json", lambda data: data.replace(b"mobilenetv2_035", b"hf-hub:a/b")),
    "weights from elsewhere": model_args(checkpoint_path="/tmp/weights.pth"),
    "a download": model_args(pretrained=True),
    "a network too large for its weights": rewrite(
        "config.json", lambda data: data.replace(b"mobilenetv2_035", b"resnetv2_152x4_bit")
    ),
    "an input that the head cannot read": model_args(img_size=48),
    "an input check without its file": change(gate={"kind": "nearest neighbours", "file": "gate.safetensors"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_a_checkpoint_error_that_names_it(copy, damage):
    DAMAGE[damage](copy)
    with pytest.raises(CheckpointError, match="'copy'") as caught:
        bcx.load(copy)
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told_by_name(copy, number):
    tensors = load_file(copy / "model.safetensors")
    tensors["conv_head.weight"].view(-1)[7] = number
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"'conv_head.weight' .* not finite"):
        bcx.load(copy)


def test_every_unknown_key_is_named(copy):
    change(preprocess={**Preprocess().to_dict(), "crop": 0.9}, themperature=2.0)(copy)
    with pytest.raises(CheckpointError, match=r"bcx\.preprocess\.crop: .*bcx\.themperature: "):
        bcx.load(copy)


def test_a_network_whose_numbers_overflow_does_not_load(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["classifier.weight"] = torch.full_like(tensors["classifier.weight"], 1e38, dtype=torch.float32)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="infinite or not a number"):
        bcx.load(copy, backend="torch")


def test_an_input_check_of_another_network_does_not_load(copy):
    described = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    update_config(copy, gate=fit_input_check(described, np.arange(8) % 2).save(copy))
    with pytest.raises(CheckpointError, match="cannot answer"):
        bcx.load(copy, backend="torch")


def test_names_are_found_in_the_folders_of_bcx_checkpoints_first(tiny_checkpoint, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(tiny_checkpoint, first / "mine")
    shutil.copytree(tiny_checkpoint, second / "mine")
    shutil.copytree(tiny_checkpoint, second / bcx.DEFAULT_MODEL)
    monkeypatch.setenv("BCX_CHECKPOINTS", os.pathsep.join([str(first), str(second), str(tmp_path / "missing")]))
    assert find_checkpoint("mine") == first / "mine"
    assert list_checkpoints()["mine"] == first / "mine"
    assert find_checkpoint(bcx.DEFAULT_MODEL) == second / bcx.DEFAULT_MODEL
    assert bcx.load("mine").name == "mine"


def test_a_folder_is_taken_as_it_is_from_anywhere(tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tiny_checkpoint.parent)
    for given in (tiny_checkpoint, str(tiny_checkpoint), tiny_checkpoint.name, f"./{tiny_checkpoint.name}"):
        assert bcx.load(given).name == tiny_checkpoint.name


def test_the_default_model_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BCX_CHECKPOINTS", raising=False)
    assert bcx.load().name == bcx.DEFAULT_MODEL


@pytest.mark.parametrize("name", ["no-such-model", "./no/folder", "/no/such/folder", "", "a/b/c", "x" * 5000, "a\0b"])
def test_an_unknown_name_is_told_with_those_at_hand(name, tiny_checkpoint, monkeypatch):
    monkeypatch.setenv("BCX_CHECKPOINTS", str(tiny_checkpoint.parent))
    with pytest.raises(CheckpointError, match=tiny_checkpoint.name):
        bcx.load(name)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's protocol as fetching a public model needs; it knows one, 'owner/model'."""

    folder: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def files(self):
        return sorted(file for file in self.folder.iterdir() if file.is_file())

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        path = self.path.split("?")[0]
        kind, body = "application/json", b'{"error": "Repository not found"}'
        headers = {"X-Error-Code": "RepoNotFound"}
        found = path.startswith(("/api/models/owner/model", "/owner/model/resolve/"))
        if path.startswith("/api/models/owner/model/tree/"):
            files = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": ""} for f in self.files()]
            body, headers = json.dumps(files).encode(), {}
        elif path.startswith("/api/models/owner/model"):
            files = [{"rfilename": file.name} for file in self.files()]
            body, headers = json.dumps({"id": "owner/model", "sha": self.commit, "siblings": files}).encode(), {}
        elif found:
            file = self.folder / path.rsplit("/", 1)[1]
            kind, body = "application/octet-stream", file.read_bytes()
            headers = {"X-Repo-Commit": self.commit, "ETag": f'"{sha256_of(file)}"'}
        self.send_response(200 if found else 404)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def asked(tiny_checkpoint, tmp_path_factory):
    """What loading a model of the Hub and one that is none say, the Hub being a server of this machine.

    In a process of its own, since huggingface_hub reads its settings when it is imported.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (Hub,), {"folder": tiny_checkpoint}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """if True:
        import json, sys, bcx
        for name in sys.argv[1:]:
            try:
                classifier = bcx.load(name)
                print(json.dumps([classifier.weights_sha256, classifier.name]))
            except bcx.BcxError as error:
                print(json.dumps([type(error).__name__, str(error)]))
    """
    endpoint, home = f"http://127.0.0.1:{server.server_port}", str(tmp_path_factory.mktemp("hub"))
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": home, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, "owner/model", "owner/other"],
        env={**os.environ, **settings, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=True,
    )
    server.shutdown()
    server.server_close()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_hub_id_is_fetched_and_loaded(asked, tiny_checkpoint):
    assert asked[0] == [sha256_of(tiny_checkpoint / "model.safetensors"), "owner/model"]


@pytest.mark.slow
def test_an_unknown_hub_id_says_what_to_do(asked):
    kind, text = asked[1]
    assert kind == "CheckpointError"
    assert "'owner/other'" in text
    assert "Check the id" in text


def test_no_pickle_is_written_or_read_anywhere(root):
    banned_modules = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for file in (root / "bcx").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & banned_modules, file
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned_modules, file
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in ("torch.load", "torch.save"), file
            elif isinstance(node, ast.keyword):
                assert node.arg != "allow_pickle", file
