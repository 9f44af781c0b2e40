"""Browsers that are signed in: what a cookie admits to, and what ends it."""

import http
from collections.abc import Generator
from contextlib import contextmanager

import httpx
from playwright.sync_api import BrowserContext, expect

from deployments.gateway.users.access import PAGE_HEADER
from deployments.gateway.users.sessions import Sessions
from deployments.gateway.users.tokens import Scope, Tokens
from tests.support.platform import PATIENCE, Platform
from tests.support.web.chromium import SignIn
from tests.support.web.gateway import Gateway

SHORT = {"task": "find-primes", "payload": {"upper_bound": 100}, "results_directory": "page"}
# All that a script of the page can read, and its address.
READABLE = """() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage},
    document.documentElement.outerHTML, location.href, history.state])"""


@contextmanager
def browser_of(gateway: Gateway, token: str) -> Generator[httpx.Client]:
    """A client with the cookie of a browser that is signed in."""
    with httpx.Client(base_url=f"{gateway.url}/v1", timeout=PATIENCE, trust_env=False) as client:
        came = client.post("/session", json={"token": token}, headers={PAGE_HEADER: "1"})
        assert came.status_code == http.HTTPStatus.CREATED, came.text
        cookie = came.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert token.rpartition("_")[2].lower() not in cookie
        yield client


def of_page(gateway: Gateway) -> dict[str, str]:
    return {PAGE_HEADER: "1", "Origin": gateway.url}


def test_the_token_is_in_no_place_that_a_script_can_read(sign_in: SignIn, gateway: Gateway) -> None:
    page = sign_in("anna")
    readable = page.evaluate(READABLE)
    assert "prefecture_" not in readable.replace("prefecture_…", "")
    (cookie,) = page.context.cookies()
    assert cookie.get("httpOnly")
    assert cookie.get("sameSite") == "Strict"
    assert cookie.get("value", "?") not in readable
    stored = (gateway.home / "sessions.json").read_text()
    assert cookie.get("value", "?") not in stored
    assert (gateway.home / "sessions.json").stat().st_mode & 0o077 == 0
    other = page.context.new_page()
    other.goto(gateway.url)
    page.reload()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your token")).to_be_visible()
    assert page.context.cookies() == []
    other.get_by_role("link", name="Overview").click()
    expect(other.get_by_role("alert")).to_have_text("the session is over: sign in again")


def test_a_link_signs_in_once(
    browser: BrowserContext, gateway: Gateway, process_platform: Platform
) -> None:
    Tokens(gateway.home).add("lena")
    made = process_platform.command(
        "prefecture", "token", "link", "lena", "--gateway", f"{gateway.url}/"
    )
    link = made.stdout.strip()
    assert link.startswith(f"{gateway.url}/sign-in#"), made.stderr
    page = browser.new_page()
    page.goto(link)
    expect(page.locator("#user")).to_have_text("lena")
    assert "#" not in page.url
    browser.clear_cookies()
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator(".sign-in .error")).to_contain_text("this link has been used")
    refused = process_platform.command("prefecture", "token", "link", "nobody")
    assert "there is no token of a user 'nobody'" in refused.stderr


def test_a_cookie_admits_to_what_its_token_does(gateway: Gateway) -> None:
    tokens = Tokens(gateway.home)
    token = tokens.add("rita", [Scope.READ_OWN])
    with browser_of(gateway, token) as rita:
        assert rita.get("/me").json()["user"] == "rita"
        assert "scope submit" in rita.post("/jobs", json=SHORT, headers=of_page(gateway)).text
        copied = dict(rita.cookies)
        tokens.revoke("rita")
        assert rita.get("/jobs").status_code == http.HTTPStatus.UNAUTHORIZED
        assert "the session is over" in rita.get("/jobs").json()["detail"]
    assert copied


def test_a_change_needs_to_come_from_the_page(gateway: Gateway) -> None:
    with browser_of(gateway, Tokens(gateway.home).add("olga")) as olga:
        refused: tuple[dict[str, str], ...] = (
            {},
            {PAGE_HEADER: "1"},
            {"Origin": gateway.url},
            {PAGE_HEADER: "1", "Origin": "http://127.0.0.1:1"},
            {PAGE_HEADER: "1", "Origin": "null"},
        )
        for headers in refused:
            answer = olga.post("/jobs", json=SHORT, headers=headers)
            assert answer.status_code == http.HTTPStatus.FORBIDDEN, (headers, answer.text)
        assert olga.get("/jobs").json()["jobs"] == []
        assert olga.put("/inputs/a.txt", content=b"a").status_code == http.HTTPStatus.FORBIDDEN
        done = olga.put("/inputs/a.txt?overwrite=true", content=b"a", headers=of_page(gateway))
        assert done.status_code == http.HTTPStatus.CREATED
        for method, path in (("POST", "/session"), ("DELETE", "/session")):
            assert olga.request(method, path).status_code == http.HTTPStatus.FORBIDDEN


def test_a_copy_of_the_cookie_is_worthless_after_signing_out(gateway: Gateway) -> None:
    with browser_of(gateway, Tokens(gateway.home).add("vera")) as vera:
        copy = {"Cookie": "; ".join(f"{name}={value}" for name, value in vera.cookies.items())}
        assert vera.get("/me", headers=copy).is_success
        with vera.stream("GET", "/events", headers=copy) as stream:
            assert stream.status_code == http.HTTPStatus.OK
            assert vera.delete("/session", headers=of_page(gateway)).is_success
            stream.read()  # it ends by itself
        assert not vera.cookies
        answer = vera.get("/me", headers=copy)
        assert answer.status_code == http.HTTPStatus.UNAUTHORIZED


def test_wrong_tokens_are_refused_and_counted(gateway: Gateway) -> None:
    with gateway.client(None) as nobody:
        wrong: tuple[dict[str, str], ...] = (
            {"token": "prefecture_1_x"},
            {"token": ""},
            {},
            {"link": "x"},
            {"token": "ä" * 9},
        )
        for body in wrong:
            answer = nobody.post("/session", json=body, headers={PAGE_HEADER: "1"})
            assert answer.status_code == http.HTTPStatus.UNAUTHORIZED, answer.text
            assert "set-cookie" not in answer.headers
        stale = {"Cookie": f"prefecture-{httpx.URL(gateway.url).port}=x"}
        assert nobody.get("/me", headers=stale).status_code == http.HTTPStatus.UNAUTHORIZED
    assert '"action": "sign_in", "status": 401' in gateway.audit


def test_a_browser_signs_out_the_oldest_where_there_are_too_many(gateway: Gateway) -> None:
    tokens = Tokens(gateway.home)
    tokens.add("mara")
    sessions = Sessions(gateway.home, tokens)
    (token,) = [each for each in tokens.all() if each.user == "mara"]
    secrets = [sessions.begin(token) for _ in range(51)]
    assert sessions.find(secrets[0]) is None
    assert sessions.find(secrets[1]) == sessions.find(secrets[-1]) == token
