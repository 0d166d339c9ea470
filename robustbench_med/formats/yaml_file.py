"""The door of YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from robustbench_med.formats.files import door, text_of
from robustbench_med.formats.limits import beyond, limit


def load(path: Path, what: str) -> Any:
    """The content of a YAML file of a user's; UnreadableError."""
    with door(what, path):
        return _loaded(text_of(path), yaml.SafeLoader)[0]


def loads(text: str, what: str, name: object, *, plain: bool = False) -> Any:
    """The content of YAML text; UnreadableError.

    Args:
        what: what it is, as in "the data card".
        name: of its file, or of what holds it.
        plain: all values as the text that is written: `no` is no false.
    """
    with door(what, name):
        return _loaded(text, yaml.BaseLoader if plain else yaml.SafeLoader)[0]


def load_mapping(path: Path, what: str) -> tuple[dict[Any, Any], list[str]]:
    """The mapping that a YAML file holds, and its keys as they stand there; UnreadableError."""
    with door(what, path):
        loaded, node = _loaded(text_of(path), yaml.SafeLoader)
        if not isinstance(loaded, dict) or not isinstance(node, yaml.MappingNode):
            raise ValueError("it must hold a mapping such as 'model: [mail, late]'")
        return loaded, [str(key.value) for key, _ in node.value]


def _loaded(text: str, kind: Any) -> tuple[Any, yaml.Node | None]:
    loader = kind(text)
    try:
        _check_depth(text, kind)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _size(node, {}, ())
        return loader.construct_document(node), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"{where}{said}") from error
    finally:
        loader.dispose()


def _check_depth(text: str, kind: Any) -> None:
    """Looks at the events alone, which takes no recursion."""
    depth = 0
    deepest, most = limit("depth"), limit("yaml_values")
    for values, event in enumerate(yaml.parse(text, Loader=kind)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > deepest:
            raise ValueError(f"it has {beyond('depth', depth)}")
        if values > most:
            raise ValueError(f"it holds {beyond('yaml_values', values)}")


def _size(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values below a node, aliases written out."""
    if id(node) in above:
        raise ValueError("an alias stands for what holds it")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_size(each, known, (*above, id(node))) for each in inner)
        if known[id(node)] > limit("yaml_values"):
            raise ValueError(f"it holds {beyond('yaml_values', known[id(node)])}")
    return known[id(node)]
