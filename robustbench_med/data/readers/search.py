"""Finding the files that the rows of a table name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from robustbench_med.data.readers.files import Found, composed, is_image, is_other, pattern
from robustbench_med.errors import UserError

LAST = "\U0010ffff"
Index = list[tuple[str, int]]
"""Parts of paths, sorted, each with the number of a file that has it."""


class Search:
    """Finds an image by the end of its path; `*` and `?` allowed, letter case as the files have it,
    accents written either way.
    """

    def __init__(self, base: Path, files: Sequence[Found]) -> None:
        """`files` below `base`, as `walk` lists them."""
        self.base = base
        self.bases = (f"{base.as_posix()}/", f"{base.resolve().as_posix()}/")
        self.files = [file for file in files if not is_other(file.name)]
        self.paths = [composed(file.name) for file in self.files]
        parts = [path.split("/") for path in self.paths]
        self.names: Index = sorted((part[-1], i) for i, part in enumerate(parts))
        self.folders: Index = sorted(
            (folder, i) for i, part in enumerate(parts) for folder in {*part[:-1]}
        )

    def find(self, end: str, template: str, where: str) -> Found | None:
        """The file whose path has an end, made of a template; None where none has.

        A path that is such an end as a whole goes before one that only ends so.

        Raises:
            UserError: several different files fit equally well.
        """
        fitting = self._fitting(end)
        different = {self._identity(file): file for file in fitting} if len(fitting) > 1 else {}
        if len(different) > 1:
            raise _ambiguous(end, template, where, list(different.values()))
        return fitting[0] if fitting else None

    def example(self) -> str:
        """An image that is there, for a message."""
        name = next((file.name for i, file in enumerate(self.files) if self._is_image(i)), None)
        return (
            "there is no image"
            if name is None
            else (
                f"an image that is there: {name}; the template may take parts of a cell,"
                " {cell.name}"
            )
        )

    def candidates(self, end: str) -> list[int]:
        """Numbers of the files that may end so, by the part of the end that fewest have; in the
        order of the files.
        """
        *folders, name = end.split("/")
        start, stop = _between(self.names, name)
        fewest = self.names[start:stop]
        for folder in folders:
            start, stop = _between(self.folders, folder)
            if stop - start < len(fewest):
                fewest = self.folders[start:stop]
        return sorted({i for _, i in fewest})

    def relative(self, end: str) -> str:
        """The end of a path without what leads to the data set's folder: "./", "../", and the
        folder itself.
        """
        for base in self.bases:
            end = end.removeprefix(base)
        while end.startswith(("./", "../")):
            end = end.partition("/")[2]
        return end

    def _fitting(self, end: str) -> list[Found]:
        """The images that fit an end best: as a whole path, then with accents written as in the
        end.
        """
        end = self.relative(end)
        wanted = composed(end)
        claims = {
            i: claim
            for i in self.candidates(wanted)
            if (claim := _claim(self.paths[i], wanted)) and self._is_image(i)
        }
        highest = max(claims.values(), default=0)
        best = [i for i, claim in claims.items() if claim == highest]
        exact = [i for i in best if len(best) > 1 and _claim(self.files[i].name, end)]
        return [self.files[i] for i in exact or best]

    def _is_image(self, i: int) -> bool:
        return is_image(self.base / self.files[i].name)

    def _identity(self, file: Found) -> object:
        """Equal for names of one file."""
        try:
            status = (self.base / file.name).stat()
        except OSError:
            return file.name
        return status.st_dev, status.st_ino


def _claim(path: str, end: str) -> int:
    """2 where a path is an end as a whole, 1 where it ends so, else 0."""
    if not re.search(r"[*?]", end):
        return 2 if path == end else int(path.endswith(f"/{end}"))
    match = re.fullmatch(f"(.*/)?{pattern(end)}", path)
    if match is None:
        return 0
    return 1 if match[1] else 2


def _ambiguous(end: str, template: str, where: str, files: list[Found]) -> UserError:
    folders = dict.fromkeys(file.name.rpartition("/")[0].rpartition("/")[2] for file in files)
    advice = " or ".join(repr(f"{folder}/{template}") for folder in list(folders)[:2] if folder)
    return UserError(
        f"{where}: {end!r} fits {len(files)} files, {files[0].name} and {files[1].name}; say which"
        f" in the card's template {template!r}: "
        + (f"with the folder, {advice}" if len(folders) > 1 else "with more of the name")
    )


def _between(index: Index, part: str) -> tuple[int, int]:
    """Where the parts lie that may match a pattern, to judge by what it has before its first `*` or
    `?`.
    """
    literal = re.split(r"[*?]", part, maxsplit=1)[0]
    return bisect_left(index, (literal,)), bisect_left(
        index, (literal + (LAST if literal != part else "\0"),)
    )
