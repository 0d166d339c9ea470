"""Everything of the package used in a process that cannot import torchvision.

Run as a program, it prints the attempts to import it as JSON: the files of the frames that led to
each, the nearest first. A torchvision built for another torch fails as this one does.
"""

import contextlib
import importlib
import importlib.abc
import io
import json
import pkgutil
import sys
import tempfile
from pathlib import Path

attempts: list[list[str]] = []


class Broken(importlib.abc.MetaPathFinder):
    """Notes who imports torchvision, and fails."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] != "torchvision":
            return
        frame, files = sys._getframe(1), list[str]()
        while frame is not None:
            if "importlib" not in frame.f_code.co_filename:
                files.append(frame.f_code.co_filename)
            frame = frame.f_back
        attempts.append(files)
        raise RuntimeError("operator torchvision::nms does not exist")


ROOMS = ("robustbench_med.attacks", "robustbench_med.models", "robustbench_med.reports")
"""Packages that lie beside `robustbench_med` in a checkout."""


def import_everything() -> list[str]:
    """Imports every module of the package; returns their names."""

    def refuse(name: str) -> None:
        raise ImportError(name)

    names = {"robustbench_med", *ROOMS}
    for name in sorted(names):
        path = importlib.import_module(name).__path__
        names |= {each.name for each in pkgutil.walk_packages(path, f"{name}.", onerror=refuse)}
    names -= {"robustbench_med.cli.__main__"}
    for name in sorted(names):
        importlib.import_module(name)
    return sorted(names)


def use_monai() -> None:
    """Every encoder on an image, and the augmentation."""
    import torch

    from robustbench_med.models import encoders
    from robustbench_med.training.augmentation import augment

    for name in encoders.ENCODERS:
        encoder = encoders.build(name, 1, width=8, image_size=32).eval()
        assert torch.isfinite(encoder(torch.rand(2, 1, 32, 32))).all()
    assert augment(torch.rand(2, 1, 16, 16), "light", 0, 0).shape == (2, 1, 16, 16)


def command(*arguments: str) -> str:
    """What a command line prints; one that fails ends the process."""
    from robustbench_med.cli import program

    said = io.StringIO()
    sys.argv = ["medrobust", *arguments]
    try:
        with contextlib.redirect_stdout(said):
            program.main()
    except SystemExit as end:
        if end.code:
            raise
    return said.getvalue()


def use_commands(folder: Path, engines: tuple[str, ...]) -> None:
    """Help, a data set, a run with each engine, and the page of the results."""
    assert "Usage" in command("--help")
    assert "BreastMNIST" in command("data", "show", "breastmnist")
    small = ["--size", "16", "--limit", "8", "--model-param", "width=4", "--no-challenge"]
    for choice in ("steps=2", "eval_every=2", "batch_size=8"):
        small += ["--recipe", choice]
    out = ["--out", str(folder), "--quiet"]
    for engine in engines:
        asked = ["--attack", "fgsm", "--engine", engine, "--eps", "8/255", "--no-control"]
        command("run", "--model", "late", "--data", "phantoms", *asked, *small, *out)
    assert len(list((folder / "records").glob("*.json"))) == len(engines)
    command("report", "--no-figures", *out)
    assert (folder / "leaderboard.html").stat().st_size > 10_000


def main() -> None:
    sys.meta_path.insert(0, Broken())
    modules = import_everything()
    use_monai()
    from robustbench_med.attacks import ENGINES

    with tempfile.TemporaryDirectory() as folder:
        use_commands(Path(folder), tuple(ENGINES))
    used = [name for name in ("monai", "torchattacks", "art", "foolbox") if name in sys.modules]
    print(json.dumps({"modules": modules, "used": used, "attempts": attempts}))


if __name__ == "__main__":
    main()
