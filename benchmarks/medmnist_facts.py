"""Compares what the cards of the MedMNIST sets say with MedMNIST's own package.

    pip install --no-deps medmnist
    python benchmarks/medmnist_facts.py

Compared are the address and md5 of every published file, the numbers of images, channels, class
names and the licence. Only `medmnist/info.py` is read, so neither the package's dependencies nor
torchvision are needed. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustbench_med.data import Card, card, ids
from robustbench_med.data.cards import RESOLUTIONS, MedMNISTReader


def info_file() -> Path:
    """`medmnist/info.py` of the package installed here, which is not imported."""
    package = importlib.util.find_spec("medmnist")
    if package is None or package.origin is None:
        sys.exit("medmnist is not installed: pip install --no-deps medmnist")
    return Path(package.origin).with_name("info.py")


def read_info(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The `INFO` that a Python file defines: by set, what MedMNIST publishes of it."""
    spec = importlib.util.spec_from_file_location("medmnist_info", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    info: Mapping[str, Mapping[str, Any]] = module.INFO
    return info


def differences(each: Card, published: Mapping[str, Any]) -> Iterator[str]:
    """What a card says otherwise than MedMNIST, a line each."""
    assert isinstance(each.reader, MedMNISTReader)
    theirs = {
        "counts": published["n_samples"],
        "channels": published["n_channels"],
        "licence": published["license"],
        "classes": [published["label"][str(k)] for k in range(len(published["label"]))],
    }
    ours: dict[str, Any] = {
        "counts": each.counts,
        "channels": each.modalities[0].channels,
        "licence": each.licence,
        # RetinaMNIST's classes are numbers there
        "classes": [
            name.removeprefix("grade ")
            for name in (
                [task.name for task in each.tasks] if each.multilabel else each.tasks[0].classes
            )
        ],
    }
    for size in RESOLUTIONS:
        suffix = "" if size == RESOLUTIONS[0] else f"_{size}"
        theirs |= {f"url of {size} px": published[f"url{suffix}"]}
        theirs |= {f"md5 of {size} px": published[f"MD5{suffix}"]}
        ours |= {f"url of {size} px": each.reader.files[size].url}
        ours |= {f"md5 of {size} px": each.reader.files[size].md5}
    for what, given in theirs.items():
        if ours[what] != given:
            yield f"{each.id}: {what}: the card says {ours[what]}, MedMNIST {given}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--info", type=Path, help="an info.py to compare with instead of the installed package's"
    )
    path = parser.parse_args().info or info_file()
    info = read_info(path)
    cards = [each for each in map(card, ids()) if isinstance(each.reader, MedMNISTReader)]
    lines: list[str] = []
    for each in cards:
        assert isinstance(each.reader, MedMNISTReader)
        if each.reader.flag in info:
            lines += differences(each, info[each.reader.flag])
        else:
            lines.append(f"{each.id}: MedMNIST has no set {each.reader.flag}")
    print("\n".join(lines) or f"{len(cards)} cards agree with {path}")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
