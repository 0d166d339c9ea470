"""The native searches for the smallest perturbation find one for as many samples as Foolbox's, and
none the larger, in as many passes: three small networks on real images.
"""

import pytest
from support.files import SHARED_DATA, needs_real_data
from support.minimum_norms import COMPARED, native, of_foolbox
from support.small_nets import CASES, victim
from torch import Tensor

from robustbench_med.attacks import View

pytest.importorskip("foolbox", reason="needs the extra engines")

pytestmark = [needs_real_data, pytest.mark.slow]
N = 64


@pytest.fixture(scope="module", params=CASES)
def attacked(request, tmp_path_factory) -> tuple[View, Tensor, Tensor]:
    """A trained network and test images that it is right on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDROBUST_HOME", str(tmp_path_factory.mktemp("home")))
        return victim(CASES[request.param], N, SHARED_DATA)


@pytest.mark.parametrize("compared", COMPARED, ids=str)
def test_a_native_search_breaks_as_many_as_foolboxs_and_at_most_2_percent_further_away(
    attacked, compared
) -> None:
    view, x, y = attacked
    theirs, spent = of_foolbox(compared, view, x, y)
    ours, taken = native(compared, view, x, y)
    ends = compared.given.get("search", 1)  # points that no gradient follows, one a run
    assert taken <= spent + (2 + ends) * len(x)  # the clean images, what is looked at again
    assert ours.isfinite().sum() >= theirs.isfinite().sum()
    both = ours.isfinite() & theirs.isfinite()
    if both.any():
        assert ours[both].median() <= 1.02 * theirs[both].median()


def test_cw_breaks_as_many_as_foolboxs_and_with_smaller_perturbations_of_most(attacked) -> None:
    view, x, y = (each if isinstance(each, View) else each[:32] for each in attacked)
    compared = next(each for each in COMPARED if each.name == "cw")
    given = {"steps": 100, "search": 6}
    theirs, _ = of_foolbox(compared, view, x, y, **given)
    before = view.passes.backward
    ours, _ = native(compared, view, x, y, **given)
    assert view.passes.backward - before <= len(x) * given["search"] * given["steps"]
    both = ours.isfinite() & theirs.isfinite()
    assert theirs.isfinite().any()
    assert ours.isfinite().sum() >= theirs.isfinite().sum()
    assert ours[both].median() <= 1.002 * theirs[both].median()
    assert (ours / theirs)[both].median() <= 1
