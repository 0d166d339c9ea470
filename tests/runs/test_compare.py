"""`medrobust compare`: the grid it runs, the naive figures beside, and what its tables and
sentences say.
"""

import json
import re

import pandas as pd
import pytest
from support.cli import medrobust, refused
from support.comparisons import RECIPE

from robustbench_med import api
from robustbench_med.errors import LeftOutWarning
from robustbench_med.reports import columns
from robustbench_med.reports.comparison.write import rebuild
from robustbench_med.reports.floors import CONSTANT
from robustbench_med.runs.checks import check_attacks
from robustbench_med.runs.compare import released, with_one_attack
from robustbench_med.runs.spec import RunSpec
from robustbench_med.store import reading
from robustbench_med.store.store import Store


def test_a_comparison_from_the_shell_writes_tables_statistics_and_figure(
    drawn_root, tmp_path
) -> None:
    out = tmp_path / "out"
    data = f"{drawn_root / 'heads.yaml'}+{drawn_root / 'chests.yaml'}"
    arguments = ["compare", "--model", "early,gmu", "--defense", "fast-at,jpeg,man", "--attack", "fgsm,pgd", "--limit", 6, "--data", data,
                 "--data-root", drawn_root, "--attack-param", "steps=2", "--draws", 2, "--eps", "8/255", *RECIPE, "--out", out]  # fmt: skip
    done = medrobust(*arguments)
    assert "left out: man on early" in done.stderr.replace("\n", " ")
    written = pd.read_csv(out / "compare.csv")
    constant, table = written.iloc[-1], written.iloc[:-1]
    assert constant.model == CONSTANT
    assert constant.worst == constant.pgd == constant.clean == constant.floor_accuracy
    assert list(zip(table.model, table.defense, strict=True)) == [
        (m, d)
        for m in ("early", "gmu")
        for d in ("none", "fast-at", "jpeg", "man")
        if (m, d) != ("early", "man")
    ]
    described = [re.sub("^(noise|fgsm|pgd)(?![a-z])", "ATTACK", name) for name in table]
    assert list(dict.fromkeys(described)) == list(columns.COLUMNS["compare"])
    assert list(pd.read_csv(out / "compare_pairs.csv")) == list(columns.COLUMNS["compare_pairs"])
    naive = table[table.naive.notna()]
    kinds = list(zip(naive.model, naive.defense, naive.naive_how, strict=True))
    assert kinds == [
        ("early", "jpeg", "unaware"),
        ("gmu", "none", "release"),
        ("gmu", "jpeg", "unaware"),
        ("gmu", "man", "release"),
    ]
    records = Store(out).records()
    for each in records:  # the naive column is what these say
        if each.spec.victim.model == "early+jpeg (unaware attack)":
            (row,) = [
                row for _, row in naive.iterrows() if (row.model, row.defense) == ("early", "jpeg")
            ]
            assert row.naive == pytest.approx(each.figures.robust, abs=1e-5)
            assert each.spec.attack.name == row.naive_attack == "pgd"
            assert each.spec.attack.params["keep"] == "last"
            break
    else:
        raise AssertionError("no record of an unaware attack on early+jpeg")
    plain = [r for r in reading.read(Store(out)) if r.spec.victim.model == "early"]
    assert {(r.trust.together.word, r.trust.together.because) for r in plain} == {
        (table.trust[0], table.why[0])
    }
    assert (
        table.worst <= table[["fgsm", "pgd"]].min(axis=1) + 1e-6
    ).all()  # robust accuracies are kept in single precision
    plain, fast, jpeg = (
        table[table.defense == name].iloc[0] for name in ("none", "fast-at", "jpeg")
    )
    assert plain.training_x == plain.inference_x == jpeg.training_x == 1
    assert fast.training_x == pytest.approx(
        5 / 3, rel=1e-5
    )  # one more forward pass, and one back to the input alone, beside the three of the loss
    paired = pd.read_csv(out / "compare_pairs.csv")
    assert (
        len(paired) == 3 + 6 + 3
    )  # within early, within gmu, and across the two under each shared defence
    assert (paired.p_holm >= paired.p).all()
    assert ((paired.low <= paired.difference) & (paired.difference <= paired.high)).all()
    text = (out / "compare.md").read_text()
    assert text.splitlines()[2].startswith("`medrobust compare --model early,gmu")
    for name in ("fast-at", "jpeg"):
        assert f"early on heads+chests (Linf, 8/255): {name} " in text
    assert "\\toprule" in (out / "compare.tex").read_text()
    assert (out / "pareto.png").stat().st_size > 20_000
    files = (
        "compare.md",
        "compare.csv",
        "compare.tex",
        "compare_pairs.csv",
        "pareto.png",
        "pareto.svg",
    )
    before = {file: (out / file).read_bytes() for file in files}
    for file in files:
        (out / file).unlink()
    medrobust("report", "--out", out, "--no-html", "--no-figures")
    assert {file: (out / file).read_bytes() for file in files} == before
    again = medrobust(*arguments)
    assert "training" not in again.stderr
    assert pd.read_csv(out / "compare.csv").equals(written)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--attack", "noise"], "needs an attack besides the noise control"),
        (["--defense", "man"], "this model has none"),
        (["--defense", "jpeg", "--defense-param", "beta=3"], "has a parameter 'beta'"),
        (["--defense", "pgd"], "did you mean pgd-at"),
        (["--folds", 3], "name one fold"),
    ],
)
def test_a_faulty_comparison_is_one_line(more, message, drawn_root, tmp_path) -> None:
    done = medrobust(
        "compare",
        "--model",
        "early",
        *more,
        *RECIPE,
        "--data",
        drawn_root / "heads.yaml",
        "--data-root",
        drawn_root,
        "--out",
        tmp_path,
        check=2,
    )
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_without_names_the_usual_defences_that_suit_are_compared(drawn_root, tmp_path) -> None:
    done = medrobust("compare", "--model", "early", *RECIPE, "--recipe", "steps=2", "--limit", 4, "--attack", "fgsm", "--data",
                     drawn_root / "heads.yaml", "--data-root", drawn_root, "--out", tmp_path)  # fmt: skip
    assert [
        line.split()[3] for line in (done.stdout + done.stderr).splitlines() if "left out:" in line
    ] == ["man", "robust-mail"]
    suit = ["none", "pgd-at", "trades", "rpf", "jpeg", "smoothing", ""]  # the constant answer
    assert pd.read_csv(tmp_path / "compare.csv", keep_default_na=False).defense.tolist() == suit


def test_victims_trained_beside_a_checkpoint_are_of_its_size(drawn_root, tmp_path) -> None:
    data = [
        *RECIPE[:2],
        *RECIPE[4:],
        "--data",
        drawn_root / "heads.yaml",
        "--data-root",
        drawn_root,
    ]
    medrobust(
        "train", "--model", "early", "--model-param", "width=4", *data, "--out", tmp_path / "t"
    )
    (weights,) = (tmp_path / "t").glob("*.safetensors")
    medrobust("compare", "--model", "early", "--checkpoint", weights, "--defense", "fast-at", "--attack", "fgsm", "--limit", 4, *data,
              "--out", tmp_path)  # fmt: skip
    victims = {
        r.spec.victim.model: r.spec.victim.params["width"] for r in Store(tmp_path).records()
    }
    assert victims == {"early": 4, "early+fast-at": 4}


def test_a_model_that_the_shared_parameters_do_not_fit_is_named_in_the_result(
    drawn_root, tmp_path
) -> None:
    given = ["compare", "--model", "early,lmf,unimodal", "--defense", "bit-depth", "--attack", "fgsm", "--limit", 4, *RECIPE,
             "--model-param", "rank=2", "--data", drawn_root / "heads.yaml", "--data-root", drawn_root]  # fmt: skip
    done = medrobust(*given, "--out", tmp_path, check=1)
    assert set(pd.read_csv(tmp_path / "compare.csv").model) == {"lmf", CONSTANT}
    lines = [
        line
        for line in done.stderr.splitlines()
        if line.startswith("medrobust: warning: left out of the comparison: ")
    ]
    assert lines == done.stderr.splitlines()[-len(lines) :]
    shown = " ".join(done.stdout.split())
    absent = pd.read_csv(tmp_path / "compare_left_out.csv", keep_default_na=False)
    assert list(absent) == list(columns.COLUMNS["compare_left_out"])
    for name in ("early", "unimodal"):
        assert any(
            f": {name} altogether (model '{name}': it has no parameter 'rank'" in line
            for line in lines
        )
        assert (
            f"{name} is missing from this comparison: model '{name}': it has no parameter 'rank'"
            in shown
        )
        assert f"- {name} is missing from this comparison" in (tmp_path / "compare.md").read_text()
        assert absent[absent.model == name][["defense", "unsuited"]].values.tolist() == [
            ["", False]
        ]
    noted = json.loads((tmp_path / "compare.json").read_text())["left_out"]
    assert [entry["model"] for entry in noted] == list(absent.model)
    before = (tmp_path / "compare.md").read_text()
    rebuild(tmp_path, Store(tmp_path).records())
    assert (tmp_path / "compare.md").read_text() == before


def test_python_tells_what_a_comparison_left_out_and_a_parameter_of_ones_own_mends_it(
    drawn_root, tmp_path
) -> None:
    options = {"data": str(drawn_root / "heads.yaml"), "data_root": drawn_root, "limit": 4, "size": 32, "quiet": True,
               "recipe": {"steps": 2, "batch_size": 8}, "out": tmp_path}  # fmt: skip
    with pytest.warns(LeftOutWarning, match="early altogether"):
        found = api.compare(
            ["early", "lmf"], "bit-depth", "fgsm", model_params={"width": 4, "rank": 2}, **options
        )
    assert [(each.model, each.defense, each.unsuited) for each in found.left_out] == [
        ("early", "", False)
    ]
    assert "early is missing from this comparison" in repr(found)
    assert "early is missing from this comparison" in found._repr_html_()
    whole = api.compare(
        ["early", "lmf"],
        "bit-depth",
        "fgsm",
        model_params={"width": 4, "lmf": {"rank": 2}},
        **options,
    )
    assert whole.left_out == ()
    assert set(whole.table.model) == {"early", "lmf"}


def test_parameters_that_fit_no_model_are_refused(tmp_path) -> None:
    for names in ("early", "early,unimodal"):
        done = medrobust(
            "compare",
            "--model",
            names,
            "--model-param",
            "rank=2",
            "--defense",
            "jpeg",
            "--out",
            tmp_path,
            check=2,
        )
        assert "it has no parameter 'rank'" in refused(done)


@pytest.mark.parametrize(
    ("attacks", "naive"),
    [
        (["adaptive"], "pgd"),
        (["adaptive", "fgsm"], "pgd"),
        (["fgsm", "adaptive"], "fgsm"),
        (["apgd", "pgd"], "pgd"),
    ],
)
def test_the_naive_attack_beside_a_search_is_none(attacks, naive) -> None:
    searched = {"effort": "max", "max_passes": 9} if "adaptive" in attacks else {}
    spec = RunSpec(model=["mail"], attack=attacks, **searched)
    for one in (with_one_attack(spec), released(spec)):
        assert (one.attack, one.effort, one.max_passes) == ([naive], None, None)
        check_attacks(one)
