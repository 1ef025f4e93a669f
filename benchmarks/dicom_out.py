"""Check what `bcx predict --dicom-out` writes with dciodvfy, a validator of DICOM objects that is independent of bcx.

    apt-get install dicom3tools
    python benchmarks/dicom_out.py       # writes results/dicom/dciodvfy.txt; under a minute

The scans are simulated: an image, a colour image, a clip, a header with nothing but identifiers, one without a lesion,
and one in a machine's frame. dciodvfy says each "Warning" and "Error" of a file; warnings that only concern DICOMDIR,
or that the local codes of the scheme 99BCX are not known to it, are counted and left out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MODEL = "mobilenetv2-lesion"  # outlines nothing on the scan without a lesion
OUT = ROOT / "results" / "dicom" / "dciodvfy.txt"
EXPECTED = ("DICOMDIR", "99BCX")
EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "Laterality")


def write_scans(folder: Path) -> None:
    """Write the simulated scans."""
    from bcx.simulate import simulate
    from tests.dicoms import framed, region, ultrasound

    grey = simulate("malignant", 3).pixels
    scans = {
        "image": ultrasound(grey),
        "colour": ultrasound(np.stack([grey, grey, grey // 2], axis=-1), SOPInstanceUID="1.2.3.1.2"),
        "clip": ultrasound(grey, frames=3, SOPInstanceUID="1.2.3.1.3"),
        "bare": ultrasound(grey, SOPInstanceUID="1.2.3.1.4", **dict.fromkeys(EMPTY)),
        "framed": ultrasound(
            framed(grey, size=(600, 720)),
            SOPInstanceUID="1.2.3.1.6",
            SequenceOfUltrasoundRegions=[region(90, 60, 649, 529)],
        ),
        "normal": ultrasound(simulate("normal", 0).pixels, SOPInstanceUID="1.2.3.1.5"),
    }
    for name, data in scans.items():
        (folder / f"{name}.dcm").write_bytes(data)


def main() -> int:
    """Write, validate, record; 1 where there is an error."""
    lines, errors = [], 0
    with tempfile.TemporaryDirectory() as work:
        scans, made = Path(work, "scans"), Path(work, "made")
        scans.mkdir()
        write_scans(scans)
        command = ["predict", str(scans), "--model", MODEL, "--out", f"{work}/results.csv", "--dicom-out", str(made)]
        subprocess.run([sys.executable, "-m", "bcx", *command], cwd=ROOT, check=True)
        for file in sorted(made.glob("*.dcm")):
            done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True)
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            kept = [line for line in said if not any(word in line for word in EXPECTED)]
            errors += sum(line.startswith("Error") for line in kept)
            lines += [f"{file.name}: {len(said) - len(kept)} expected warnings", *(f"    {line}" for line in kept)]
        count = len(list(made.glob("*.dcm")))
    found = ", ".join(f"{name} {version(name)}" for name in ("highdicom", "pydicom"))
    head = [
        "python benchmarks/dicom_out.py",
        f"{MODEL}, {found}, {dciodvfy_version()}",
        f"{count} files, {errors} errors",
        "",
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
    print("\n".join([*head, *lines]))
    return int(errors > 0)


def dciodvfy_version() -> str:
    """Return the version of Debian's package."""
    query = ["dpkg-query", "--showformat", "dicom3tools ${Version}", "--show", "dicom3tools"]
    return subprocess.run(query, capture_output=True, text=True).stdout or "dciodvfy of unknown version"


if __name__ == "__main__":
    sys.exit(main())
