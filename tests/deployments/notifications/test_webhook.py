"""Webhooks at a real receiver, which checks their signatures as anyone's would."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import PREFECT_API_URL, temporary_settings
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from deployments.notifications.channels import Notification, check, send, webhook
from deployments.notifications.channels.addresses import is_public
from deployments.notifications.channels.webhook import (
    decode_key,
    encode,
    parse_retry_after,
    sign,
    tls_context,
)
from deployments.notifications.subscribers import Subscriber
from tasks.errors import DeliveryFailed, OperatorError
from tasks.settings import Settings
from tests.support.blocks import save_secret
from tests.support.outcomes import cancelled, completed, failed
from tests.support.platform import Platform, free_port
from tests.support.session.on_time import OnTime
from tests.support.web.certificates import server_context
from tests.support.web.receiver import Answer, Behaviour, Receiver, receiver

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PRIVATE = Settings(allow_private_webhooks=True)
PUBLIC = Settings(allow_private_webhooks=False)


@pytest.fixture(scope="module")
def key(process_platform: Platform) -> Generator[str]:
    """The name of a Secret block with a key, on the server that the tests' client talks to."""
    with temporary_settings({PREFECT_API_URL: process_platform.api}):
        asyncio.run(save_secret("webhook-key", KEY))
        yield "secret/webhook-key"


@pytest.fixture
def listener() -> Generator[Receiver]:
    with receiver() as running:
        yield running


def to(url: str, key: str = "secret/webhook-key") -> Subscriber:
    webhook = {"url": url, "secret": key}
    return Subscriber.model_validate({"name": "gallery", "to": {"webhook": webhook}})


def news() -> Notification:
    return Notification(uuid4(), completed())


@pytest.mark.parametrize("end", [completed, failed, cancelled])
async def test_receiver_gets_the_outcome_of_the_job(
    listener: Receiver, key: str, end: type
) -> None:
    notification = Notification(uuid4(), end())
    await send(to(f"{listener.url}/jobs?of=anna", key), notification, PRIVATE)
    [request] = listener.requests
    assert request.path == "/jobs?of=anna"
    assert request.headers["host"] == listener.url.removeprefix("http://")
    assert request.headers["content-type"] == "application/json"
    said = Verifier(KEY).verify(request.body, dict(request.headers))
    assert said["type"] == notification.event.name_of_event
    assert said["data"] == notification.event.model_dump(mode="json")
    assert said["data"]["outcome"] in said["type"]


async def test_second_try_is_the_same_message_at_another_time(listener: Receiver, key: str) -> None:
    notification = news()
    listener.answer = 500
    with pytest.raises(DeliveryFailed):
        await send(to(listener.url, key), notification, PRIVATE)
    listener.answer = 202
    await send(to(listener.url, key), notification, PRIVATE)
    first, second = listener.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(notification.id)
    assert first.body == second.body
    assert abs(int(second.headers["webhook-timestamp"]) - time.time()) < 600


@pytest.mark.parametrize("status", [400, 401, 404, 410, 500, 502, 503])
async def test_answer_other_than_2xx_is_a_failure_that_names_host_and_status(
    listener: Receiver, key: str, status: int
) -> None:
    listener.answer = status
    with pytest.raises(DeliveryFailed) as refused:
        await send(to(f"{listener.url}/s3cr3t?t=s3cr3t", key), news(), PRIVATE)
    assert str(refused.value) == f"127.0.0.1 answered {status}"
    assert refused.value.retry_after is None


@pytest.mark.parametrize("status", [429, 503])
async def test_receiver_says_when_to_come_back(listener: Receiver, key: str, status: int) -> None:
    listener.answer = Answer(status, {"Retry-After": "120"})
    with pytest.raises(DeliveryFailed) as refused:
        await send(to(listener.url, key), news(), PRIVATE)
    assert refused.value.retry_after == 120
    listener.answer = Answer(
        status, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1), True)}
    )
    with pytest.raises(DeliveryFailed) as refused:
        await send(to(listener.url, key), news(), PRIVATE)
    assert refused.value.retry_after == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(listener: Receiver, key: str, status: int) -> None:
    with receiver() as elsewhere:
        listener.answer = Answer(status, {"Location": elsewhere.url})
        with pytest.raises(DeliveryFailed, match=rf"{status}.*configure the final address"):
            await send(to(listener.url, key), news(), PRIVATE)
        assert len(listener.requests) == 1
        assert elsewhere.requests == []


async def test_receiver_that_hangs_or_drips_is_given_up(
    listener: Receiver, key: str, monkeypatch: pytest.MonkeyPatch, on_time: OnTime
) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", 1.0)
    behaviours: list[Behaviour] = [lambda _: None, Answer(200, drip=0.2)]
    for behaviour in behaviours:
        listener.answer = behaviour
        before = time.monotonic()
        with pytest.raises(DeliveryFailed, match=r"^127\.0\.0\.1 did not answer within 1 s$"):
            await send(to(listener.url, key), news(), PRIVATE)
        on_time(time.monotonic() - before < 5, before)


async def test_body_without_an_end_does_not_hold_up_a_delivery(
    listener: Receiver, key: str
) -> None:
    listener.answer = Answer(200, body=b"x" * 50_000_000)
    await send(to(listener.url, key), news(), PRIVATE)


async def test_nobody_there_is_a_failure_in_one_line(key: str) -> None:
    for url in (f"http://127.0.0.1:{free_port()}/s3cr3t", "http://nobody.invalid/s3cr3t"):
        with pytest.raises(DeliveryFailed) as refused:
            await send(to(url, key), news(), PRIVATE)
        assert "s3cr3t" not in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]", "0.0.0.0"])
async def test_own_network_is_out_of_reach(key: str, host: str) -> None:
    with receiver() as running:
        url = f"https://{host}:{running.url.rpartition(':')[2]}"
        with pytest.raises(DeliveryFailed, match=r"private network: set PREFECTURE_ALLOW_PRIVATE"):
            await send(to(url, key), news(), PUBLIC)
        with pytest.raises(OperatorError, match=r"'gallery': .* is in a private network"):
            await check(to(url, key), PUBLIC)
        assert running.requests == []


async def test_http_is_refused_where_private_networks_are(listener: Receiver, key: str) -> None:
    with pytest.raises(DeliveryFailed, match="use https"):
        await send(to("http://example.org/", key), news(), PUBLIC)
    with pytest.raises(OperatorError, match="use https"):
        await check(to("http://example.org/", key), PUBLIC)
    await check(to(listener.url, key), PRIVATE)


async def test_name_that_does_not_resolve_yet_is_no_reason_to_refuse_it(key: str) -> None:
    await check(to("https://nobody.invalid/", key), PUBLIC)


async def test_certificate_is_checked_for_the_name(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = server_context(tmp_path)
    asked: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        asked.append(name)

    context.sni_callback = note
    with receiver(context) as running:
        port = running.url.rpartition(":")[2]
        with pytest.raises(DeliveryFailed, match=r"localhost cannot be reached: .*certificate"):
            await send(to(f"https://localhost:{port}/", key), news(), PRIVATE)
        assert running.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        tls_context.cache_clear()
        try:
            await send(to(f"https://localhost:{port}/", key), news(), PRIVATE)
        finally:
            tls_context.cache_clear()
        # It connects to an address, and yet speaks to the name.
        assert running.requests[0].headers["host"] == f"localhost:{port}"
        assert {*asked} == {"localhost"}


async def test_address_may_be_a_secret(listener: Receiver, key: str) -> None:
    await save_secret("address", f"{listener.url}/s3cr3t")
    await check(to("secret/address", key), PRIVATE)
    await send(to("secret/address", key), news(), PRIVATE)
    assert listener.requests[0].path == "/s3cr3t"
    await save_secret("address", "s3cr3t")
    with pytest.raises(DeliveryFailed, match="secret/address holds no address") as refused:
        await send(to("secret/address", key), news(), PRIVATE)
    assert "s3cr3t" not in str(refused.value)


async def test_secret_that_is_missing_or_no_key_is_named_with_the_cure(server: Platform) -> None:
    missing = to("https://example.org/", "secret/no-such-key")
    with pytest.raises(OperatorError, match=r"'gallery': there is no block secret/no-such-key"):
        await check(missing, PRIVATE)
    with pytest.raises(DeliveryFailed, match=r"there is no block secret/no-such-key"):
        await send(missing, news(), PRIVATE)
    for value in ("s3cr3t", "whsec_s3cr3t", "whsec_" + "s3cr3t" * 100, "12345", KEY[6:]):
        await save_secret("bad-key", value)
        with pytest.raises(OperatorError, match="secret/bad-key holds no key") as refused:
            await check(to("https://example.org/", "secret/bad-key"), PRIVATE)
        assert value not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%2", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("2002:a00:1::", "2001:db8::1", "100::1"),
    ],
)
def test_address_that_is_not_everyones_is_private(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@given(st.binary(min_size=24, max_size=64), st.uuids(), st.text(), st.text())
def test_signature_is_right_for_any_message_and_wrong_for_any_other(
    raw: bytes, id: object, directory: str, other: str
) -> None:
    secret = "whsec_" + base64.b64encode(raw).decode()
    body = encode(completed(name=directory))
    headers = sign(decode_key(secret, "secret/key"), str(id), int(time.time()), body)
    assert Verifier(secret).verify(body, headers) == json.loads(body)
    forged = headers | {"webhook-id": f"{id}{other}"}
    if other:
        with pytest.raises(WebhookVerificationError):
            Verifier(secret).verify(body, forged)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1e9", None),
        ("nan", None),
        ("Fri, 01 Jan 2027 00:01:00 GMT", 60.0),
        ("Thu, 31 Dec 2026 00:00:00 GMT", 0.0),
        ("Fri, 99 Jan 2027 00:01:00 GMT", None),
        (f"Fri, 01 Jan {'9' * 20} 00:01:00 GMT", None),
        (f"Fri, 01 Jan 2027 00:01:00 +{'9' * 20}", None),
    ],
)
def test_time_to_come_back_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, datetime(2027, 1, 1, tzinfo=UTC)) == seconds
