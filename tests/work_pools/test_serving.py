"""What a run that does not start says in its state: one line for each fault of what it runs."""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from prefect.deployments.steps.core import run_steps
from prefect.flows import load_flow_from_entrypoint, load_function_and_convert_to_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from work_pools.entrypoint.flow_engine import reason_of

FAULTS = {
    "import nowhere": "ModuleNotFoundError: No module named 'nowhere'",
    "from json import nothing": "ImportError: cannot import name 'nothing' from 'json'",
    "raise KeyError('x')": "KeyError: 'x'",
    "1 / 0": "ZeroDivisionError: division by zero",
    "raise ConnectionError('no licence server')": "ConnectionError: no licence server",
    "raise ValueError('a\\n  b')": "ValueError: a b",
    "def": "SyntaxError: invalid syntax",
    "raise SystemExit(3)": "SystemExit: 3",
    "raise SystemExit(0)": "SystemExit: 0",
}


NAME = "somebodys_task"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a module that its test writes."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / f"{NAME}.py"


def raised(entrypoint: str) -> BaseException:
    sys.modules.pop(NAME, None)  # Prefect leaves a module there, even one that has failed
    with pytest.raises(BaseException) as caught:  # noqa: PT011, RUF100  # any at all, exits too
        load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    return caught.value


@pytest.mark.parametrize("text", FAULTS)
def test_a_flow_that_does_not_load_is_the_fault_of_what_was_deployed(
    module: Path, text: str
) -> None:
    module.write_text(text)
    for entrypoint in (f"{module}:work", f"{NAME}.work"):
        reason = reason_of(raised(entrypoint))
        assert reason is not None
        assert reason.startswith(f"the flow cannot be loaded: {FAULTS[text]}"), entrypoint
        assert "\n" not in reason


def test_a_package_that_is_not_installed() -> None:
    reason = reason_of(raised(f"{NAME}.work"))
    assert reason == f"the flow cannot be loaded: ModuleNotFoundError: No module named '{NAME}'"


def test_a_flow_that_is_not_in_its_module(module: Path) -> None:
    module.write_text("")
    sys.modules.pop(NAME, None)
    # As Prefect's engine, after its first error.
    with pytest.raises(RuntimeError) as caught:
        load_function_and_convert_to_flow(f"{NAME}.work")
    reason = reason_of(caught.value)
    assert reason is not None
    assert "Function with name 'work' not found" in reason


def test_faults_of_the_machine_are_crashes(module: Path) -> None:
    for kind in ("MemoryError", "KeyboardInterrupt"):
        module.write_text(f"raise {kind}")
        assert reason_of(raised(f"{NAME}.work")) is None
        assert reason_of(raised(f"{module}:work")) is None
    assert reason_of(ValueError("of the flow itself")) is None
    assert reason_of(None) is None


async def failed_step(step: dict[str, Any], **inputs: Any) -> BaseException:
    # An address that nothing is asked at: the steps name no block.
    nowhere = temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"})
    with nowhere, pytest.raises(Exception) as caught:  # noqa: B017, PT011, RUF100
        await run_steps([step], inputs, print_function=Mock(), logger=Mock())
    return caught.value


async def test_a_pull_step_that_fails(tmp_path: Path) -> None:
    step = "prefect.deployments.steps.set_working_directory"
    reason = reason_of(await failed_step({step: {"directory": str(tmp_path / "none")}}))
    assert reason is not None
    assert reason.startswith(f"the flow cannot be loaded: pull step {step}: FileNotFoundError: ")
    assert str(tmp_path / "none") in reason


async def test_a_pull_step_that_finds_no_server_is_a_crash(module: Path) -> None:
    module.write_text("import httpx\ndef pull(): raise httpx.ConnectError('refused')")
    sys.modules.pop(NAME, None)
    error = await failed_step({f"{NAME}.pull": {}})
    assert isinstance(error.__cause__, httpx.ConnectError)
    assert reason_of(error) is None
