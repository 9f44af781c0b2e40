"""Whether the embedded server may listen at another address than 127.0.0.1."""

import socket
from pathlib import Path
from typing import Any

import pytest

from deployments.local.outside import check_outside, outside_url, refuse_busy
from deployments.local.up import running
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import Settings
from tests.support.web.certificates import server_context

OUTSIDE = "192.0.2.7"  # of no host: RFC 5737


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Any]:
    """The settings of a certificate."""
    _, certificate = server_context(tmp_path)
    return {"tls_certificate": certificate, "tls_key": certificate.with_suffix(".key")}


def fault(home: Path, *, insecure: bool = False, **given: Any) -> str | None:
    try:
        check_outside(Settings(home=home, **given), insecure=insecure)
    except OperatorError as error:
        return str(error)
    return None


def test_nowhere_else_by_default(tmp_path: Path) -> None:
    assert fault(tmp_path) is None


def test_with_tls_or_where_the_operator_insists(tmp_path: Path, tls: dict[str, Any]) -> None:
    assert fault(tmp_path, bind=OUTSIDE, **tls) is None
    assert fault(tmp_path, bind=OUTSIDE, insecure=True) is None
    said = fault(tmp_path, bind=OUTSIDE)
    assert said is not None
    assert said.startswith(f"PREFECTURE_BIND={OUTSIDE} would send the password in readable form: ")
    assert "--insecure" in said


def test_what_does_not_fit(tmp_path: Path, tls: dict[str, Any]) -> None:
    for name, path in tls.items():
        given: dict[str, Any] = {name: path}
        assert fault(tmp_path, bind=OUTSIDE, **given)
        assert fault(tmp_path, bind=OUTSIDE, insecure=True, **given)
    turned = {"tls_certificate": tls["tls_key"], "tls_key": tls["tls_certificate"]}
    assert "cannot be used" in (fault(tmp_path, bind=OUTSIDE, **turned) or "")
    gone: dict[str, Any] = tls | {"tls_key": tmp_path / "gone"}
    assert "cannot be used" in (fault(tmp_path, bind=OUTSIDE, **gone) or "")
    for everywhere in ("0.0.0.0", "::"):
        assert "name one address" in (fault(tmp_path, bind=everywhere, **tls) or "")
    assert "names no address" in (fault(tmp_path, **tls) or "")
    assert "names no address" in (fault(tmp_path, insecure=True) or "")


async def test_no_start_leaves_the_check_out(tmp_path: Path) -> None:
    """Not that of `prefecture demo` either."""
    own = Settings.model_validate({"home": tmp_path / "home", "bind": OUTSIDE})
    with pytest.raises(OperatorError, match="in readable form"):
        async with running(own, Pool.PROCESS, 1, 4200, print):
            pass
    assert not (tmp_path / "home").exists()


def test_its_address(tmp_path: Path, tls: dict[str, Any]) -> None:
    own = Settings.model_validate({"home": tmp_path, "bind": OUTSIDE, **tls})
    assert outside_url(own, 4200) == f"https://{OUTSIDE}:4200/api"
    plain = Settings.model_validate({"home": tmp_path, "bind": "2001:db8::7"})
    assert outside_url(plain, 4200) == "http://[2001:db8::7]:4200/api"


def test_a_place_that_is_taken_or_elsewhere() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"127.0.0.1:{port} is in use"):
            refuse_busy("127.0.0.1", port)
        refuse_busy("127.0.0.2", port)
        with pytest.raises(OperatorError, match=f"{OUTSIDE}:{port} cannot be listened at"):
            refuse_busy(OUTSIDE, port)
