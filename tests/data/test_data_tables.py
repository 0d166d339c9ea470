"""Tables as the clinic has them: odd rows, paths of other systems, names that fit two files or have
a star.
"""

from pathlib import Path

import numpy as np
import pytest
from support.readers import CLASSES, opened, put, rows_of, table

from robustbench_med.data.readers.files import Found
from robustbench_med.data.readers.search import Search
from robustbench_med.errors import UserError


def test_one_comma_too_many_at_the_end_of_every_row_is_nothing(tmp_path: Path) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    plain = opened(table(tmp_path, rows_of()))
    for text in (
        rows_of(end=","),
        rows_of(end=",,, "),
        rows_of()
        .replace("label\n", "label,\n")
        .replace("well\n", "well,\n")
        .replace("sick\n", "sick,\n"),
    ):
        found = opened(table(tmp_path, text))
        assert (found.ids, found.labels.tolist()) == (plain.ids, plain.labels.tolist())


@pytest.mark.parametrize("text", [
    "\ufeff{}", "{}\n\n", "{},\n , \n", "{}\r\n",
])  # fmt: skip
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_byte_order_marks_empty_rows_and_other_separators_are_read(
    tmp_path: Path, text: str, mark: str
) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    source = opened(table(tmp_path, text.format(rows_of().rstrip("\n")).replace(",", mark)))
    assert len(source.ids) == 20
    assert source.labels[:, 0].tolist() == [
        int(sample.split("i")[1].split(".")[0]) % 2
        for sample in (s.rpartition("/")[2] for s in source.ids)
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("i3.png", r"labels\.csv: line 5 has 1 cells, the header 2 columns \(image, label\)"),
        ("i3.png,well,extra", "line 5 has 3 cells, the header 2 columns"),
        ("3,i3.png,well", "line 5 has 3 cells"),
        ('"i3.png,well', "labels.csv: line"),
        ("i3.png,w\udcffll", "not UTF-8"),
    ],
)
def test_a_row_that_does_not_fit_is_named_in_one_line(
    tmp_path: Path, row: str, message: str
) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    path = table(tmp_path, "")
    lines = rows_of().splitlines()
    lines[4] = row
    (tmp_path / "scans/labels.csv").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_a_line_is_counted_where_a_cell_holds_one(tmp_path: Path) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    text = rows_of().replace("i1.png,", '"i1.png\n",') + "i2.png,well,more\n"
    with pytest.raises(UserError, match="line 23 has 3 cells"):
        opened(table(tmp_path, text))


@pytest.mark.parametrize(
    "cell",
    [
        "images\\i{i}.png",
        ".\\images\\i{i}.png",
        "./images/i{i}.png",
        "../images/i{i}.png",
        "images//i{i}.png",
        "{base}/images/i{i}.png",
    ],
)
def test_paths_of_other_systems_are_read(tmp_path: Path, cell: str) -> None:
    for i in range(20):
        put(tmp_path, f"images/i{i}.png", 10 * i)
        put(tmp_path, f"masks/i{i}.png", 250)
    text = rows_of(image=cell.replace("{base}", str(tmp_path / "scans")))
    source = opened(
        table(tmp_path, text, "images: {xray: ['{image}']}, labels: {t: label}, id: '{image.name}'")
    )
    for row, sample in enumerate(source.ids):
        assert (
            abs(
                source.images[0][np.array([row])].mean()
                - 10 * int(sample.split("/i")[1].split(".")[0])
            )
            <= 2
        )


@pytest.mark.parametrize(
    "cell", ["/data/elsewhere/i{i}.png", "C:\\data\\i{i}.png", "other/i{i}.png", "i{i}.dcm"]
)
def test_where_nothing_is_found_both_sides_are_shown(tmp_path: Path, cell: str) -> None:
    for i in range(20):
        put(tmp_path, f"images/i{i}.png")
    with pytest.raises(UserError, match="none of the images they name") as caught:
        opened(table(tmp_path, rows_of(image=cell)))
    assert f"labels.csv line 2 looks for '{cell.format(i=0)}'".replace("\\", "/") in str(
        caught.value
    )
    assert "an image that is there: images/i0.png" in str(caught.value)
    read_by_name = "images: {xray: ['{image.stem}.png']}, labels: {t: label}, id: '{image}'"
    assert len(opened(table(tmp_path, rows_of(image=cell), read_by_name)).ids) == 20


def test_rows_without_a_file_are_counted_with_what_was_looked_for(tmp_path: Path) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png")
    source = opened(table(tmp_path, rows_of(22) + ",well\n"))
    assert any(
        "3 rows without their files: i20.png, i21.png, ; labels.csv line 22 looks for 'i20.png'"
        in note
        for note in source.notes
    )


# names that fit twice, stars


@pytest.mark.parametrize("template", ["{image}", "{image.stem}.*", "{image.stem}*.png"])
@pytest.mark.parametrize("other", ["annotations", "Ground Truth", "images/deep"])
def test_a_name_that_fits_two_files_is_refused_and_told_apart_by_the_folder(
    tmp_path: Path, other: str, template: str
) -> None:
    for i in range(10, 30):
        put(tmp_path, f"images/i{i}.png", i)
        put(tmp_path, f"{other}/i{i}.png", 200)
    text = "image,label\n" + "".join(f"i{i}.png,{CLASSES[i % 2]}\n" for i in range(10, 30))
    reader = "images: {{xray: ['{}']}}, labels: {{t: label}}, id: '{{image}}'"
    with pytest.raises(UserError, match="fits 2 files") as caught:
        opened(table(tmp_path, text, reader.format(template)))
    message = str(caught.value)
    assert all(
        part in message
        for part in (
            "images/i10.png",
            f"{other}/i10.png",
            f"'images/{template}'",
            "labels.csv line 2",
        )
    )
    source = opened(table(tmp_path, text, reader.format(f"images/{template}")))
    assert source.images[0][np.arange(20)].mean() < 40


def test_a_path_that_fits_as_a_whole_and_two_names_of_one_file_are_not_ambiguous(
    tmp_path: Path,
) -> None:
    for i in range(20):
        put(tmp_path, f"i{i}.png", i)
        put(tmp_path, f"masks/i{i}.png", 200)
    assert opened(table(tmp_path, rows_of())).images[0][np.arange(20)].mean() < 40
    for i in range(20):
        (tmp_path / f"scans/i{i}.png").unlink()
        (tmp_path / "scans/again").mkdir(exist_ok=True)
        (tmp_path / f"scans/again/i{i}.png").symlink_to(f"../masks/i{i}.png")
    assert len(opened(table(tmp_path, rows_of())).ids) == 20


@pytest.mark.parametrize(
    "template",
    [
        "{image}*.png",
        "{image}_*.png",
        "*{image}_axial.png",
        "?{image}*",
        "deep/{image}*",
        "*/{image}_*.png",
    ],
)
def test_a_star_stands_for_the_rest_of_a_name(tmp_path: Path, template: str) -> None:
    lead = "x" if template.startswith(("*{", "?")) else ""
    for i in range(20):
        put(tmp_path, f"deep/{lead}i{i:03d}_axial.png", 10 * i)
    reader = f"images: {{xray: ['{template}']}}, labels: {{t: label}}, id: '{{image}}'"
    source = opened(table(tmp_path, rows_of(image="i{i:03d}"), reader))
    means = source.images[0][np.arange(20)].mean((1, 2, 3))
    assert np.abs(means - 10 * np.arange(20)).max() <= 2


UID = "1.2.826.0.1.3680043.8.498"


@pytest.mark.parametrize(
    ("file", "end"),
    [
        (UID + ".{i}.png", UID + ".{i}.png"),
        (UID + ".{i}.png", UID + ".{i}.*"),
        (UID + ".{i}.png", UID + ".{i}*"),
        (UID + ".{i}/" + UID + ".7/000000.dcm", UID + ".{i}/" + UID + ".7/000000.dcm"),
        (UID + ".{i}/" + UID + ".7/000000.dcm", UID + ".{i}/*/*.dcm"),
        ("study/{i}-x/" + UID + "/1-1.dcm", "{i}-*/" + UID + "/1-1.dcm"),
    ],
)
def test_the_work_of_finding_files_grows_as_their_number(
    tmp_path: Path, file: str, end: str
) -> None:
    n = 1000
    search = Search(tmp_path, [Found(file.format(i=10**8 + i)) for i in range(n)])
    looked_at = [search.candidates(end.format(i=10**8 + i)) for i in range(n)]
    assert [numbers[0] for numbers in looked_at] == list(range(n))
    assert sum(map(len, looked_at)) == n
