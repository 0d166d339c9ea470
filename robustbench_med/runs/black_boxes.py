"""Black boxes that a specification names by an address or a file, as models of the registry."""

from __future__ import annotations

from pathlib import Path

from robustbench_med import naming
from robustbench_med.errors import UserError
from robustbench_med.formats.files import data_of, door
from robustbench_med.models import answers, contracts, registry
from robustbench_med.models.black_box import Unasked
from robustbench_med.models.contracts import Contract
from robustbench_med.models.endpoint import Endpoint
from robustbench_med.models.onnx_file import OnnxFile
from robustbench_med.models.registry import Given
from robustbench_med.progress import Display
from robustbench_med.runs.registration import of_packages
from robustbench_med.runs.spec import VictimsSpec


def take(spec: VictimsSpec, display: Display) -> None:
    """Makes the black boxes of a specification models as any other.

    Raises:
        UserError: a contract that is missing, that nothing asks for or that several would share, a
            name that is taken, a file that cannot be read.
    """
    boxes = [name for name in dict.fromkeys(spec.model) if naming.is_box(name)]
    if spec.contract is not None and len(boxes) != 1:
        raise UserError(
            f"--contract is for one black box, {', '.join(boxes) or 'which no model is'}"
            " (http://host:port/path, or net.onnx)"
        )
    for name in boxes:
        contract = contract_of(name, spec.contract)
        _check_name(name, contract.name)
        box = Unasked(device_of(name, contract))
        if contract.note:
            display.warn(contract.note)
        naming.CALLED[name] = contract.name
        registry.MODELS[name] = Given(box.on, contract.name, "", box, box.identity())
        of_packages("model", name)


def contract_of(name: str, path: Path | None) -> Contract:
    """The contract of a black box; of an ONNX file without one the usual."""
    if path is not None:
        return contracts.load(path)
    if naming.is_address(name):
        raise UserError(
            f"{name}: --contract says what it takes and gives; it is missing (docs: Black boxes)"
        )
    called = Path(name).name
    if not contracts.NAME.fullmatch(called):
        raise UserError(f"{name}: give it a name of letters, digits, '-', '_' and '.'")
    return Contract(name=called, version="1")


def device_of(name: str, contract: Contract) -> Endpoint | OnnxFile:
    """What is asked."""
    if naming.is_address(name):
        return Endpoint(name, contract)
    path = Path(name)
    with door("the ONNX file", path):
        data = data_of(path, "weights_bytes")
    return OnnxFile(path, contract, data)


def forget_answers(spec: VictimsSpec) -> None:
    """Drops what the black boxes of a specification have answered, so that all is asked again."""
    for name in spec.model:
        given = registry.network_of(name)
        if given is not None and isinstance(given.network, Unasked):
            answers.forget(given.network.device_hash)


def _check_name(name: str, called: str) -> None:
    """Refuses (UserError) what tables would confuse."""
    if called in registry.MODELS and not naming.is_box(called):
        raise UserError(f"{name}: there is a model {called!r} already; give the box another name")
