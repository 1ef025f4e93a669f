"""What generated images are worth, by machine: distances between sets of features, and copies of training scans.

*FID* is the Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017); it grows as images get
fewer, so it is given at equal numbers only. *KID* is the squared maximum mean discrepancy under a cubic kernel, in its
unbiased form (Bińkowski et al. 2018): nought on average where both sets come from one source, however few they are, so
single values may lie below nought. The features are not those of Inception, so neither compares with other papers:
each stands beside the same figure of real scans against real scans.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel
from torch import nn

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_network
from bcx.networks.device import pick_device
from bcx.studies.synthesis.fit import class_records, gan_fingerprint, read_planes, write_sheet
from bcx.studies.synthesis.generator import Generator
from bcx.tasks import get_task
from bcx.train.answer import answer_scans
from bcx.train.config import Recipe
from bcx.train.heads import make_preprocess

#: From grey images, uint8 `[N, S, S]`, to features, float64 `[N, K]`.
Describe = Callable[[np.ndarray], np.ndarray]
#: An image that follows a training scan this closely, pixel by pixel, is a copy, whatever real scans do.
COPY_CORRELATION = 0.95
#: Images are judged with a seed that no training of a classifier uses.
JUDGED_SEED = 1_000_003
_COARSE = 32  # pixels: side at which images are correlated
QUARTILES = (0, 0.25, 0.5, 0.75, 1)
_DRAWS = 50  # subsets for spreads and for equal numbers


def build_describers(checkpoint: str, start: Recipe) -> dict[str, Describe]:
    """Return the networks that describe images, by name: one of the project's own, and one that has seen no scans.

    The second has the architecture and starting weights of `start`; with random weights it is left out.
    """
    loaded = load_checkpoint(checkpoint)
    found = {loaded.name: describer(loaded.network, loaded.preprocess)}
    if start.init != "scratch":
        task = get_task(start.task)
        network = build_network(start.arch, len(task.classes), init=start.init).eval()
        # At the side that ImageNet's weights were trained at, whatever the classifier's own.
        preprocess = make_preprocess(start.model_copy(update={"size": 224}), network, task)
        found[f"{start.arch} as it starts"] = describer(network, preprocess)
    return found


def describer(network: nn.Module, preprocess: Preprocess) -> Describe:
    """Return a function from images to the means of every channel at the end of the network's last stages."""
    network.to(pick_device())

    def describe(planes: np.ndarray) -> np.ndarray:
        return np.stack([reading.stages for reading in answer_scans(network, preprocess, planes)]).astype(np.float64)

    return describe


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to features, float `[N, K]` and `[M, K]`.

    |mean difference|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)). With A = X'X and B = Y'Y, centred features, the last trace
    is the nuclear norm of X Y', so that no root of a product, which may come out complex, is taken.
    """
    x, y = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (a, b))
    between = a.mean(0) - b.mean(0)
    return float(between @ between + (x**2).sum() + (y**2).sum() - 2 * np.linalg.norm(x @ y.T, ord="nuc"))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel (x y / K + 1)^3; arguments as above."""
    own = (polynomial_kernel(part, degree=3) for part in (a, b))
    within = sum((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in own)
    return float(within - 2 * polynomial_kernel(a, b, degree=3).mean())


def set_distances(generated: np.ndarray, train: np.ndarray, held: np.ndarray) -> dict[str, Any]:
    """Compare generated images and other real scans with the training scans by features `[N, K]`, at equal numbers.

    Features are scaled by the training scans' mean and spread first, so that every channel counts. Fewer than two
    images in a set are a `DataError`. Returns `n` (images of each set that stand against `train`), `n_train`, `kid` and
    `fid`, each with `generated` and `real` as {"mean", "sd"} over subsets of `n`; no spread where there is only one.
    """
    n = min(len(generated), len(held))
    if min(n, len(train)) < 2:
        raise DataError(
            f"{len(generated)} generated images, {len(train)} training scans and {len(held)} others were given.",
            expected="two or more of each",
            remedy="Generate more images, or name more scans.",
        )
    train, held, generated = (_scaled(part, train) for part in (train, held, generated))
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"n": n, "n_train": len(train)}
    for name, distance in (("kid", kernel_distance), ("fid", frechet_distance)):
        found[name] = {}
        for kind, part in (("generated", generated), ("real", held)):
            draws = _DRAWS if len(part) > n else 1
            values = [distance(part[rng.permutation(len(part))[:n]], train) for _ in range(draws)]
            found[name][kind] = {"mean": float(np.mean(values)), "sd": float(np.std(values)) if draws > 1 else None}
    return found


def _scaled(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    return (features - train.mean(0)) / (train.std(0) + 1e-8)


def find_neighbours(
    planes: np.ndarray,
    features: np.ndarray,
    train: np.ndarray,
    train_features: np.ndarray,
    barred: np.ndarray | None = None,
) -> pd.DataFrame:
    """Find the training scan nearest to each image, uint8 `[N, S, S]` with features `[N, K]`, or whose mirror image is.

    Features of training scans `[M, S, S]` are `[2 M, K]`, of their mirror images too; `barred`, bool `[N, M]`, do not
    count. Columns: by features its position (`nearest`) and `distance`, the root mean square in units of the training
    scans' spread; then the highest `correlation` of grey values at 32 x 32, -1..1.
    """
    count = len(train)
    own = train_features[:count]
    distance = cdist(_scaled(features, own), _scaled(train_features, own)) / np.sqrt(features.shape[1])
    correlation = _coarse(planes) @ _coarse(with_mirrored(train)).T
    if barred is not None:
        barred = np.tile(barred, (1, 2))
        distance, correlation = np.where(barred, np.inf, distance), np.where(barred, -np.inf, correlation)
    nearest, correlated = distance.argmin(1) % count, correlation.max(1)
    return pd.DataFrame({"nearest": nearest, "distance": distance.min(1), "correlation": correlated})


def with_mirrored(planes: np.ndarray) -> np.ndarray:
    """Return images, then their mirror images."""
    return np.concatenate([planes, planes[:, :, ::-1]])


def _coarse(planes: np.ndarray) -> np.ndarray:
    """Shrink to 32 x 32, centre and scale to length 1, so that products are correlations: float64 `[N, 1024]`."""
    small = [cv2.resize(plane, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA) for plane in planes]
    rows = np.stack(small).reshape(len(planes), -1).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def find_copies(generated: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """Return bool `[N]`: generated images nearer to a training scan than any real scan that the generator did not see.

    By correlation more than `COPY_CORRELATION` is enough, since copies hide in real data too.
    """
    limit = min(COPY_CORRELATION, real["correlation"].max())
    return ((generated["correlation"] > limit) | (generated["distance"] < real["distance"].min())).to_numpy()


def judge_copies(generated: pd.DataFrame, real: pd.DataFrame) -> dict[str, Any]:
    """Return how near generated images come to training scans, beside real scans that the generator did not see.

    `copies` are how many `find_copies` flags, `expected` how many it would flag if generated images were like real
    ones, at most (each of the two extremes of L scans is passed by one in L + 1), `nearer` the chance that a generated
    image is nearer to its training scan than a real one to its own (.5: alike); then quartiles.
    """
    n, real_n = len(generated), len(real)
    distances = np.concatenate([generated["distance"], real["distance"]])
    kinds = {"generated": generated, "real": real}
    return {
        "n": n,
        "copies": int(find_copies(generated, real).sum()),
        "real_n": real_n,
        "expected": round(2 * n / (real_n + 1), 1),
        "nearer": float(roc_auc_score(np.arange(len(distances)) < n, -distances)),
        **{
            name: {kind: np.quantile(each[name], QUARTILES).round(4).tolist() for kind, each in kinds.items()}
            for name in ("distance", "correlation")
        },
    }


def judge(
    generated: np.ndarray,
    train: np.ndarray,
    groups: Sequence[str],
    held: np.ndarray | None,
    describers: Mapping[str, Describe],
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Judge generated images of one class against real scans, all uint8 `[N, S, S]`.

    `train` are what the generator learnt from, `held` scans of other groups that it never saw, or None where it saw
    all: then one half of the groups stands for real scans against the other, and copies are judged by each training
    scan's nearest among other groups, of which there must be two (else: `DataError`).

    Returns:
        By name of the network `set_distances` and `judge_copies`, ready for JSON; bool `[N]`, flagged as copies by any
        network or by the pixels; int `[N]`, the training scan nearest by the first network.
    """
    names = np.asarray(groups)
    different = np.unique(names)
    if held is None and len(different) < 2:
        raise DataError(
            "All training scans are of one group.", expected="two groups or more", remedy="Name more scans."
        )
    half = np.isin(names, np.random.default_rng(0).permutation(different)[: (len(different) + 1) // 2])
    report, flags, nearest = {}, np.zeros(len(generated), bool), []
    for name, describe in describers.items():
        around, features = describe(with_mirrored(train)), describe(generated)
        own = around[: len(train)]
        if held is None:
            apart = own[half], own[~half]
            real = find_neighbours(train, own, train, around, barred=names[:, None] == names)
        else:
            apart = own, describe(held)
            real = find_neighbours(held, apart[1], train, around)
        found = find_neighbours(generated, features, train, around)
        report[name] = {"distances": set_distances(features, *apart), "copies": judge_copies(found, real)}
        flags |= find_copies(found, real)
        nearest.append(found["nearest"].to_numpy())
    return report, flags, nearest[0]


def scans_of(generator: Generator, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the scans of the generator's class that it learnt from (others: `DataError`), and those it never saw."""
    fold, used = generator.about["fold"], [record for record in records if record.fold is not None]
    train = class_records([record for record in used if record.fold != fold], generator.label)
    if gan_fingerprint(generator.recipe, train) != generator.about["fingerprint"]:
        raise DataError(
            f"The {len(train)} scans of '{generator.label}' are not those that this generator learnt from.",
            expected=f"the {generator.about['n_train']} scans of its training, under the same names",
            remedy="Name the same sources with --data as in `bcx synth train`.",
        )
    held = [record for record in used if record.fold == fold and record.label == generator.label]
    return train, held


def judge_generator(
    generator: Generator,
    records: Sequence[Record],
    describers: Mapping[str, Describe],
    *,
    seed: int = JUDGED_SEED,
    count: int | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Generate images, by default as many as training scans, and judge them, all at the generator's own size.

    `sheet` is where real, generated and nearest scans are shown: a picture of patients' scans. Returns, ready for JSON,
    `size`, `generated`, `train`, `held` (numbers of images), `copies` and `flagged` (how many, and their positions) and
    `by` network (see `judge`).
    """
    (train, held), size = scans_of(generator, records), generator.recipe.size
    planes = read_planes(train, size)
    others = read_planes(held, size) if len(held) > 1 else None
    made = generator.sample(count or len(train), seed)
    report, copies, nearest = judge(made, planes, [record.group for record in train], others, describers)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        rows = {"real": planes[:8], "generated": made[:8], "nearest real": planes[nearest[:8]]}
        title = f"{generator.label}: real, generated, and the training scan nearest to each generated one"
        write_sheet(rows, sheet, title)
    flagged = np.flatnonzero(copies).tolist()
    numbers = {"size": size, "generated": len(made), "train": len(train), "held": len(held), "copies": len(flagged)}
    return {**numbers, "flagged": flagged, "by": report}
