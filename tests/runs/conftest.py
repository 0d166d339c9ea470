"""What is registered in one test is gone in the next."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import pytest

from robustbench_med.attacks import ATTACKS, LOSSES
from robustbench_med.models.defenses import INFERENCE, NETWORK
from robustbench_med.runs import registration
from robustbench_med.training.objectives import SCHEMES


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """What a test registers is gone after it."""
    with contextlib.ExitStack() as stack:
        for table in (ATTACKS, LOSSES, INFERENCE, NETWORK, SCHEMES, registration._INCLUDED):
            stack.enter_context(mock.patch.dict(table))  # type: ignore[arg-type]
        yield
