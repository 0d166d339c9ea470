"""Radii and other numbers as they are typed: understood exactly, or refused in one line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from robustbench_med.errors import UserError, nearest
from robustbench_med.formats.limits import beyond, limit
from robustbench_med.formats.text import line
from robustbench_med.naming import NORMS, Norm

DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
"""A decimal number in plain digits: no underscores, no words such as nan."""

SMALLEST, LARGEST = 2.0**-126, 2.0**127
"""What the normal numbers of float32, in which images are attacked, hold."""


def number(text: str) -> float:
    """A decimal number to the nearest float; -0 is 0.

    Raises:
        ValueError: another notation, or a number that no float holds; the message goes on after
            "is".
    """
    text = text.strip()
    if not DECIMAL.fullmatch(text) or math.isinf(float(text)):
        raise ValueError("no finite decimal number")
    value = float(text)
    if value == 0 and _positive(text):
        raise ValueError("so small that it would be taken as 0; write 0 if that is meant")
    return value + 0.0


def _positive(text: str) -> bool:
    """Whether the digits of a decimal number hold more than zeros."""
    return re.search("[1-9]", re.split("[eE]", text)[0]) is not None


def parse_number(text: str) -> float:
    """A radius: a finite number >= 0, or a fraction such as 4/255."""
    over, slash, under = text.strip().partition("/")
    expected = (
        "eps must be a number or fraction >= 0 such as 4/255 or 0.03, or in the unit of the files"
        f" such as 4grey, 20HU or 1%, got {text.strip()!r}"
    )
    try:
        value, divisor = number(over), number(under or "1")
        if slash:
            value = float(Fraction(over.strip()) / Fraction(under.strip()))
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"{expected}{f' ({error})' if 'small' in str(error) else ''}") from error
    if value < 0 or divisor < 0 or value > LARGEST:
        raise UserError(expected)
    if value < SMALLEST and _positive(over):
        raise UserError(
            f"{expected} (so small that images in float32 would not change; write 0 if that is"
            " meant)"
        )
    return value


UNIT = re.compile(rf"\s*(?P<size>{DECIMAL.pattern})\s*(?P<unit>grey|gray|HU|%)\s*", re.ASCII)
"""A radius in the unit of a file: grey levels as they are stored, Hounsfield units, or percent of
the image's own range.
"""


def in_units(text: str) -> dict[str, tuple[float, str]]:
    """The radii of `xray=4grey,ct=20HU,mri=1%` by modality, with their unit; of `4grey` under the
    empty name. Those for pixels in [0, 1] are `named`'s.
    """
    found = {}
    for name, value in _by_name(text).items():
        if (match := UNIT.fullmatch(value)) is not None:
            size = parse_number(match["size"])
            found[name] = (size, match["unit"].replace("gray", "grey"))
    return found


def named(text: str) -> dict[str, float]:
    """The radii of `mri=4/255,xray=0` by modality, of `4/255` under the empty name; those in units
    of files are `in_units`'s.
    """
    return {
        name: parse_number(value)
        for name, value in _by_name(text).items()
        if UNIT.fullmatch(value) is None
    }


def _by_name(text: str) -> dict[str, str]:
    """What `mri=4/255,xray=0` says by modality; of `4/255` under the empty name."""
    if "=" not in text:
        return {"": text}
    radii: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name or not equals:
            raise UserError(
                f"eps {text!r}: expected MODALITY=RADIUS such as mri=4/255,xray=0, got"
                f" {part.strip()!r}"
            )
        if name in radii:
            raise UserError(
                f"eps {text!r} names the modality {name!r} twice; expected each once, such as"
                " mri=4/255,xray=0"
            )
        radii[name] = value
    return radii


def parse_radii(
    text: str, modalities: Sequence[str], trusted: Sequence[str] = (), *, units: bool = False
) -> tuple[float, ...]:
    """Radius of each modality from `4/255`, `0.03` or `mri=4/255,xray=0` (modalities left out are
    trusted: radius 0).

    Args:
        trusted: modalities that are clinical tables: one radius for all leaves them as they are.
            Bounds of their columns (`clinic.age=5`) are `columns_of`'s.
        units: whether some may be in the unit of files; they are `in_units`'s, and 0 here.
    """
    radii, own = named(text), in_units(text)
    if own and not units:
        raise UserError(f"eps {text!r}: units of files mean nothing here; write radii in 0..1")
    if "" in radii:
        return tuple(0.0 if name in trusted else radii[""] for name in modalities)
    for name in (*radii, *filter(None, own)):
        modality = name.partition(".")[0]
        if name in own and modality in trusted:
            raise UserError(
                f"eps {text!r}: {modality} is a clinical table; bound its columns, each by a number"
                f" in its own unit, such as {modality}.age=5"
            )
        if modality not in modalities:
            raise UserError(
                f"eps {text!r} names the modality {name!r}; this data has: {', '.join(modalities)}"
            )
        if modality != name and modality not in trusted:
            raise UserError(f"eps {text!r}: {modality} is no clinical table, it has no columns")
        if modality == name and name in trusted and radii.get(name):
            raise UserError(
                f"eps {text!r}: {name} is a clinical table; bound its columns, each in its own"
                f" unit, such as {name}.age=5, or the number of categorical ones that may change,"
                f" {name}.flips=1"
            )
    return tuple(radii.get(name, 0.0) for name in modalities)


def columns_of(text: str, table: str) -> dict[str, float]:
    """The bounds that `clinic.age=5,clinic.flips=1` sets on the columns of a table, by column."""
    return {
        column: value
        for name, value in named(text).items()
        if name.partition(".")[0] == table and (column := name.partition(".")[2])
    }


def norm_of(text: str) -> tuple[Norm | None, str]:
    """The norm that radii are for, where they name one, and the radii: of `L2:0.5` L2 and 0.5.

    Raises:
        UserError: a prefix that is no norm.
    """
    prefix, colon, radii = text.partition(":")
    if not colon:
        return None, text.strip()
    for norm in NORMS:
        if prefix.strip() == norm:
            return norm, radii.strip()
    raise UserError(
        f"eps {text.strip()!r}: expected NORM:RADIUS with one of {', '.join(NORMS)}, such as L2:0.5"
    )


def split_radii(options: Sequence[str]) -> list[str]:
    """What `--eps` was given, as a list of radii: `1/255,2/255` are two, `mri=4/255,xray=0` is one.
    A norm before a radius holds for those behind it too, until another: `L2:0.5,1` are `L2:0.5` and
    `L2:1`. An empty one is a UserError.
    """
    parts: list[str] = []
    for text in options:
        named_norm = None
        for part in [text] if "=" in text else text.split(","):
            norm, radius = norm_of(part)
            named_norm = norm or named_norm
            parts.append(f"{named_norm}:{radius}" if named_norm and radius else radius)
    if not all(parts):
        given = next(t for t in options if not all(norm_of(part)[1] for part in t.split(",")))
        raise UserError(
            f"eps {given!r} holds an empty radius; expected radii such as 4/255 or 1/255,4/255"
        )
    return parts


def canonical(text: str) -> str:
    """The same radii in one notation, so that equal ones have equal text: `0.0156862745...` is
    `4/255`, modalities by name, the norm first where one is named.
    """
    norm, text = norm_of(text)
    written = {name: _written(value) for name, value in named(text).items()}
    written |= {name: unit_label(*radius) for name, radius in in_units(text).items()}
    return (f"{norm}:" if norm else "") + ",".join(
        f"{name}={value}" if name else value for name, value in sorted(written.items())
    )


def unit_label(size: float, unit: str) -> str:
    """A radius in the unit of files: `4grey`."""
    return f"{repr(size).removesuffix('.0')}{unit}"


def _written(value: float) -> str:
    """`k/255` where the radius is exactly this float, else its shortest decimal notation."""
    levels = round(value * 255) if value < 1 else 0
    if levels and levels / 255 == value:
        return f"{levels}/255"
    return repr(value).removesuffix(".0")


def radii_under(texts: Sequence[str], norm: Norm) -> list[str]:
    """Which of these radii are for a norm: those that name it, else those that name none."""
    parted = [norm_of(text) for text in texts]
    own = [radius for named_norm, radius in parted if named_norm == norm]
    return own or [radius for named_norm, radius in parted if named_norm is None]


def check_whole(text: str, counts: str) -> None:
    """Refuses (UserError) L0 radii that are no whole numbers."""
    if any(value != round(value) for value in named(text).values()):
        raise UserError(
            f"eps {text}: an L0 radius is a whole number of {counts} that may change, such as 10"
        )


def as_texts(value: object) -> list[str]:
    """Radii of a run file or of Python, as `--eps` takes them: one, a list of some, or a mapping
    from norms to one or several.
    """
    if isinstance(value, Mapping) and value and set(value) <= set(NORMS):
        return [f"{norm}:{text}" for norm, radii in value.items() for text in as_texts(radii)]
    return [as_text(each) for each in (value if isinstance(value, list | tuple) else [value])]


def as_text(value: object) -> str:
    """A radius as `--eps` takes it: a number, a text, or a mapping from modalities to radii."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={as_text(radius)}" for name, radius in value.items())
    return str(value)


def check_radius(text: str, norm: Norm, counts: str, *, whole_range: bool) -> None:
    """Refuses (UserError) radii that make no sense under their norm.

    Args:
        counts: what L0 counts.
        whole_range: whether Linf radii may be above 1.
    """
    if norm != "Linf" and in_units(text):
        raise UserError(
            f"eps {text}: units of files bound each pixel by itself, as Linf does; under {norm}"
            " write radii for pixels in 0..1"
        )
    if norm == "Linf" and not whole_range:
        check_range(text, "eps")
    if norm == "L0":
        check_whole(text, counts)


def check_range(text: str, what: str) -> None:
    """Refuses (UserError) Linf radii above 1, the range of a pixel: 8 was meant to be 8/255."""
    for name, value in named(text).items():
        if value > 1 and "." not in name:
            meant = (
                f"; did you mean {_written(value)}/255?"
                if 1.5 <= value <= 255
                else "; pixels lie in 0..1."
            )
            raise UserError(
                f"{what} {text}: a Linf radius above 1 is more than the whole range of a"
                f" pixel{meant} --whole-range (whole_range: true) takes it as it stands"
            )


def whole_range(texts: Sequence[str]) -> Iterator[str]:
    """A sentence for each of these Linf radii whose ball holds every image."""
    for text in texts:
        names = [
            name or "every modality"
            for name, value in named(text).items()
            if value >= 1 and "." not in name
        ]
        if names:
            yield (
                f"eps {text} (Linf): the ball holds every image of {', '.join(names)}; nothing but"
                " a constant can withstand there"
            )


Spec = TypeVar("Spec", bound=BaseModel)


def within(name: str) -> AfterValidator:
    """Refuses a number above the limit of this name."""

    def check(value: int | None) -> int | None:
        if value is not None and value > limit(name):
            raise ValueError(beyond(name, value))
        return value

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1), within("count")]
"""A number of things that are done, within the limit of any."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What random numbers start from."""


STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
"""How specifications are read: unknown fields and numbers that are none are refused, and nothing is
changed afterwards.
"""


def whole_numbers(text: str, option: str) -> list[int]:
    """Positive whole numbers, comma-separated."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,18}", part, re.ASCII) and int(part) > 0 for part in parts):
        raise UserError(f"{option} takes positive whole numbers, comma-separated, got {text!r}")
    return list(map(int, parts))


def positive_numbers(text: str, option: str) -> list[float]:
    """Positive finite numbers, comma-separated."""
    try:
        numbers = [number(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) <= 0:
        raise UserError(
            f"{option} takes positive numbers, comma-separated, such as 0.12,0.25; got {text!r}"
        )
    return numbers


def pairs(texts: Sequence[str], option: str) -> dict[str, str] | None:
    """What `key=value,key=value` says by key; a comma that no key follows is part of the value.
    None: nothing.
    """
    found: dict[str, str] = {}
    for part in (part for text in texts for part in re.split(r",(?=\s*\w+\s*=)", text)):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UserError(f"{option} takes key=value,key=value, got {part.strip()!r}")
        found[key] = value
    return found or None


MISSING = {"model": "name a victim, as --model late does; `medrobust models` lists them"}
"""What to do where a field is missing."""


def validate(kind: type[Spec], values: Mapping[str, Any], what: str) -> Spec:
    """Builds a spec; the first fault becomes one line (UserError) that names the field and lists
    the known ones.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"{what}: unknown field {name!r}; {nearest(name, kind.model_fields)}"
            ) from error
        if first["type"] == "missing":
            hint = f": {MISSING[name]}" if name in MISSING else ""
            raise UserError(f"{what}: {name} is missing{hint}") from error
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{what}: {name}: {said} (got {line(repr(first['input']))})"
            if name
            else f"{what}: {said}"
        ) from error
