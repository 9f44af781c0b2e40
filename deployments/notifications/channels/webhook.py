"""Webhooks by the Standard Webhooks specification, signed with a shared key.

Source: https://github.com/standard-webhooks/standard-webhooks, version 1 signatures (symmetric).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from ssl import SSLContext
from typing import Any
from uuid import UUID

import httpx

from deployments.notifications.channels.addresses import Unresolved, resolve
from deployments.notifications.channels.secret_blocks import read_secret
from deployments.notifications.subscribers import SECRET, Webhook, parse_url
from tasks.errors import DeliveryFailed, DeliveryRefused
from tasks.runtime.events import JobEnded

DIGEST = "prefecture.jobs.ended"
"""The type of a message about several jobs."""

_TIMEOUT = 10.0  # seconds for the request: a receiver may hang, or answer a byte at a time
_KEY_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # by the specification
_PORTS = {"http": 80, "https": 443}
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


async def send(webhook: Webhook, id: UUID, body: bytes, allow_private: bool) -> None:
    """POST a signed message.

    Raises DeliveryRefused where the answer is 410, by which a receiver unsubscribes (Standard
    Webhooks), and DeliveryFailed where it is not 2xx.
    """
    url = await _read_url(webhook, allow_private)
    key = decode_key(await read_secret(webhook.secret), webhook.secret)
    headers = sign(key, str(id), int(time.time()), body)
    try:
        async with asyncio.timeout(_TIMEOUT):
            answer = await _post(url, headers, body, allow_private)
    except TimeoutError as error:
        raise DeliveryFailed(f"{url.host} did not answer within {_TIMEOUT:.0f} s") from error
    except httpx.TransportError as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise DeliveryFailed(f"{url.host} cannot be reached: {why}") from error
    if answer.is_redirect:
        raise DeliveryFailed(
            f"{url.host} answered {answer.status_code}, a redirect, which is not followed: "
            "configure the final address"
        )
    if answer.status_code == HTTPStatus.GONE:
        raise DeliveryRefused(f"{url.host} answered {HTTPStatus.GONE.value}")
    if not answer.is_success:
        after = answer.headers.get("retry-after") if answer.status_code in _BUSY else None
        raise DeliveryFailed(
            f"{url.host} answered {answer.status_code}",
            retry_after=None if after is None else parse_retry_after(after),
        )


async def check(webhook: Webhook, allow_private: bool) -> None:
    """Check secret and address. Raises DeliveryFailed where one is missing or not allowed."""
    decode_key(await read_secret(webhook.secret), webhook.secret)
    url = await _read_url(webhook, allow_private)
    try:
        await _resolve(url, allow_private)
    except Unresolved:
        return  # it may resolve later: each delivery resolves it again


def encode(event: JobEnded) -> bytes:
    """The body about one job: the same bytes at each try."""
    return _encode(event.name_of_event, event.ended, event.model_dump(mode="json"))


def encode_digest(events: Sequence[JobEnded]) -> bytes:
    """The body about several jobs, in the order in which they ended."""
    data = {"version": 1, "jobs": [event.model_dump(mode="json") for event in events]}
    return _encode(DIGEST, max(event.ended for event in events), data)


def _encode(kind: str, at: datetime, data: dict[str, Any]) -> bytes:
    body = {"type": kind, "timestamp": at.isoformat(), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def sign(key: bytes, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers with id, time and signature, by which a receiver verifies and deduplicates.

    `timestamp`: the time of this try, in seconds of Unix time.
    """
    signed = b".".join([id.encode(), str(timestamp).encode(), body])
    digest = hmac.digest(key, signed, hashlib.sha256)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def decode_key(secret: str, name: str) -> bytes:
    """Decode the signing key. Raises DeliveryFailed, which names the block, where it is no key."""
    try:
        key = base64.b64decode(secret.removeprefix(_KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_KEY_PREFIX) or len(key) not in _KEY_BYTES:
        raise DeliveryFailed(
            f"{name} holds no key for signatures: save the output of "
            '`echo "whsec_$(openssl rand -base64 32)"` in it'
        )
    return key


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """The seconds to wait that a Retry-After header gives, as a number or a date; else None."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


async def _read_url(webhook: Webhook, allow_http: bool) -> httpx.URL:
    """The address of a webhook, read from its Secret block where it is in one."""
    hidden = webhook.url.startswith(SECRET)
    try:
        url = parse_url(await read_secret(webhook.url) if hidden else webhook.url)
    except ValueError:  # its message may show a part of a secret
        raise DeliveryFailed(
            f"{webhook.url} holds no address: save https://… in it, without user, password and #…"
        ) from None
    if url.scheme == "http" and not allow_http:
        raise DeliveryFailed(
            f"http:// to {url.host} is not encrypted: use https://, or set "
            "PREFECTURE_ALLOW_PRIVATE_WEBHOOKS=true for a network of your own"
        )
    return url


async def _resolve(url: httpx.URL, allow_private: bool) -> list[str]:
    port = url.port or _PORTS[url.scheme]
    return await resolve(url.raw_host.decode("ascii"), port, allow_private)


@cache
def tls_context() -> SSLContext:
    """TLS with the authorities of SSL_CERT_FILE or SSL_CERT_DIR, else those browsers trust."""
    return httpx.create_ssl_context()


async def _post(
    url: httpx.URL, headers: dict[str, str], body: bytes, allow_private: bool
) -> httpx.Response:
    """Send the request; return status and headers, without reading the body."""
    addresses = await _resolve(url, allow_private)
    headers |= {
        "host": url.netloc.decode("ascii"),
        "content-type": "application/json",
        "user-agent": "prefecture",
    }
    extensions = {
        "sni_hostname": url.raw_host.decode("ascii"),  # the certificate is checked for this name
        "timeout": {"connect": _TIMEOUT / len(addresses)},
    }
    failure: Exception = Unresolved(f"{url.host} has no address")
    # A client would log the whole address; a proxy could connect to any address.
    async with httpx.AsyncHTTPTransport(verify=tls_context(), trust_env=False) as transport:
        for address in addresses:
            request = httpx.Request(
                *("POST", url.copy_with(host=address)),
                headers=headers,
                content=body,
                extensions=extensions,
            )
            try:
                answer = await transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            else:
                await answer.aclose()
                return answer
    raise failure
