"""Benchmarks never change once they are frozen."""

import pytest

from robustbench_med.attacks import registry
from robustbench_med.data.cards import card
from robustbench_med.errors import UserError
from robustbench_med.runs.benchmarks import filled
from robustbench_med.runs.spec import RunSpec, cells
from robustbench_med.store.benchmark import benchmark, benchmarks

FROZEN = {
    "breast-chest-v1": "20901daf9420e411a215d77f837ea31fd5d38d12052bad400349d97e549d105c",
    "mri-breast-v1": "00d26e0dcbee9a1a0f6d09469f4c73f8d06421820a4c281aedac9f0a82df1b5c",
    "phantoms-v1": "d26010ba4a4a05a0fad87e4dcfaaa2a88d3ca69e490d771228b3cd0e75947257",
}
"""A line joins for every new version; none ever changes."""


def test_a_frozen_benchmark_never_changes() -> None:
    assert {name: one.hash for name, one in benchmarks().items()} == FROZEN


def newest() -> list[str]:
    families = {name.rsplit("-v", 1)[0]: name for name in benchmarks()}
    return list(families.values())


@pytest.mark.parametrize("name", newest())
def test_the_newest_version_names_the_attacks_as_they_are(name: str) -> None:
    """A raised revision of an attack asks for a new version of every benchmark that has it."""
    for wanted in benchmark(name).reference:
        assert registry.revision(wanted.attack).items() <= wanted.revision.items(), wanted.attack
        assert wanted.params.items() <= registry.complete(wanted.attack, {}).items()


@pytest.mark.parametrize("name", newest())
def test_published_files_are_those_of_the_cards(name: str) -> None:
    data = benchmark(name).data
    for file, md5 in data.published.items():
        reader = card(file.split("_")[0]).reader
        assert reader.files[data.size].md5 == md5
    assert (data.manifest is None) == bool(data.published)


def test_a_run_of_a_benchmark_is_its_grid_for_the_victim() -> None:
    spec = RunSpec.model_validate(filled("phantoms-v1", {"model": ["late"], "attack": ["fgsm"]}))
    grid = cells(spec)
    assert {cell.attack for cell in grid} == {"noise", "adaptive", "autoattack", "fgsm"}
    assert {cell.eps for cell in grid} == {"1/255", "2/255", "4/255"}
    assert {cell.train_seed for cell in grid} == {0, 1}
    assert (spec.limit, spec.size, spec.preset) == (64, 64, "quick")
    own = RunSpec.model_validate(filled("phantoms-v1", {"model": ["late"], "preset": "real", "train_seed": [5]}))  # fmt: skip
    assert (own.preset, own.train_seed, own.limit) == ("real", [5], 64)


@pytest.mark.parametrize(
    ("said", "flag"),
    [
        ({"eps": ["4/255"]}, "--eps 1/255,2/255,4/255"),
        ({"data": ["breastmnist"]}, "--data phantoms"),
        ({"engine": "art"}, "--engine native"),
        ({"limit": 8}, "--limit 64"),
        ({"accelerate": ["bf16"]}, "no --accelerate"),
        ({"folds": 3}, "no --folds"),
    ],
)
def test_a_benchmark_cannot_be_run_otherwise(said, flag) -> None:
    with pytest.raises(UserError, match=f"has {flag}; leave"):
        filled("phantoms-v1", {"model": ["late"], **said})
    with pytest.raises(UserError, match="unknown benchmark"):
        benchmark("phantoms")
    same = {"eps": ["2/255", "1/255", "4/255"], "data": "phantoms", "limit": 64}
    assert filled("phantoms-v1", {"model": ["late"], **same})["limit"] == 64
