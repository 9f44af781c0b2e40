"""Files of users are shown as pictures and as text, and never as a page of the gateway's origin."""

import http
import io
from uuid import UUID

import httpx
from PIL import ExifTags
from playwright.sync_api import expect

from tests.support.images import photo
from tests.support.platform import Platform
from tests.support.web.chromium import SignIn
from tests.support.web.gateway import Gateway

SCRIPT = "<script>window.top.document.title = 'it ran'; window.itRan = true</script>"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{SCRIPT}</svg>'


def page_and_picture(seed: int) -> bytes:
    """A JPEG that is a web page too, for a browser that guesses: compressed, it stays one."""
    picture, file = photo(300, 200, seed), io.BytesIO()
    exif = picture.getexif()
    exif[ExifTags.Base.ImageDescription] = f"<html><body>{SCRIPT}</body></html>"
    picture.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


def upload(user: httpx.Client, name: str, content: bytes) -> None:
    answer = user.put(f"/inputs/unsafe/{name}", content=content, params={"overwrite": True})
    assert answer.status_code == http.HTTPStatus.CREATED, answer.text


def test_a_result_with_a_script_never_runs(
    sign_in: SignIn, gateway: Gateway, process_platform: Platform
) -> None:
    page = sign_in("hana")
    with gateway.user("hana") as hana:
        for name in ("page.html", "picture.jpg", "drawing.svg", "text.jpg"):
            content = page_and_picture(7)
            if name == "drawing.svg":
                content = SVG.encode()
            if name == "text.jpg":
                content = SCRIPT.encode()
            upload(hana, name, content)
        body = {
            "task": "compress-images",
            "payload": {"source": "users/hana/unsafe", "ratio": 0.9},
            "results_directory": "unsafe",
        }
        job = UUID(hana.post("/jobs", json=body).json()["job"])
        folder = process_platform.completed(job, "unsafe")
        assert b"<script>" in (folder / "page.html").read_bytes()
        pictures = f"/jobs/{job}/pictures"
        listed = hana.get(pictures).json()
        assert all(each["before"] != "drawing.svg" for each in listed)
        refused = (
            f"{pictures}/before/drawing.svg",
            f"{pictures}/before/text.jpg",
            f"{pictures}/before/../../secret",
            f"{pictures}/before/%2e%2e/unsafe/picture.jpg",
            f"{pictures}/before/none.jpg",
            f"{pictures}/after/manifest.json",
            f"{pictures}/beside/picture.jpg",
        )
        for path in refused:
            assert hana.get(path).status_code in (404, 415, 422), path
        text = hana.get(f"/jobs/{job}/preview/page.html")
        assert (text.status_code, b"<script>" in text.content) == (200, True)
        assert text.headers["content-type"] == "application/octet-stream"
        assert text.headers["content-security-policy"] == "sandbox"
        for path in (
            "none.html",
            "manifest.json",
            "../unsafe/page.html",
            "%2e%2e/unsafe/page.html",
        ):
            assert hana.get(f"/jobs/{job}/preview/{path}").status_code == 404, path
        shown = hana.get(f"{pictures}/after/page.html")
        assert shown.headers["content-type"] == "image/jpeg"
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in shown.headers["content-security-policy"]
    with_pictures = f"{gateway.url}/v1/jobs/{job}/pictures"
    for path in (f"{with_pictures}/after/page.html", f"{with_pictures}/before/page.html"):
        page.goto(path)
        assert page.evaluate("document.contentType") == "image/jpeg"
        assert page.title() != "it ran"
    page.goto(f"{gateway.url}/jobs/{job}")
    page.get_by_role("button", name="Preview page.html").click()
    preview = page.get_by_label("Preview of page.html")
    expect(preview).to_contain_text("<script>")
    assert preview.locator("*").count() == 0, "it is text, and no markup"
    with page.expect_download():
        page.evaluate(f"location.href = '/v1/jobs/{job}/result/page.html'")
    assert page.evaluate("window.itRan") is None
    assert page.title() != "it ran"


def test_the_policy_lets_the_page_run_its_own_scripts_alone(
    sign_in: SignIn, gateway: Gateway
) -> None:
    page = sign_in("hana")
    answer = page.goto(f"{gateway.url}/")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tried in (
        "document.body.insertAdjacentHTML('beforeend', '<b>x</b>')",
        "document.body.innerHTML = '<b>x</b>'",
        "document.createElement('script').text = 'window.itRan = true'",
    ):
        outcome = page.evaluate(
            "text => { try { " + tried + "; return 'done' } catch { return '' } }"
        )
        assert outcome == "", tried
