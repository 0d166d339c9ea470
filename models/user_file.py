"""Models of the user's own: `path/to/file.py:build_fn` wherever a model can be named."""

from __future__ import annotations

import hashlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from robustbench_med.dataspec import shapes
from robustbench_med.models import trial
from robustbench_med.naming import label
from robustbench_med.provenance import source_files

PREFIX = "medrobust_own_"
"""What the modules of users' files are called among Python's."""


@dataclass(frozen=True)
class Own:
    """A function of a user's file: `build(channels, class_counts, **parameters)` makes a victim.

    Attributes:
        label: file name and function, what tables call it; the folder does not matter.
        source_sha256: hash of the file and of the user's files that it imports; part of every
            specification, so that an edited file is another victim.
    """

    build: Callable[..., nn.Module]
    label: str
    path: Path
    source_sha256: str

    def parameters(self) -> dict[str, Any]:
        """Parameters behind the first two, with their defaults (`inspect.Parameter.empty` where
        there is none).
        """
        named = list(inspect.signature(self.build).parameters.values())[2:]
        return {
            p.name: p.default for p in named if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }

    def takes_any(self) -> bool:
        """Whether the function has `**parameters`."""
        return any(
            p.kind is p.VAR_KEYWORD for p in inspect.signature(self.build).parameters.values()
        )


def load(name: str) -> Own:
    """Runs a user's file and finds its function; ValueError in one line when that fails. The file
    is code: it runs as you.

    Args:
        name: `path/to/file.py:function`.
    """
    file, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        raise ValueError(f"{name}: name the function too, as in {name.rstrip(':')}:build")
    path = Path(file)
    try:
        files = source_files.imported(path.resolve())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # a link to itself; no file
        raise ValueError(f"cannot read {path}: {error}") from error
    sha256 = source_files.fingerprint(files)
    module_name = (
        f"{PREFIX}{hashlib.sha256(f'{path.resolve()} {sha256}'.encode()).hexdigest()[:16]}"
    )
    module = sys.modules.get(module_name)
    if module is None:
        trial.tell(
            f"running the code in {path} (sha256 {sha256[:12]}), as you: it may do whatever you may"
        )
        try:
            module = source_files.run(path, files, module_name)  # the very bytes that were hashed
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # `sys.exit()` in a file is no end of the run
            raise ValueError(
                f"{path} cannot be imported: {trial.in_one_line(error, path)}"
            ) from error
    function_of_user = getattr(module, function, None)
    if not callable(function_of_user):
        own = [
            n
            for n, v in vars(module).items()
            if callable(v) and getattr(v, "__module__", "") == module_name
        ]
        raise ValueError(f"{path} has no function {function!r}; it has: {', '.join(own) or 'none'}")
    everything = files | loaded_otherwise(module, files)
    return Own(function_of_user, label(name), path, source_files.fingerprint(everything))


def loaded_otherwise(
    module: types.ModuleType, files: Mapping[str, source_files.Source]
) -> dict[str, source_files.Source]:
    """The user's files behind modules that a module holds but no import statement names, as
    `importlib.util` loads them.
    """
    known = {source.path for source in files.values()}
    others = {}
    for other in vars(module).values():
        if (
            isinstance(other, types.ModuleType)
            and (path := source_files.own_file(vars(other))) is not None
            and path not in known
        ):
            others[other.__name__] = source_files.Source(path, path.read_bytes())
    return others


def build(
    own: Own,
    channels: Sequence[int],
    class_counts: Sequence[int],
    parameters: dict[str, Any],
    *,
    image_size: int,
    tables: Sequence[int] = (),
) -> nn.Module:
    """A fresh victim in evaluation mode that keeps the contract of `robustbench_med.models`;
    ValueError where it does not.

    `n_modalities`, `class_counts` and `stochastic` (False) are filled in where the module lacks
    them; `trial.fit` tries it.
    """
    with trial.blamed("it", own.path, ""):
        victim = own.build(tuple(channels), tuple(class_counts), **parameters)
    if not isinstance(victim, nn.Module):
        raise ValueError(f"it returned {type(victim).__name__}, expected a torch.nn.Module")
    facts: dict[str, Any] = {
        "n_modalities": len(channels),
        "class_counts": tuple(class_counts),
        "stochastic": False,
    }
    for name, value in facts.items():
        said = getattr(victim, name, value)
        said = tuple(said) if isinstance(said, list) else said
        if said != value and name != "stochastic":
            raise ValueError(f"its {name} is {said}, but this data has {value}")
        setattr(victim, name, said)
    if not any(True for _ in victim.parameters()):
        raise ValueError("it has no parameters")
    victim.eval()
    sides = shapes(channels, image_size, tables)
    trial.fit(victim, own.label, own.path, sides, class_counts)
    return victim


def mishap(error: BaseException) -> str | None:
    """An error that came through a user's file in one line, with the file; None where it did
    not.
    """
    files = {m.__file__ for name, m in list(sys.modules.items()) if name.startswith(PREFIX)}
    frames = traceback.extract_tb(error.__traceback__)
    through = [frame.filename for frame in frames if str(Path(frame.filename).resolve()) in files]
    return (
        f"{through[-1]} raised {trial.in_one_line(error, Path(through[-1]))}" if through else None
    )
