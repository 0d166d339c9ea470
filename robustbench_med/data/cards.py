"""The registry of data sets: one YAML card each, shipped or the user's own."""

from __future__ import annotations

import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from robustbench_med.data import subgroups
from robustbench_med.data.columns import Column, width_of
from robustbench_med.data.fields import Inside, Regex, Tag, nothing, number, once
from robustbench_med.errors import UserError, unknown
from robustbench_med.formats import yaml_file
from robustbench_med.formats.files import door, text_of

CARDS = files(__package__) / "cards"
TOTAL = "total"
Split = Literal["train", "val", "test"]
Resolution = Literal[28, 64, 128, 224]
RESOLUTIONS: tuple[Resolution, ...] = (28, 64, 128, 224)
"""Pixels of a side in MedMNIST's published files."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Strict):
    """The values shown, in the unit of the files after rescaling (CT: Hounsfield units): center -
    width / 2 is black, + white.
    """

    center: float = Field(validation_alias=AliasChoices("center", "centre"), allow_inf_nan=False)
    width: float = Field(gt=0, allow_inf_nan=False)


class Modality(_Strict):
    """One kind of image: a short name (`mri`, `xray`, `ultrasound`) and the channels a reader makes
    of its files. Or a clinical table: a name (`clinic`) and its `columns`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    channels: Annotated[Literal[1, 3] | None, BeforeValidator(number)] = None
    window: Annotated[Window | None, BeforeValidator(nothing)] = None
    """Of NIfTI volumes, which have none of their own, and of grey DICOM, where it goes before the
    file's.
    """
    unit: Literal["HU"] | None = None
    """What the values of NIfTI volumes are, which do not say it: radii may be in it (ct=20HU)."""
    columns: tuple[Column, ...] = ()
    """Of a table, in the order of its coordinates."""
    optional: bool = False
    """Whether some samples lack it: what is missing is black (of a table, all zeros)."""

    @model_validator(mode="after")
    def _image_or_table(self) -> Modality:
        if (self.channels is None) == (not self.columns):
            raise ValueError(f"modality {self.name!r} needs either channels or columns")
        if self.columns and self.window:
            raise ValueError(f"modality {self.name!r} is a table: it has no window")
        if self.columns and self.unit:
            raise ValueError(f"modality {self.name!r} is a table: units are its columns'")
        once(tuple(column.name for column in self.columns), "column")
        return self

    @property
    def depth(self) -> int:
        """Channels of an image, coordinates of a table."""
        return self.channels or width_of(self.columns)


class Task(_Strict):
    """One classification task; class names in label order."""

    name: str = Field(min_length=1, max_length=200)
    classes: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        min_length=2, max_length=10_000
    )

    @field_validator("classes")
    @classmethod
    def _differ(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        return once(classes, "class")


class PhantomReader(_Strict):
    """Drawn by the package. Of `phantoms-paired` a card may have some modalities and tasks."""

    kind: Literal["phantoms", "phantoms-paired"]


class MedMNISTFile(_Strict):
    """Where a file is published, and the md5 published with it."""

    url: str
    md5: str = Field(pattern=r"^[0-9a-f]{32}$")


class MedMNISTReader(_Strict):
    """MedMNIST's npz files, named by their `flag`: breastmnist.npz, breastmnist_64.npz, ..."""

    kind: Literal["medmnist"]
    flag: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    files: dict[Annotated[Resolution, BeforeValidator(number)], MedMNISTFile] = Field(
        default={}, min_length=len(RESOLUTIONS)
    )
    """The published file of each resolution; may be left out where a shipped card bears the flag as
    its id.
    """


class FolderReader(_Strict):
    """Files whose folder or name tells the class.

    A pattern is a path with `*` (anything within one name) and `?`; letter case does not matter.
    """

    kind: Literal["folders"]
    roots: tuple[Inside, ...] = ()
    """Folders of the archive that may lie between the data set's own folder and the splits or
    classes.
    """
    splits: dict[Split, Inside] = {}
    """Folder of each published split; empty where nothing is published."""
    folders: dict[str, str | tuple[str, ...]] = {}
    """Pattern(s) of a class's folder where it is not its name; "." where all share one folder."""
    names: dict[str, str] = {}
    """Pattern of a class's file names where the name tells the class."""
    exclude: tuple[str, ...] = ()
    """Patterns of file names that are no samples."""
    group: Annotated[Regex | None, BeforeValidator(nothing)] = None
    """Searched in the path below the split folder; its bracketed parts name the group. No match:
    the image is its own group.
    """
    tag: Tag | None = None
    """Element of DICOM files that names the group, in place of `group`."""


class RowsOf(_Strict):
    """A CSV file (name pattern) whose column holds numbers of rows, the first being 0."""

    file: str
    column: str


class Table(_Strict):
    """A CSV file (name pattern) and the published split its rows belong to, "" where there is
    none; with `rows` some of its rows.
    """

    file: str
    split: Literal["train", "val", "test", ""] = ""
    rows: RowsOf | None = None


class Parts(_Strict):
    """A column whose values, such as sites or years, say what a row is for."""

    column: str
    train: tuple[str, ...] = Field(min_length=1)
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = Field(min_length=1)

    def of(self, cell: str) -> str | None:
        """The part of a row; None: it belongs to none."""
        return next(
            (part for part in ("train", "val", "test") if cell in getattr(self, part)), None
        )


class TableReader(_Strict):
    """Rows of CSV files that name images, labels and groups; several modalities a row make a paired
    set.

    A template is text with {column} in it; a cell that is a path has the parts of a path:
    {column.parent.name}, {column.parts[0]}.
    """

    kind: Literal["table"]
    tables: tuple[Table, ...] = Field(min_length=1)
    images: dict[str, tuple[str, ...]] = Field(min_length=1)
    """For each modality the templates of its file, tried in order; each the end of a path, `*` and
    `?` allowed.
    """
    labels: dict[str, str | tuple[str, ...]] = {}
    """Column of each task; an empty cell is an unlabelled sample. Or a column a class, in their
    order, of which one holds 1.
    """
    outlines: dict[str, tuple[str, ...]] = {}
    """For tasks of slices, templates of a volume that outlines what is looked for: the second class
    where the slice has any of it.
    """
    cells: dict[str, dict[str, str]] = {}
    """For each clinical table the headers of its columns, where they are not the columns' names."""
    unknown: tuple[str, ...] = ()
    """What cells say of which nothing is known: they are as empty ones."""
    parts: Parts | None = None
    """The column that says which part a row belongs to; rows of none are left out."""
    only: dict[str, str] = {}
    """Rows that are taken: those whose cell of each of these columns is this."""
    values: dict[str, str] = {}
    """Class of a cell's value where the two differ."""
    id: str
    """Template of a sample's id within the set; must be unique."""
    group: Annotated[str | None, BeforeValidator(nothing)] = None
    """Template of the group; a row with an empty cell in it is its own group."""
    tag: Tag | None = None
    """The same of the first of a row's files."""
    slices: tuple[float, ...] = ()
    """For volumes: positions of the axial slices to take, as shares of the height; each slice is a
    sample.
    """


Reader = Annotated[
    PhantomReader | MedMNISTReader | FolderReader | TableReader, Field(discriminator="kind")
]


class Published(_Strict):
    """What a publication reports of a model without a defence, on the published test part.

    Attributes:
        task: name of the card's task; may be left out where the card has one.
        size: pixels of a side.
        accuracy, auc: in [0, 1]; `auc` of several classes is the mean of each against the rest.
        source: publication and table.
    """

    task: str = ""
    model: str
    size: int = Field(gt=0)
    accuracy: float = Field(ge=0, le=1)
    auc: float = Field(ge=0, le=1)
    source: str

    @property
    def result(self) -> str:
        """Model, size and figures in a line."""
        return f"{self.model} at {self.size} px: accuracy {self.accuracy:.3f}, AUC {self.auc:.3f}"


class Card(_Strict):
    """What is known about one data set.

    Attributes:
        twenty: one of the benchmark's twenty (else an extra or the user's own).
        counts: published number of images, a split each, or under "total".
        class_counts: published number of images of each class, over all splits.
        multilabel: whether tasks are findings of two classes that may be rare: AUC judges them.
        split: how samples come into train, val and test, in words.
        published: what publications report, to hold a victim's clean figures against.
        obtain: the steps that get the files, where medrobust cannot fetch them itself.
        tree: what lies below the data set's folder, as published.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str = ""
    description: str = ""
    twenty: bool = False
    modalities: tuple[Modality, ...] = Field(min_length=1)
    tasks: tuple[Task, ...] = Field(min_length=1)
    multilabel: bool = False
    counts: dict[Literal["train", "val", "test", "total"], Annotated[int, Field(ge=0)]] = {}
    class_counts: dict[str, Annotated[int, Field(ge=0)]] = {}
    url: str = ""
    licence: str = ""
    access: str = ""
    citation: str = ""
    obtain: tuple[str, ...] = ()
    tree: tuple[str, ...] = ()
    reader: Reader
    split: str = ""
    published: tuple[Published, ...] = ()
    provenance: str = ""
    known_defects: tuple[str, ...] = ()
    synthetic: bool = False
    subgroups: dict[str, tuple[float, ...]] = {}
    """Columns that figures are parted by (clinic.age, site), and where their bands begin."""

    @property
    def pictures(self) -> tuple[Modality, ...]:
        """The modalities that are images."""
        return tuple(modality for modality in self.modalities if not modality.columns)

    @property
    def images(self) -> int:
        """Published number of samples."""
        return sum(self.counts.values())

    def reference(self, task: str) -> Published | None:
        """The published figure of a task (by name) with the highest AUC; None: there is none."""
        figures = [each for each in self.published if self._task_of(each) == task]
        return max(figures, key=lambda each: each.auc, default=None)

    def _task_of(self, figure: Published) -> str:
        return figure.task or self.tasks[0].name

    @model_validator(mode="after")
    def _figures_of_tasks(self) -> Card:
        for figure in self.published:
            if not figure.task and len(self.tasks) > 1:
                raise ValueError("a published figure must name its task: the card has several")
            if self._task_of(figure) not in {task.name for task in self.tasks}:
                raise ValueError(f"a published figure is of {figure.task!r}, which is no task")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        once(tuple(modality.name for modality in self.modalities), "modality")
        once(tuple(task.name for task in self.tasks), "task")
        subgroups.checked(self)
        if self.multilabel and any(len(task.classes) != 2 for task in self.tasks):
            raise ValueError("multilabel: findings are tasks of two classes")
        if TOTAL in self.counts and len(self.counts) > 1:
            raise ValueError("counts holds either total or one number a split")
        if self.class_counts and set(self.class_counts) != set(self.tasks[0].classes):
            raise ValueError("class_counts must name the classes of the first task")
        if self.class_counts and (found := sum(self.class_counts.values())) != self.images:
            raise ValueError(f"class_counts add up to {found}, counts to {self.images}")
        if isinstance(self.reader, FolderReader):
            more = sorted({*self.reader.folders, *self.reader.names} - {*self.tasks[0].classes})
            if more:
                raise ValueError(f"the reader names classes the task has not: {', '.join(more)}")
            if len(self.modalities) != 1 or len(self.tasks) != 1:
                raise ValueError("a folder reader has one modality and one task")
        if getattr(self.reader, "group", None) and getattr(self.reader, "tag", None):
            raise ValueError("the reader has both group and tag: one of them names the group")
        if isinstance(self.reader, TableReader):
            _check_table(self, self.reader)
        elif not isinstance(self.reader, PhantomReader) and any(
            modality.columns or modality.optional for modality in self.modalities
        ):
            raise ValueError("clinical tables and missing modalities need a table reader")
        return self


def _check_table(card: Card, reader: TableReader) -> None:
    if set(reader.images) != {m.name for m in card.pictures}:
        raise ValueError("the reader's images must name the modalities that are images")
    named = [*reader.labels, *reader.outlines]
    if sorted(named) != sorted(t.name for t in card.tasks):
        raise ValueError("the reader's labels (and outlines) must name the tasks, each once")
    if reader.outlines and not reader.slices:
        raise ValueError("outlines are of slices: name some, such as slices: [0.5]")
    columns = {m.name: {column.name for column in m.columns} for m in card.modalities}
    for name, headers in reader.cells.items():
        if not set(headers) <= columns.get(name, set()):
            raise ValueError(f"the reader's cells name columns that {name!r} has not")
    for task in card.tasks:
        given = reader.labels.get(task.name)
        if (isinstance(given, tuple) and len(given) != len(task.classes)) or (
            task.name in reader.outlines and len(task.classes) != 2
        ):
            raise ValueError(f"task {task.name!r}: a column a class, and two classes of outlines")


def ids() -> list[str]:
    """Ids of the cards shipped, built-in phantoms first."""
    names = sorted(
        path.name.removesuffix(".yaml") for path in CARDS.iterdir() if path.name.endswith(".yaml")
    )
    return sorted(names, key=lambda name: not name.startswith("phantoms"))


def card(name: str) -> Card:
    """A shipped card by id, or the user's own by a path to its YAML file."""
    if name in ids():
        text, origin = (CARDS / f"{name}.yaml").read_text(encoding="utf-8"), f"card {name}"
    elif name.endswith((".yaml", ".yml")):
        with door("the data card", name):
            text, origin = text_of(Path(name)), name
    else:
        raise unknown("data set", name, ids())
    content = yaml_file.loads(
        unicodedata.normalize("NFC", text), "the data card", origin, plain=True
    )  # text as written: no, 1, null
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        found = error.errors()
        absent = [".".join(map(str, e["loc"])) for e in found if e["type"] == "missing"]
        if len(absent) > 1:
            raise UserError(f"{origin}: fields are missing: {', '.join(absent)}") from error
        first = found[0]
        raise UserError(
            f"{origin}: {'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}"
        ) from error
