"""Both backends give the same answers, a graph that does not fit is refused, and everyone gets the same backend."""

import shutil
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import torch

import bcx
from bcx.checkpoints import onnx_export
from bcx.checkpoints.backends import ONNX_FILE, choose_backend, open_session
from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint, update_config
from bcx.checkpoints.onnx_export import differences, export_onnx
from bcx.errors import CheckpointError, ConfigError, MissingExtra
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_network
from bcx.networks.run import run_network
from bcx.simulate import simulate

SCANS = [simulate(("normal", "benign", "malignant")[seed % 3], seed, 110 + 3 * seed, 140).pixels for seed in range(8)]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU, torch answers")


def with_opinions(folder: Path, out: Path, *, preprocess: Preprocess | None = None) -> Path:
    """Store a linear network again with logits of about one unit around zero, different for each scan."""
    loaded = load_checkpoint(folder)
    head = loaded.network.get_classifier()
    batch = torch.stack([loaded.preprocess.tensor(pixels) for pixels in SCANS])
    with torch.no_grad():
        head.weight.normal_(0, 1, generator=torch.Generator().manual_seed(0))
        head.weight /= loaded.network(batch).std(0)[:, None]
        head.bias -= loaded.network(batch).mean(0)
    return save_checkpoint(out, loaded.network, task=loaded.task, preprocess=preprocess or loaded.preprocess)


@pytest.fixture(scope="module")
def linear(tiny_checkpoint, tmp_path_factory) -> Path:
    """A folder with a linear head and its graph. Read only: copy what you change."""
    folder = with_opinions(tiny_checkpoint, tmp_path_factory.mktemp("exported") / "linear")
    export_onnx(load_checkpoint(folder))
    return folder


@pytest.fixture(scope="module")
def lesion(tiny_lesion_checkpoint, tmp_path_factory) -> Path:
    """A folder with the lesion head and its graph. Read only: copy what you change."""
    folder = Path(shutil.copytree(tiny_lesion_checkpoint, tmp_path_factory.mktemp("exported") / "lesion"))
    export_onnx(load_checkpoint(folder))
    return folder


@pytest.fixture(scope="module", params=["linear", "lesion"])
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def classifier(folder):
    return bcx.load(folder)


@pytest.fixture(scope="module")
def alone(classifier):
    return [classifier.predict(pixels) for pixels in SCANS]


def assert_same(found, expected, *, probabilities=1e-5, maps=1e-5):
    """Compare answers: probabilities as they are, everything else as a share of its largest value."""
    assert len(found) == len(expected)
    largest = max(float(np.abs(answer.grid_maps).max()) for answer in expected)
    for one, other in zip(found, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=probabilities)
        np.testing.assert_allclose(one.grid_maps, other.grid_maps, atol=maps * largest)
        np.testing.assert_allclose(one.reading.stages, other.reading.stages, atol=maps * other.reading.stages.max())
        assert one.second_stage == other.second_stage
        assert (one.lesion is None) == (other.lesion is None)
        if other.lesion is not None:
            np.testing.assert_allclose(one.lesion, other.lesion, atol=maps)


def test_the_answers_differ_from_each_other(alone):
    """Or the tests below would compare nothing."""
    assert np.ptp([answer.probabilities["benign"] for answer in alone]) > 0.05
    assert np.ptp([answer.grid_maps for answer in alone]) > 0.5


@pytest.mark.parametrize("size", [1, 4])
def test_onnx_runtime_answers_as_torch_does(folder, classifier, size):
    assert classifier.backend == "onnxruntime"
    expected = list(bcx.load(folder, backend="torch").stream(SCANS, batch_size=size))
    assert {answer.backend for answer in expected} == {"torch"}
    assert_same(list(classifier.stream(SCANS, batch_size=size)), expected, probabilities=1e-4, maps=1e-3)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_alone_or_in_a_batch_onnx_runtime_says_the_same(classifier, alone, size):
    assert_same(list(classifier.stream(SCANS, batch_size=size)), alone)


def test_eight_threads_get_from_onnx_runtime_what_one_gets(classifier, alone):
    barrier = threading.Barrier(8)

    def work(offset):
        barrier.wait()
        order = [(offset + i) % len(SCANS) for i in range(len(SCANS))]
        return dict(zip(order, [classifier.predict(SCANS[i]) for i in order], strict=True))

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(work, range(8)):
            assert_same([answers[i] for i in range(len(SCANS))], alone)


def test_many_threads_of_one_session_say_what_one_says(lesion):
    checkpoint = load_checkpoint(lesion)
    planes = np.stack([checkpoint.preprocess.plane(pixels) for pixels in SCANS])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        backend = choose_backend(checkpoint)
    finally:
        torch.set_num_threads(before)
    assert max(differences(backend.forward(planes), backend.alone(planes), 1.0).values()) < 1e-5


def test_workers_compute_in_their_own_thread(lesion):
    """Or every worker of a stream would bring as many threads as there are cores."""
    checkpoint = load_checkpoint(lesion)

    def threads_of_a_session(threads):
        before = psutil.Process().num_threads()
        session = open_session(checkpoint, lesion / ONNX_FILE, threads=threads)
        more = psutil.Process().num_threads() - before
        del session
        return more

    assert [threads_of_a_session(threads) for threads in (1, 3)] == [0, 2]


def test_two_views_are_averaged_through_onnx_runtime_too(folder):
    expected = [bcx.load(folder, views=2, backend="torch").predict(pixels) for pixels in SCANS[:2]]
    found = [bcx.load(folder, views=2).predict(pixels) for pixels in SCANS[:2]]
    assert_same(found, expected, probabilities=1e-4, maps=1e-3)


@pytest.mark.slow
def test_the_shipped_model_answers_the_same_through_both(root, tmp_path):
    folder = Path(shutil.copytree(root / "checkpoints" / "mobilenetv2-busi", tmp_path / "shipped"))
    export_onnx(load_checkpoint(folder))
    scans = [simulate(label, 5, 300, 340).pixels for label in ("normal", "benign", "malignant")]
    found = list(bcx.load(folder, backend="onnxruntime").stream(scans))
    expected = list(bcx.load(folder, backend="torch").stream(scans))
    assert_same(found, expected, probabilities=1e-4, maps=1e-3)
    assert [(one.decision, one.flags) for one in found] == [(other.decision, other.flags) for other in expected]


def test_colour_reaches_the_graph(tiny_checkpoint, tmp_path):
    colour = Preprocess(size=64, mean=(0.7, 0.5, 0.4), std=(0.2, 0.3, 0.25), grey=False)
    checkpoint = load_checkpoint(with_opinions(tiny_checkpoint, tmp_path / "colour", preprocess=colour))
    export_onnx(checkpoint)
    planes = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    right = run_network(checkpoint.network, colour, planes)
    apart = differences(choose_backend(checkpoint, "onnxruntime").forward(planes), right, checkpoint.temperature)
    assert set(apart) == {"probabilities", "maps", "stages"}
    assert max(apart.values()) < 1e-4


# What decides which backend answers.


@pytest.fixture
def copied(linear, tmp_path) -> Path:
    return Path(shutil.copytree(linear, tmp_path / "copied"))


def test_without_a_graph_torch_answers_and_says_nothing(copied):
    (copied / ONNX_FILE).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bcx.load(copied).predict(SCANS[0]).backend == "torch"
    with pytest.raises(CheckpointError, match="bcx export"):
        bcx.load(copied, backend="onnxruntime")


def other_weights(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    network = build_network("mobilenetv2_035", 3)
    save_checkpoint(folder, network, task=loaded.task, preprocess=loaded.preprocess)


def other_preprocessing(folder: Path) -> None:
    update_config(folder, preprocess=Preprocess(size=96, mean=(0.4, 0.4, 0.4)).to_dict())


def cut_short(folder: Path) -> None:
    file = folder / ONNX_FILE
    file.write_bytes(file.read_bytes()[:-1000])


def no_graph_at_all(folder: Path) -> None:
    (folder / ONNX_FILE).write_bytes(b"Dear reader")


def empty(folder: Path) -> None:
    (folder / ONNX_FILE).write_bytes(b"")


def external_data(folder: Path) -> None:
    """A tensor whose numbers lie in a file outside the checkpoint."""
    (folder.parent / "outside.bin").write_bytes(bytes(1 << 20))
    model = onnx.load(folder / ONNX_FILE)
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    onnx.external_data_helper.set_external_data(tensor, "../outside.bin", offset=0, length=len(tensor.raw_data))
    tensor.ClearField("raw_data")
    (folder / ONNX_FILE).write_bytes(model.SerializeToString())


def keep_two(folder: Path, name: str, says: int) -> None:
    """Give an output two of its three classes, by a node whose outcome no checker of graphs foresees."""
    model = onnx.load(folder / ONNX_FILE)
    for node in model.graph.node:
        for ends in (node.input, node.output):
            ends[:] = ["all_of_them" if end == name else end for end in ends]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([True, True, False]), "two"))
    model.graph.node.append(onnx.helper.make_node("Compress", ["all_of_them", "two"], [name], axis=1))
    for put in model.graph.output:
        if put.name == name:
            put.type.tensor_type.shape.dim[1].dim_value = says
    (folder / ONNX_FILE).write_bytes(model.SerializeToString())


def fewer_classes(folder: Path) -> None:
    keep_two(folder, "logits", says=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [other_weights, other_preprocessing, cut_short, no_graph_at_all, empty, external_data, fewer_classes]
)
def test_a_graph_that_does_not_fit_is_refused_and_torch_answers(copied, change):
    change(copied)
    with pytest.warns(UserWarning, match=r"Torch answers instead\. Write it with: bcx export copied"):
        classifier = bcx.load(copied)
    assert classifier.backend == "torch"
    with pytest.raises(CheckpointError, match=ONNX_FILE):
        bcx.load(copied, backend="onnxruntime")


def test_a_graph_that_yields_other_shapes_than_it_says_is_an_error(copied):
    keep_two(copied, "maps", says=3)
    with pytest.raises(CheckpointError, match="maps is float32"):
        bcx.load(copied, backend="onnxruntime")


def test_a_new_temperature_needs_no_new_graph(copied):
    update_config(copied, temperature=2.0)
    assert bcx.load(copied, backend="onnxruntime").temperature == 2.0


def test_without_onnx_runtime_torch_answers_and_says_nothing(linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bcx.load(linear).backend == "torch"
    with pytest.raises(MissingExtra, match=r"bcx\[fast\]"):
        bcx.load(linear, backend="onnxruntime")


def test_another_backend_is_refused(linear):
    with pytest.raises(ConfigError, match="tensorrt"):
        bcx.load(linear, backend="tensorrt")


# Writing the graph.


def test_the_graph_takes_pictures_and_holds_all_it_needs(lesion):
    session = open_session(load_checkpoint(lesion), lesion / ONNX_FILE, threads=1)
    (taken,) = session.get_inputs()
    assert (taken.type, taken.shape) == ("tensor(uint8)", ["batch", 96, 96])
    assert [given.name for given in session.get_outputs()] == ["logits", "maps", "stages", "lesion"]
    assert session.get_outputs()[3].shape == ["batch", 12, 12]
    assert not list(lesion.glob("*.data"))


def test_a_graph_that_answers_differently_never_takes_its_place(copied, monkeypatch):
    before = (copied / ONNX_FILE).read_bytes()
    files = sorted(copied.iterdir())
    monkeypatch.setattr(onnx_export, "PROBABILITY_TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match="answers differently"):
        export_onnx(load_checkpoint(copied))
    assert (copied / ONNX_FILE).read_bytes() == before
    assert sorted(copied.iterdir()) == files


def test_exporting_leaves_the_checkpoint_as_it_was(copied):
    before = {file.name: file.read_bytes() for file in copied.iterdir() if file.name != ONNX_FILE}
    checkpoint = load_checkpoint(copied)
    modules = [type(module) for module in checkpoint.network.modules()]
    export_onnx(checkpoint)
    assert {file.name: file.read_bytes() for file in copied.iterdir() if file.name != ONNX_FILE} == before
    assert [type(module) for module in checkpoint.network.modules()] == modules


def test_differences_are_seen(linear):
    checkpoint = load_checkpoint(linear)
    planes = np.stack([checkpoint.preprocess.plane(pixels) for pixels in SCANS[:1]])
    right = run_network(checkpoint.network, checkpoint.preprocess, planes)
    moved = right._replace(logits=right.logits + np.float32([1, 0, 0]), maps=right.maps * 1.01)
    apart = differences(moved, right, checkpoint.temperature)
    assert apart["probabilities"] > 0.01
    assert apart["maps"] == pytest.approx(0.01, rel=0.01)
    assert apart["stages"] == 0


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(copied, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match="pip install"):
        export_onnx(load_checkpoint(copied))
    assert (copied / ONNX_FILE).is_file()


def test_the_command_writes_the_graph(copied, run):
    (copied / ONNX_FILE).unlink()
    done = run("export", copied)
    assert (done.status, ONNX_FILE in done.out) == (0, True)
    assert bcx.load(copied).backend == "onnxruntime"
