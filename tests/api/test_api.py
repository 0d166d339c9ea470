"""The public functions, and the page that documents them."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from support.files import ROOT
from support.records import fill, record

import robustbench_med
from robustbench_med import (
    Comparison,
    Results,
    UserError,
    compare,
    evaluate,
    leaderboard,
    load_data,
    load_model,
)
from robustbench_med.store.store import Store


@pytest.mark.slow
def test_the_documented_examples_run(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert [z.shape for z in (names["lesion"], names["lung"])] == [(4, 4), (4, 3)]
    shown = capsys.readouterr().out
    assert "4 records in robustness" in shown
    assert "did you mean" in shown
    assert (tmp_path / "robustness" / "records").is_dir()


def test_results_are_escaped_in_a_notebook_and_plain_in_a_console(tmp_path) -> None:
    made = record("<b>x</b>", 0.25)
    fill(Store(tmp_path / "<i>"), made)
    results = Results((made,), tmp_path / "<i>")
    html = results._repr_html_()
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x" in html
    assert "<i>" not in html
    assert "0.250" in html
    assert "<b>x</b>" in repr(results)
    assert isinstance(results.table, pd.DataFrame)


def test_a_record_is_read_by_fields_and_as_the_dictionary_that_its_file_holds() -> None:
    (one,) = Results((record(robust=0.25, eps=[4 / 255, 0]),), Path("reports")).records
    assert one["figures"]["robust"] == one.figures.robust == 0.25
    assert one["spec"]["threat"]["radii"] == one.spec.threat.radii == [4 / 255, 0]
    assert one.spec["attack"]["name"] == "pgd"
    assert one["hash"] == one.hash
    with pytest.raises(KeyError, match="robustness"):
        one["robustness"]


def test_a_comparison_reads_what_evaluate_measured_and_is_escaped(tmp_path) -> None:
    options = {"eps": "8/255", "limit": 8, "out": tmp_path, "quiet": True,
               "size": 32, "recipe": {"steps": 2, "batch_size": 8}, "model_params": {"width": 4}}  # fmt: skip
    before = evaluate("late", "fgsm", **options)
    found = compare("late", "median", "fgsm", **options)
    assert {r.hash for r in before.records} < {r.hash for r in found.records}
    assert list(found.table.defense) == ["none", "median"]
    assert len(found.pairs) == 1
    assert "median" in found.verdict[0]
    assert found.verdict[0] in repr(found)
    hostile = Comparison(
        found.table.assign(model="<b>x</b>"),
        found.pairs,
        ("<i>said</i>",),
        found.records,
        found.folder,
    )
    assert "<b>" not in hostile._repr_html_()
    assert "&lt;i&gt;said" in hostile._repr_html_()
    with pytest.raises(UserError, match="needs an attack besides"):
        compare("late", "jpeg", "noise", out=tmp_path)


def test_unknown_options_and_empty_folders_are_user_errors(tmp_path) -> None:
    with pytest.raises(UserError, match="unknown field 'epsilon'"):
        evaluate("late", epsilon="4/255", out=tmp_path)
    with pytest.raises(UserError, match="holds no records"):
        leaderboard(tmp_path)


def test_importing_the_package_imports_nothing_heavy_and_all_names_are_there() -> None:
    code = (
        "import sys, robustbench_med; print(sorted(m for m in ('torch', 'pandas', 'matplotlib',"
        " 'pydantic') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for name in robustbench_med.__all__:
        assert getattr(robustbench_med, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        robustbench_med.nothing_such  # noqa: B018


def test_reports_do_not_wait_for_torch() -> None:
    code = (
        "import sys, robustbench_med.reports; print(sorted({'torch', 'monai', 'sklearn'} &"
        " set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_defended_victims_and_weights_of_a_file_are_loaded(tmp_path) -> None:
    options = {"params": {"width": 4}, "recipe": {"steps": 1}, "quiet": True, "device": "cpu"}
    data = load_data("phantoms")
    x = data.splits["test"].batch(range(2))
    plain = load_model("late", data=data, **options)
    defended = load_model("late", data=data, defense="jpeg", **options)
    assert not torch.equal(plain(*x)[0], defended(*x)[0])
    torch.save({k: 2 * v for k, v in plain.state_dict().items()}, tmp_path / "weights.pt")
    weights = tmp_path / "weights.pt"
    given = load_model("late", data=data, checkpoint=weights, **options)
    doubled = {k: 2 * v for k, v in plain.state_dict().items()}
    assert all(torch.equal(v, doubled[k]) for k, v in given.state_dict().items())
    for wrong, said in (
        ({"defence": "jpeg"}, "unknown option 'defence'; did you mean defense"),
        ({"defense": ["jpeg", "median"]}, "one defence or chain"),
        ({"data_root": tmp_path}, "belongs to load_data"),
        ({"checkpoint": tmp_path / "none.pt"}, "cannot read"),
    ):
        with pytest.raises(UserError, match=said):
            load_model("late", data=data, **(options | wrong))


def test_a_model_is_loaded_for_data_below_a_folder(tmp_path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        load_model("late", data="breastmnist", data_root=tmp_path, quiet=True)


def test_every_public_function_says_what_it_takes_gives_and_raises_with_an_example() -> None:
    functions = [getattr(robustbench_med, name) for name in robustbench_med.__all__]
    for function in (f for f in functions if inspect.isfunction(f)):
        said = inspect.getdoc(function) or ""
        if function.__name__ in ("register_attack", "register_loss"):
            continue  # they are register
        assert "UserError" in said, function.__name__
        assert "Example:" in said or function.__name__ == "register_defense", function.__name__
        hints = inspect.get_annotations(function)
        assert set(inspect.signature(function).parameters) <= hints.keys(), function.__name__
        assert "return" in hints, function.__name__
