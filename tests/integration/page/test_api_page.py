"""The page of the API: every route, no foreign host, and nothing that the policy refuses."""

import http
from pathlib import Path

import httpx
from playwright.sync_api import BrowserContext, expect

from tests.support.web.gateway import Gateway


def test_every_route_is_in_the_page(
    browser: BrowserContext, gateway: Gateway, screenshots: Path
) -> None:
    page = browser.new_page()
    asked, said = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    answer = page.goto(f"{gateway.url}/docs")
    assert answer is not None
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    routes = httpx.get(f"{gateway.url}/openapi.json", trust_env=False).json()["paths"]
    shown = page.locator("details.route")
    expect(shown).to_have_count(sum(len(methods) for methods in routes.values()))
    page.get_by_label("Find a route").fill("submit bulk payloads")
    expect(shown.locator("visible=true")).to_have_count(1)
    shown.locator("visible=true").locator("summary").click()
    expect(page.get_by_role("table", name="Body")).to_contain_text("payloads")
    expect(page.get_by_label("A request").locator("visible=true")).to_contain_text(
        f'curl -X POST "{gateway.url}/v1/jobs/bulk"'
    )
    page.screenshot(path=screenshots / "api.png", full_page=True)
    page.goto("about:blank")
    page.goto(f"{gateway.url}/docs#put-v1-inputs-path")
    expect(page.locator("details[open]")).to_contain_text("tar archive")
    assert said == []
    assert all(url.startswith((f"{gateway.url}/", "about:")) for url in asked), asked
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert httpx.get(f"{gateway.url}{path}", trust_env=False).status_code == (
            http.HTTPStatus.NOT_FOUND
        )
