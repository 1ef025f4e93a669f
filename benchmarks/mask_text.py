"""How many letters of burnt-in names `--mask-text` covers, and what it takes from lesions.

    python benchmarks/mask_text.py       # writes results/dicom/mask_text.json; a minute on a quiet core

Simulated scans, names in six typefaces of 11 to 26 pixels, white, light grey and coloured, in the margin of a machine's
frame or on the scan beside the lesion. A letter is covered when nine tenths of its pixels are. Without text, what is
covered is false.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

OUT = ROOT / "results" / "dicom" / "mask_text.json"
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
NAMES = ("MEIER, ANNA", "Nowak Ewa 1961-04-12", "GARCIA^LUCIA", "Smith, J.  ID 482913", "O'BRIEN MAEVE F")
INKS = ((255, 255, 255), (220, 220, 220), (255, 255, 0), (0, 255, 255))
SCANS, TEXTS = 12, 5


def font_of(chance: np.random.Generator, size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Return one of six typefaces."""
    face = (*FACES, None)[chance.integers(len(FACES) + 1)]
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.load_default(size) if face is None else ImageFont.truetype(str(folder / f"{face}.ttf"), size)


def write_name(
    scan: np.ndarray, taken: np.ndarray, rows: tuple[int, int], chance: np.random.Generator
) -> tuple[np.ndarray, list[tuple[slice, slice, np.ndarray]]] | None:
    """Write a name between two rows and off what is taken; return the picture and each letter's place and pixels."""
    width = scan.shape[1]
    size = int(chance.integers(11, min(27, rows[1] - rows[0] - 8)))
    font, text = font_of(chance, size), NAMES[chance.integers(len(NAMES))]
    long, high = round(font.getlength(text)), round(1.3 * size)
    for _ in range(50):
        left, top = int(chance.integers(4, width - long - 4)), int(chance.integers(rows[0], rows[1] - high))
        if not taken[max(0, top - 12) : top + high + 12, max(0, left - 12) : left + long + 12].any():
            break
    else:
        return None
    ink = INKS[chance.integers(len(INKS))]
    picture = Image.fromarray(scan).convert("RGB")
    ImageDraw.Draw(picture).text((left, top), text, fill=ink, font=font)
    letters = []
    for number, letter in enumerate(text):
        drawn = Image.new("L", (width, high + 8))
        ImageDraw.Draw(drawn).text((left + font.getlength(text[:number]), 0), letter, fill=255, font=font)
        if letter.strip() and (box := drawn.getbbox()):
            place = (slice(top + box[1], top + box[3]), slice(box[0], box[2]))
            letters.append((*place, np.array(drawn.crop(box)) > 100))
    return np.array(picture), letters


def main() -> None:
    """Draw, mask, count, write."""
    from bcx.imaging.text import find_text
    from bcx.simulate import LABELS, simulate

    counts = {place: {"letters": 0, "covered": 0, "lesion_covered": []} for place in ("margin", "scan")}
    plain: dict[str, list[float]] = {"covered": [], "lesion_covered": []}
    chance = np.random.default_rng(0)
    for seed in range(SCANS):
        made = simulate(LABELS[seed % 3], 500 + seed, 380, 500)
        bare = find_text(made.pixels)
        plain["covered"].append(float(bare.mean()))
        if made.mask.any():
            plain["lesion_covered"].append(float(bare[made.mask].mean()))
        frame = np.zeros((480, 640), np.uint8)
        frame[60:440, 90:590] = made.pixels
        lesion = np.zeros(frame.shape, bool)
        lesion[60:440, 90:590] = made.mask
        for place, picture, mask, rows in (
            ("margin", frame, lesion, (4, 58)),
            ("scan", made.pixels, made.mask, (4, 376)),
        ):
            for _ in range(TEXTS):
                if (written := write_name(picture, mask, rows, chance)) is None:
                    continue
                named, letters = written
                found = find_text(named)
                counts[place]["letters"] += len(letters)
                counts[place]["covered"] += sum(found[y, x][ink].mean() >= 0.9 for y, x, ink in letters if ink.any())
                if mask.any():
                    counts[place]["lesion_covered"].append(float(found[mask].mean()))
    results = {
        "command": "python benchmarks/mask_text.py",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "scans": SCANS,
        **{
            place: {
                "letters": found["letters"],
                "recall": round(found["covered"] / found["letters"], 4),
                "share_of_lesion_covered": {
                    "mean": round(float(np.mean(found["lesion_covered"])), 5),
                    "max": round(max(found["lesion_covered"]), 5),
                },
            }
            for place, found in counts.items()
        },
        "without_text": {
            "share_of_scan_covered": {
                "mean": round(float(np.mean(plain["covered"])), 5),
                "max": round(max(plain["covered"]), 5),
            },
            "share_of_lesion_covered": {"max": round(max(plain["lesion_covered"]), 5)},
        },
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
