"""Speed and memory of the data cache: building it, epochs of batches read from it, and
`data verify` with its search for twins.

    python benchmarks/data_cache.py [--images 236386 --side 28 --channels 1] [--npz] [--verify]

Makes a set of random images in a temporary folder (PNG class folders, or a MedMNIST npz), reads it
in a process of its own with a fresh MEDROBUST_HOME, and prints seconds and that process's peak
resident memory (as the kernel counts it, mapped pages included).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CARD = """
id: random
title: random
modalities: [{{name: noise, channels: {channels}}}]
tasks: [{{name: digit, classes: ["0", "1", "2", "3", "4", "5", "6", "7"]}}]
counts: {{total: {images}}}
url: none
licence: none
access: none
citation: none
provenance: none
reader: {reader}
"""


def make(root: Path, images: int, side: int, channels: int, npz: bool) -> None:
    """Writes the set and its card below `root`."""
    from PIL import Image

    rng = np.random.default_rng(0)
    if npz:  # with tissuemnist's name: a card of one's own may use the flag of a shipped one
        parts = {"train": images * 7 // 10, "val": images // 10}
        parts["test"] = images - sum(parts.values())
        arrays = {}
        for split, n in parts.items():
            arrays[f"{split}_images"] = rng.integers(
                0, 256, (n, side, side, 3)[: 3 + (channels == 3)], np.uint8
            )
            arrays[f"{split}_labels"] = (np.arange(n) % 8)[:, None].astype(np.uint8)
        np.savez_compressed(root / "tissuemnist.npz", **arrays)
        reader = "{kind: medmnist, flag: tissuemnist}"
    else:
        for i in range(images):
            folder = root / "random" / str(i % 8)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (side, side, 3)[: 2 + (channels == 3)], np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:06d}.png", compress_level=0)
        reader = "{kind: folders}"
    (root / "card.yaml").write_text(CARD.format(images=images, channels=channels, reader=reader))


def measure(root: Path, side: int, batch: int) -> None:
    """Loads the set, reads two epochs in random order, and prints the figures as JSON."""
    from robustbench_med.data import Files, load

    after_import = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    dataset = load(
        str(root / "card.yaml"), size=side, files=Files(data_root=root, accept_unverified=True)
    )
    figures = {"import MiB": after_import, "load s": time.perf_counter() - start}
    train = dataset.splits["train"]
    for epoch in (1, 2):
        start = time.perf_counter()
        order = np.random.default_rng(epoch).permutation(len(train))
        for i in range(0, len(order), batch):
            train.batch(order[i : i + batch])
        figures[f"epoch {epoch} s"] = time.perf_counter() - start
    figures |= {
        "train images": len(train),
        "peak RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def measure_verify(root: Path) -> None:
    """Verifies the set: decoding to thumbnails, then the search for copies and look-alikes; prints
    the figures as JSON.
    """
    from robustbench_med.data import Files, card
    from robustbench_med.data.verify import verify

    figures, files = {}, Files(data_root=root, accept_unverified=True)
    for name, look in (("decoding, no look s", False), ("with look s", True)):
        start = time.perf_counter()
        report = verify(card(str(root / "card.yaml")), files, look=look)
        figures[name] = time.perf_counter() - start
    figures |= {"images": sum(row["found"] for row in report["classes"])}
    print(
        json.dumps(
            figures | {"peak RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=236_386)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 3))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--npz", action="store_true", help="one MedMNIST npz instead of PNG files")
    parser.add_argument("--verify", action="store_true", help="also measure `data verify`")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        (
            measure_verify(given.measure)
            if given.verify
            else measure(given.measure, given.side, given.batch)
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start = time.perf_counter()
        make(root, given.images, given.side, given.channels, given.npz)
        print(
            f"made {given.images:,} images of {given.side} px x {given.channels} in"
            f" {time.perf_counter() - start:.0f} s",
            file=sys.stderr,
        )
        environment = os.environ | {"MEDROBUST_HOME": str(root / "home")}
        for run in ("cold", "warm", *(["verify"] if given.verify else [])):
            command = [
                sys.executable,
                __file__,
                "--measure",
                folder,
                "--side",
                str(given.side),
                "--batch",
                str(given.batch),
            ]
            command += ["--verify"] if run == "verify" else []
            figures = json.loads(
                subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                ).stdout
            )
            print(run, ", ".join(f"{name} {value:,.1f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
