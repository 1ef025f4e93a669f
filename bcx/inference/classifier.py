"""The engine: the only place where a network runs for an answer.

classifier = bcx.load()                       # the default model
prediction = classifier.predict("scan.png")
for answer in classifier.stream(paths):       # Prediction or Failure, one per source, in order
    ...
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bcx import DEFAULT_MODEL
from bcx.checkpoints.backends import Wanted, choose_backend
from bcx.checkpoints.checkpoint import Checkpoint, load_checkpoint
from bcx.errors import CheckpointError, ConfigError, MissingExtra, loading
from bcx.imaging.crop import checked_box
from bcx.imaging.scan import Scan
from bcx.inference.clip import CLIP_FRAMES, answer_clip
from bcx.inference.patient import Answer, PatientAnswer, combine
from bcx.inference.prediction import Failure, Prediction
from bcx.inference.sources import ClipFile, Ready, Source, attempt, name_of, prepare
from bcx.inference.two_stage import Reading, both_views, read_scans
from bcx.networks.run import Forward
from bcx.tasks import is_slide
from bcx.trust.calibration import apply_temperature
from bcx.trust.claims import NOT_A_SCAN, REFER, claim, may_outline
from bcx.trust.input_check import InputCheck
from bcx.trust.rule import Decider

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Scans per forward pass of `stream`; fewer need less memory, and the first answers come sooner.
BATCH_SIZE = 4
#: Images per forward pass of `stream_probabilities` on a CPU: as fast as more, and each core needs less memory.
TILES_AT_ONCE = 8
_MANY_PATCHES = (
    "This picture is much larger than the patches that the network learned from, and was squashed to one. "
    "Read it tile by tile, as a large image."
)
#: Threads of `stream` at most; each reads and answers batches of its own on one core.
MOST_WORKERS = 8


class Classifier:
    """A loaded checkpoint that answers. Safe to use from several threads at once.

    Attributes:
        checkpoint: the network, and how a scan becomes its input.
        name, folder, task, temperature, weights_sha256: of the checkpoint.
        classes: labels in the order of probabilities and maps.
        views: how many views of each scan are averaged.
        prevalence: share of each class that the probabilities stand for; empty where the checkpoint does not say.
        backend: what runs the network: "torch" or "onnxruntime".
    """

    def __init__(
        self,
        name: str | os.PathLike[str] | Checkpoint = DEFAULT_MODEL,
        *,
        views: int = 1,
        backend: Wanted = "auto",
        device: str = "auto",
        prevalence: Mapping[str, float] | None = None,
        operating_point: str = "default",
        frames: int | None = None,
    ) -> None:
        """Load a model by name, folder or Hub id.

        Args:
            name: a checkpoint's name ("mobilenetv2-lesion"), its folder, a Hub id ("owner/name"), or what was loaded.
            views: 1, or 2 to average with the mirror image, in two runs of the network; the README has what that gains.
            backend: what runs the network: "torch", "onnxruntime", or "auto", which is ONNX Runtime where it is
                installed and the checkpoint has a `model.onnx` made from its weights, unless there is a GPU.
            device: where it runs: "cpu", "cuda", "mps", or "auto", which is CUDA where there is any, else the CPU.
            prevalence: how often classes occur among the scans to come, such as {"malignant": 0.01}; classes left out
                share the rest. Probabilities follow by Bayes' rule. None: as in training (one scan in three malignant).
            operating_point: "default", "screening" (95 % of cancers are called, at the price of false alarms) or
                "rule-in" (95 % of the others are not called, more is referred).
            frames: how many frames of a clip are read at most, evenly spread, blank ones left out; None: 16.

        Raises:
            CheckpointError: not found, incomplete or damaged, its network cannot answer, or ONNX Runtime was asked for
                without a graph that fits the weights.
            ConfigError: a setting out of range or that the checkpoint does not offer, or a device that is not here.
            MissingExtra: ONNX Runtime was asked for and is not installed.
        """
        checkpoint = name if isinstance(name, Checkpoint) else load_checkpoint(name)
        if views not in (1, 2):
            raise ConfigError(f"views is {views}.", expected="1 or 2", remedy="Use views=1 or views=2.")
        self._frames = CLIP_FRAMES if frames is None else frames
        if self._frames < 1:
            raise ConfigError(f"frames is {frames}.", expected="at least 1", remedy=f"Use {CLIP_FRAMES}.")
        self.checkpoint, self.views = checkpoint, views
        self.name, self.folder, self.task = checkpoint.name, checkpoint.folder, checkpoint.task
        self.classes = checkpoint.task.classes
        self.temperature, self.weights_sha256 = checkpoint.temperature, checkpoint.weights_sha256
        self._reads_clips = checkpoint.task.tile is None
        side = checkpoint.preprocess.size
        # Settings that fit one by one may still not fit together, and torch and timm raise whatever they like.
        expected = "a network, an input size, an input check and rules of decision that fit each other"
        passing = CheckpointError, ConfigError, MissingExtra
        with loading(f"The checkpoint '{self.name}' loads, but cannot answer", expected, passing):
            self._runner = choose_backend(checkpoint, backend, device)
            self.backend = self._runner.name
            rules = checkpoint.decisions
            self._decider = Decider(rules, self.task, name=self.name, point=operating_point).at(prevalence)
            self.prevalence = self._decider.prevalence
            block = checkpoint.input_check
            self._input_check = None if block is None else InputCheck.load(self.folder, block)
            # A black image is answered first.
            self._stages = 1 if self.predict(np.zeros((side, side), np.uint8)).second_stage is None else 2

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse another value of an attribute: answers would not follow it, or only in part."""
        if name in vars(self) and not name.startswith("_"):
            raise AttributeError(f"'{name}' of a classifier cannot be changed. Load another one with bcx.load.")
        super().__setattr__(name, value)

    def predict(self, source: Source, name: str | None = None, *, box: Sequence[float] | None = None) -> Prediction:
        """Answer one source.

        Args:
            source: whatever `Scan.open` takes. Of a clip, several frames are read; `Prediction.clip` says which.
            name: instead of the source's own.
            box: (left, top, right, bottom) in pixels of the scan: the second stage reads the square around it instead
                of its own, as `Prediction.second_stage` says.

        Raises:
            BcxError: the source cannot be read; a subclass says why.
            ConfigError: the box is no box in the scan, the model has no second stage, or the source is a clip.
        """
        item = prepare(source, name, self._reads_clips)
        if box is not None:
            if self._stages == 1:
                raise ConfigError(
                    f"A box was given, but '{self.name}' has no second stage to read it.",
                    expected=f"a model that reads a scan in two stages, such as {DEFAULT_MODEL}",
                    remedy="Choose such a model, or leave the box out.",
                )
            item = _one_scan(item)
            item = replace(item, box=checked_box(box, item.scan.width, item.scan.height))
        if isinstance(item, ClipFile):
            return self._answer_clip(item, self._runner.forward)
        return self._answer([item], self._runner.forward)[0]

    def read_lesions(self, source: Source, name: str | None = None) -> list[Prediction]:
        """Answer one source, and again with the second stage at each of `Prediction.lesions` that it had not read.

        The most harmful decision comes first, and counts: the positive class, "refer", another class, the one that
        means that nothing is there; among equals the highest probability of the positive class. The `box` of the
        model's own answer is None. Errors as `predict`.
        """
        item = _one_scan(prepare(source, name, self._reads_clips))
        answers = self._answer([item], self._runner.forward)
        further = [replace(item, box=lesion.crop) for lesion in answers[0].lesions if not lesion.read]
        if further:
            answers += self._answer(further, self._runner.forward)
        harm = {self.task.positive: 3, REFER: 2, self.task.absent: 0, NOT_A_SCAN: -1}
        return sorted(answers, key=lambda a: (-harm.get(a.decision, 1), -a.probabilities[self.task.positive]))

    def at_prevalence(self, prediction: Prediction, prevalence: Mapping[str, float] | None) -> Prediction:
        """Return an answer of this model, with its pixels, for another prevalence; the network does not run.

        A clip's answer stays as it is. `prevalence` and errors are as of `Classifier`; None: the checkpoint's own.
        """
        before, wanted = (self._decider.at(shares) for shares in (prediction.prevalence, prevalence))
        if prediction.clip is not None:
            return prediction
        probabilities = wanted.adjust(before.restore(np.array([*prediction.probabilities.values()])))
        no_scan = prediction.reason if prediction.decision == NOT_A_SCAN else ""
        return self._claimed(replace(prediction, prevalence=wanted.asked), wanted, probabilities, no_scan)

    def stream(self, sources: Iterable[Source], batch_size: int = BATCH_SIZE) -> Iterator[Prediction | Failure]:
        """Answer many sources, one answer per source, in order: a `Failure` in the place of one that cannot be read.

        Every core answers batches of its own; at most two batches more than there are cores are in memory.

        Args:
            sources: any iterable, consumed as answers are taken; it may be endless.
            batch_size: scans per forward pass.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}.", expected="at least 1", remedy=f"Use {BATCH_SIZE}.")
        taken = iter(sources)
        batches = iter(lambda: list(islice(taken, batch_size)), [])
        answered = self._ahead(batches, self._answer_sources)
        # taken out one by one: an answer that its reader drops is gone
        return (answers.popleft() for answers in answered for _ in range(len(answers)))

    def stream_probabilities(self, groups: Iterable[Callable[[], Sequence[np.ndarray]]]) -> Iterator[np.ndarray]:
        """Answer groups of plain images, such as the tiles of a slide, with probabilities alone: float32 `[N, C]` each.

        No maps, no input check, the same probabilities as `predict` to 1e-5; in order, and in memory as in `stream`.

        Args:
            groups: functions that return a group's images, uint8 `[H, W]` or `[H, W, 3]` each, and may return none.
                They are called in the threads that run the network, several at once.
        """
        return self._ahead(iter(groups), self._score)

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Return int64 `[N]`: the class of each row of `[N, C]`, by the stored rule where there is one."""
        return self._decider.choose(probabilities)

    def combine(self, patient: str, answers: Sequence[Prediction | Answer]) -> PatientAnswer:
        """Return one answer for this model's answers to one patient's scans, as `bcx.inference.patient.combine`."""
        return combine(patient, answers, self._decider, self.task)

    def _ahead(self, items: Iterator[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
        """Yield what `work` returns for each item, in order; the workers are never more than one item ahead each."""
        workers = min(torch.get_num_threads(), MOST_WORKERS) if self._runner.device == "cpu" else 1
        with ThreadPoolExecutor(workers, "bcx-stream", initializer=_compute_alone) as pool:
            ahead: deque[Future[Result]] = deque()
            try:
                while True:
                    ahead.extend(pool.submit(work, item) for item in islice(items, workers + 1 - len(ahead)))
                    if not ahead:
                        return
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _score(self, group: Callable[[], Sequence[np.ndarray]]) -> np.ndarray:
        images = group()
        many = TILES_AT_ONCE if self._runner.device == "cpu" else max(1, len(images))
        batches = (images[at : at + many] for at in range(0, len(images), many))
        parts = [self._probabilities(batch, self._runner.alone)[0] for batch in batches]
        return np.concatenate([np.zeros((0, len(self.classes))), *parts]).astype(np.float32)

    def _answer_sources(self, sources: list[Source]) -> deque[Prediction | Failure]:
        items = [attempt(name_of(source), prepare, source, None, self._reads_clips) for source in sources]
        ready = [item for item in items if isinstance(item, Ready)]
        answers = iter(self._answer(ready, self._runner.alone) if ready else [])

        def answer(item: Ready | ClipFile | Failure) -> Prediction | Failure:
            if isinstance(item, ClipFile):
                return attempt(item.name, self._answer_clip, item, self._runner.alone)
            return next(answers) if isinstance(item, Ready) else item

        return deque(map(answer, items))

    def _answer_clip(self, file: ClipFile, forward: Forward) -> Prediction:
        started = time.perf_counter()

        def answer(scans: list[Scan]) -> list[Prediction]:
            return self._answer([Ready.of(scan, time.perf_counter()) for scan in scans], forward)

        found = answer_clip(file.data, file.name, file.count, self._frames, self.task, answer)
        return replace(found, seconds=time.perf_counter() - started)

    def _answer(self, ready: list[Ready], forward: Forward) -> list[Prediction]:
        started = time.perf_counter()
        probabilities, readings = self._probabilities([item.scan.pixels for item in ready], forward, ready)
        share = (time.perf_counter() - started) / len(ready)
        return [self._prediction(item, probabilities[i], readings[i], share) for i, item in enumerate(ready)]

    def _probabilities(
        self, scans: Sequence[np.ndarray], forward: Forward, ready: Sequence[Ready] = ()
    ) -> tuple[list[np.ndarray], list[Reading]]:
        """Return each scan's probabilities, float64 `[C]`, and raw output, both views averaged."""
        readings = read_scans(forward, self.checkpoint.preprocess, scans, [item.square() for item in ready])
        probabilities = [apply_temperature(reading.logits, self.temperature) for reading in readings]
        if self.views == 2:
            flipped = [np.ascontiguousarray(pixels[:, ::-1]) for pixels in scans]
            chosen = [item.square(mirrored=True) for item in ready]
            for i, mirrored in enumerate(read_scans(forward, self.checkpoint.preprocess, flipped, chosen)):
                probabilities[i] = (probabilities[i] + apply_temperature(mirrored.logits, self.temperature)) / 2
                readings[i] = both_views(readings[i], mirrored)
        return [self._decider.adjust(each) for each in probabilities], readings

    def _prediction(self, item: Ready, probabilities: np.ndarray, reading: Reading, share: float) -> Prediction:
        started = time.perf_counter()
        verdict = None if self._input_check is None else self._input_check.judge(item.scan, reading.stages, self.task)
        flags = [] if verdict is None else list(verdict.flags)
        if self.task.tile is not None and is_slide(item.scan.width, item.scan.height, self.task.tile):
            flags.append(_MANY_PATCHES)
        unclaimed = Prediction(
            item.name,
            *("", 0.0, {}, "", ""),  # what `_claimed` fills in
            flags=flags,
            model=self.name,
            weights_sha256=self.weights_sha256,
            seconds=0.0,
            backend=self.backend,
            scan=item.scan,
            reading=reading,
            preprocess=self.checkpoint.preprocess,
            prevalence=self._decider.asked,
            distance=None if verdict is None else verdict.distance,
            box=item.box,
        )
        no_scan = item.no_scan or ("" if verdict is None else verdict.reason)
        claimed = self._claimed(unclaimed, self._decider, probabilities, no_scan)
        return replace(claimed, seconds=item.seconds + share + time.perf_counter() - started)

    def _claimed(self, answer: Prediction, decider: Decider, probabilities: np.ndarray, no_scan: str) -> Prediction:
        """Return an answer with what follows from the decider's probabilities, float64 `[C]`."""
        winner, unsure = decider.decide(probabilities, answer.distance)
        label = self.classes[winner]
        lesion = answer.screen.lesion if label == self.task.absent else None
        decision, reason = claim(
            label,
            task=self.task,
            likeliest=self.classes[int(probabilities.argmax())] if decider.point == "default" else None,
            lesion=0.0 if lesion is None else float(lesion.max()),
            no_scan=no_scan,
            damage=answer.scan.damage,
            unsure=unsure,
        )
        return replace(
            answer,
            label=label,
            confidence=float(probabilities[winner]),
            probabilities=dict(zip(self.classes, probabilities.tolist(), strict=True)),
            decision=decision,
            reason=reason,
            outlines=may_outline(decision, self.task),
        )


def _one_scan(item: Ready | ClipFile) -> Ready:
    if isinstance(item, ClipFile):
        found = f"'{item.name}' is a clip of {item.count:,} frames."
        remedy = "Open one of its frames: bcx.Scan.open(path, frame=0)."
        raise ConfigError(found, expected="one picture", remedy=remedy)
    return item


def _compute_alone() -> None:
    """Let the calling thread compute without helpers: one scan per core, side by side, wastes less than sharing each.

    torch.set_num_threads would change every thread; OpenMP's own setting belongs to one, once torch has set that up.
    """
    torch.get_num_threads()
    threadpool_limits(1, "openmp")


load = Classifier
"""A model by name, folder or Hub id."""
