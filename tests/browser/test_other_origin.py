"""A web page of another origin, open in the operator's browser, reads and writes nothing."""

import json
from http.server import BaseHTTPRequestHandler

import pytest
from playwright.sync_api import Page

from tests.support.platform import Platform
from tests.support.web.handlers import serving

pytestmark = pytest.mark.thorough

# What a page can try without the server's consent, and with it: each as "done" or its refusal.
PAGE = """<!doctype html><title>elsewhere</title><script>
const json = JSON.stringify({name: "from-elsewhere"});
const plain = new Blob([json]);
const sent = (address, options) => fetch(address, options).then(
    answer => answer.type === "opaque" ? "unseen" : answer.text(), error => "refused");
async function attack(api) {
    const post = {method: "POST", body: json, headers: {"Content-Type": "application/json"}};
    const opened = new Promise(resolve => {
        const socket = new WebSocket(api.replace("http", "ws") + "/events/in");
        socket.onopen = () => resolve("done");
        socket.onclose = () => resolve("refused");
    });
    return {
        read: await sent(api + "/admin/version"),
        write: await sent(api + "/flows/", post),
        blind: await sent(api + "/flows/", {method: "POST", mode: "no-cors", body: plain}),
        socket: await opened,
    };
}
</script>"""


class Elsewhere(BaseHTTPRequestHandler):
    """Serves the page."""

    def do_GET(self) -> None:
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def flows(platform: Platform, name: str) -> int:
    """How many flows of a name the server has."""
    wanted = {"flows": {"name": {"any_": [name]}}}
    return platform.rest("POST", "/flows/count", wanted).json()


def test_nothing_is_read_or_written(docker_platform: Platform, page: Page) -> None:
    with serving(Elsewhere) as address:
        page.goto(f"http://{address}/")
        came = page.evaluate("api => attack(api)", docker_platform.api)
        assert came == {
            "read": "refused",
            "write": "refused",
            "blind": "unseen",
            "socket": "refused",
        }, json.dumps(came)
        page.goto("about:blank")  # ends the connection to the small server
    assert flows(docker_platform, "from-elsewhere") == 0


def test_pages_of_the_server_itself_write(docker_platform: Platform, page: Page) -> None:
    own = """fetch("/api/flows/", {method: "POST", body: '{"name": "from-its-own-page"}',
        headers: {"Content-Type": "application/json",
            "Authorization": `Basic ${localStorage.getItem("prefect-password")}`}
        }).then(answer => answer.status)"""
    assert page.evaluate(own) == 201
    assert flows(docker_platform, "from-its-own-page") == 1
