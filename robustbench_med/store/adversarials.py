"""The attacked images of whole records, kept on request: `adversarials/<hash>.npz` in a folder of
records, or a PNG an image and modality in `adversarials/<hash>/`.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustbench_med.errors import UserError
from robustbench_med.naming import Keep
from robustbench_med.paths import write_atomically
from robustbench_med.store.belief import HASH_LENGTH

FOLDER = "adversarials"
Images = Mapping[str, NDArray[np.float32]]
"""By modality (n, C, H, W) in [0, 1]."""


def keep(
    out: Path, record: str, images: Images, ids: Sequence[str], attacked: Sequence[int], how: Keep
) -> None:
    """Writes all images of a record.

    Args:
        out: folder of the store.
        record: its hash.
        ids: (n,) of its samples.
        attacked: rows that were attacked; the others are as they were.
        how: "all" or "png".
    """
    if how == "png":
        for name, stack in images.items():
            for row, image in enumerate(stack):
                file = f"{row:05d}-{_safe(ids[row])}-{_safe(name)}.png"
                picture = _picture(image, name)
                write_atomically(
                    _pictures(out, record) / file,
                    lambda path, picture=picture: picture.save(path, "PNG"),  # type: ignore[misc]
                )
        return
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.array(ids),
        "attacked": np.array(attacked, np.int64),
        **{f"images_{m}": stack for m, stack in enumerate(images.values())},
    }

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomically(_arrays(out, record), write)


def is_kept(out: Path, record: str, how: Keep) -> bool:
    """Whether all images of a record were written this way."""
    return _pictures(out, record).is_dir() if how == "png" else _arrays(out, record).is_file()


def kept(out: Path, record: str, modalities: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """All images of a record by modality, (n, C, H, W) in [0, 1].

    Raises:
        UserError: they were not kept as npz, or cannot be read.
    """
    path = _arrays(out, record)
    if not path.is_file():
        where = f"; its PNGs lie in {_pictures(out, record)}" if is_kept(out, record, "png") else ""
        raise UserError(
            f"the adversarials of record {record[:8]} were not kept as arrays{where}; evaluate with"
            " keep='all' (--keep all)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[f"images_{m}"] for m, name in enumerate(modalities)}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and evaluate again") from error


def _picture(image: NDArray[np.float32], name: str) -> Image.Image:
    levels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(levels) not in (1, 3):
        raise UserError(
            f"a PNG has one channel or three, images of {name} have {len(levels)}; keep them as npz"
            " (keep='all')"
        )
    return Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))


def _safe(text: str) -> str:
    """A part of a file's name without what a path minds."""
    return re.sub(r"[^\w.-]", "_", text)[-60:]


def _arrays(out: Path, record: str) -> Path:
    return out / FOLDER / f"{record[:HASH_LENGTH]}.npz"


def _pictures(out: Path, record: str) -> Path:
    return out / FOLDER / record[:HASH_LENGTH]
