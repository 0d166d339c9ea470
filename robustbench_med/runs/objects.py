"""Objects in place of names: networks, data, attacks, losses and defences that a call is given are
registered under names for as long as it lasts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from robustbench_med.attacks import LOSSES
from robustbench_med.data import GIVEN, Dataset, GivenData, data_of, is_data
from robustbench_med.data.arrays import FORMS
from robustbench_med.errors import UserError
from robustbench_med.models.black_box import Unasked
from robustbench_med.models.given import left_as_it_was
from robustbench_med.models.registry import network_of
from robustbench_med.naming import is_box
from robustbench_med.provenance import code
from robustbench_med.runs.registration import forget, kind_of_defense, put
from robustbench_med.runs.victim_plans import victim_on

OF_FILES = ("size", "preprocessing", "folds", "fold")
"""Fields that mean nothing for data which are there as arrays."""
SMOOTHED = "input-noise"
"""Defence of `certify` where none is asked for: the only noise that is not trained with."""
Asked = dict[str, Any]


@contextlib.contextmanager
def named(
    asked: Mapping[str, Any], command: str, *, name: str | None = None, version: str | None = None
) -> Iterator[Asked]:
    """Inside, what was asked for with a name in the place of each object; networks are in
    evaluation mode. Afterwards all is as before.

    Args:
        asked: fields of a specification. `model`, `source`, `attack`, `defense` and `data` may be
            an object, a list of names and objects, or a mapping from names to objects; so may the
            parameter `loss` in `attack_params`.
        command: whose specification the fields are of, such as "run".
        name: of the one network that is an object.
        version: the user's word for the networks' code, and for that of other objects which cannot
            be seen.

    Raises:
        UserError: objects of other kinds, or without a name.
    """
    with contextlib.ExitStack() as stack:
        hands = _Hands(stack, version)
        fields = dict(asked)
        for field in ("model", "source"):
            if field in fields:
                own = name if field == "model" else None
                fields[field] = hands.each(fields[field], field, hands.network, own)
        for field, take in (("attack", hands.attack), ("defense", hands.defense)):
            if field in fields:
                fields[field] = hands.each(fields[field], field, take)
        if "data" in fields:
            fields["data"] = hands.data(fields["data"])
        if "attack_params" in fields:
            fields["attack_params"] = hands.losses(fields["attack_params"])
        if name is not None and not hands.networks:
            raise UserError(
                "name= is what a network of yours is called; the model is a name already"
            )
        _completed(fields, asked, command, hands)
        yield fields


def _completed(fields: Asked, asked: Mapping[str, Any], command: str, hands: _Hands) -> None:
    """Defaults that are others where objects are given."""
    if hands.networks and "data" not in asked:
        raise UserError(f"data= is missing: what the model is attacked on; {FORMS}")
    if hands.given:
        for field in OF_FILES:
            if asked.get(field) not in (None, []) and len(hands.given) == len(fields["data"]):
                raise UserError(f"{field}= is for data of files; arrays are taken as they are")
        if command not in ("diagnose", "train"):
            fields.setdefault("limit", 0)
    if hands.networks and command == "certify":
        fields.setdefault("defense", [SMOOTHED])
    for key in hands.given:
        for network in hands.networks:
            data = GIVEN[key]
            if isinstance(data, GivenData):
                GIVEN[key] = data.with_classes(victim_on(network, data).class_counts)


class _Hands:
    """What is registered for a call, and given back at its end."""

    def __init__(self, stack: contextlib.ExitStack, version: str | None) -> None:
        self.stack, self.version = stack, version
        self.networks: list[nn.Module] = []
        self.given: list[str] = []
        self.taken: dict[tuple[str, str], Any] = {}
        """Attacks and defences, by field and name."""

    def each(
        self,
        value: Any,
        field: str,
        take: Callable[[Any, str | None], str],
        name: str | None = None,
    ) -> list[Any]:
        """Names in place of objects, one of them or several."""
        if isinstance(value, Mapping):
            pairs: list[tuple[str | None, Any]] = [
                (str(key), thing) for key, thing in value.items()
            ]
        else:
            several = isinstance(value, list | tuple)
            pairs = [(name, thing) for thing in (value if several else [value])]
        if name is not None and sum(not isinstance(thing, str) for _, thing in pairs) > 1:
            raise UserError(
                f"name= is for one {field}; several have names in {field}={{'name': object, ...}}"
            )
        return [
            self.known(thing, field) if isinstance(thing, str) else take(thing, own)
            for own, thing in pairs
        ]

    def known(self, name: str, field: str) -> str:
        """A name; a network that was registered under it is as it is now."""
        if is_box(name):  # made of its contract anew
            return name
        given = network_of(name) if field in ("model", "source") else None
        if given is not None:
            self.stack.enter_context(left_as_it_was(given.network))
            self.networks.append(given.network)
            put("model", name, given.network, version=given.version)
        return name

    def network(self, thing: Any, name: str | None) -> str:
        """A network of the user's."""
        if not isinstance(thing, nn.Module):
            raise UserError(f"model: expected a name or a torch.nn.Module, got {_kind_of(thing)}")
        of_box = thing.device.name if isinstance(thing, Unasked) else None
        called = name or of_box or type(thing).__name__
        known = network_of(called)
        if not any(thing is other for other in self.networks):
            self.stack.enter_context(left_as_it_was(thing))
            self.networks.append(thing)
        elif known is not None and known.network is thing:
            return called
        self._register("model", called, thing)
        return called

    def attack(self, thing: Any, name: str | None) -> str:
        """A function of the user's."""
        if not callable(thing) or isinstance(thing, type | nn.Module):
            raise UserError(
                "attack: expected a name or a function (view, x, y, threat, streams, *,"
                f" parameters) -> x_adv, got {_kind_of(thing)}"
            )
        called = name or _name_of(thing, "attack")
        self._once("attack", called, thing, thing)
        return called

    def defense(self, thing: Any, name: str | None) -> str:
        """A module or function in front of the network, or a class that makes one or trains."""
        kind, build = kind_of_defense(thing)
        if isinstance(thing, nn.Module):
            self.stack.enter_context(left_as_it_was(thing))
        called = name or (
            type(thing).__name__ if isinstance(thing, nn.Module) else _name_of(thing, "defense")
        )
        self._once(kind, called, thing, build)
        return called

    def loss(self, thing: Any, name: str | None = None) -> str:
        """A function of the user's that attacks ascend."""
        if not callable(thing):
            raise UserError(f"loss: expected a name or a function, got {_kind_of(thing)}")
        called = name or _name_of(thing, "loss")
        if LOSSES.get(called) is not thing:
            self._register("loss", called, thing)
        return called

    def losses(self, params: Any) -> Any:
        """Parameters of attacks with names in place of losses."""
        if not isinstance(params, Mapping):
            return params
        return {
            key: self.losses(value)
            if isinstance(value, Mapping)
            else self.loss(value)
            if callable(value) and str(key).rpartition(".")[2] == "loss"
            else value
            for key, value in params.items()
        }

    def data(self, value: Any) -> list[Any]:
        """Names of data sets in place of objects."""
        if is_data(value):
            return [self.one_data(value, None)]
        if isinstance(value, Mapping):
            return [
                thing if isinstance(thing, str) else self.one_data(thing, str(key))
                for key, thing in value.items()
            ]
        several = value if isinstance(value, list | tuple) else [value]
        return [each if isinstance(each, str) else self.one_data(each, None) for each in several]

    def one_data(self, thing: Any, name: str | None) -> str:
        """A data set that is there as an object; one of `load_data` stays what its name says."""
        if not is_data(thing):
            raise UserError(f"data: expected a name, or {FORMS}; got {_kind_of(thing)}")
        data: Dataset = data_of(thing, name)
        self._register("dataset", data.name, data)
        self.given.append(data.name)
        return data.name

    def _once(self, kind: str, name: str, thing: Any, made: Any) -> None:
        """Under a name, unless this very thing stands there already."""
        if self.taken.get((kind, name)) is not thing:
            self._register(kind, name, made)
            self.taken[kind, name] = thing

    def _register(self, kind: str, name: str, thing: Any) -> None:
        """Under a name until the end of the call."""
        if self.version is not None and kind not in ("model", "dataset"):
            try:
                code.code_of(thing, f"{kind} {name!r}")
            except UserError:
                code.declare(thing, self.version)
                self.stack.callback(code.declare, thing, None)
        before = put(kind, name, thing, version=self.version, temporary=True)
        self.stack.callback(forget, kind, name, before)


def _name_of(thing: Any, field: str) -> str:
    """What a function or class is called."""
    name = getattr(thing, "__name__", None) or "<nameless>"
    if name.startswith("<"):
        raise UserError(
            f"{field}: a function without a name; give it one, {field}={{'mine': function}}"
            if field != "loss"
            else "loss: a function without a name; define it with def, or register it"
        )
    return str(name).lstrip("_")


def _kind_of(thing: Any) -> str:
    """What an object is, in a few words."""
    if inspect.isfunction(thing) or isinstance(thing, functools.partial):
        return "a function"
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__
