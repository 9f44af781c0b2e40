"""E-mail to a real SMTP server, with a log-in and TLS as servers have them."""

import asyncio
import socketserver
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.notifications.channels import Digest, Notification, check, mail, send
from deployments.notifications.channels.mail import compose
from deployments.notifications.subscribers import Email, Smtp, Subscriber
from tasks.errors import DeliveryFailed, DeliveryRefused, OperatorError
from tasks.settings import Settings
from tests.support.blocks import save_secret
from tests.support.outcomes import cancelled, completed, failed
from tests.support.platform import Platform, free_port
from tests.support.session.on_time import OnTime
from tests.support.web.certificates import server_context

SETTINGS = Settings()
PASSWORD = "hunter2 s3cr3t"


@dataclass
class Mailbox:
    """What a server has taken, and what it refuses."""

    port: int
    mails: list[tuple[Envelope, EmailMessage]] = field(
        default_factory=list[tuple[Envelope, EmailMessage]]
    )
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Recipients, with what they are refused with."""
    answer: str = "250 taken"
    logins: list[str] = field(default_factory=list[str])

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            content = cast(bytes, envelope.content)
            parsed = message_from_bytes(content, policy=policy.default)
            self.mails.append((envelope, parsed))
        return self.answer

    def login(self, server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and data.password.decode() == PASSWORD
        self.logins.append(data.login.decode())
        return AuthResult(success=known, handled=False)


@contextmanager
def server(context: ssl.SSLContext | None = None, tls: str = "starttls") -> Generator[Mailbox]:
    """A mail server on 127.0.0.1; with TLS it takes no mail without a log-in."""
    mailbox = Mailbox(free_port())
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=mailbox.port,
        ssl_context=context if tls == "tls" else None,
        tls_context=context if tls == "starttls" else None,
        require_starttls=context is not None and tls == "starttls",
        authenticator=mailbox.login if context else None,
        auth_required=context is not None and tls == "starttls",
        # Where all of it is over TLS, aiosmtpd does not know that it is.
        auth_require_tls=tls == "starttls",
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@contextmanager
def talker(line: bytes, pause: float | None) -> Generator[int]:
    """A server that says one line, again after each pause, until it is hung up on. Its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.connection.settimeout(pause)
            self.wfile.write(line)
            while True:
                try:
                    if not self.connection.recv(100):
                        return
                except TimeoutError:
                    self.wfile.write(line)
                except OSError:
                    return

    # Closed, it waits for its handlers.
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture
def mailbox() -> Generator[Mailbox]:
    with server() as running:
        yield running


def to(port: int, *recipients: str, **smtp: Any) -> Subscriber:
    server = {"host": "127.0.0.1", "port": port, "tls": "none", "from": "jobs@example.org"}
    email = {"to": list(recipients or ["anna@example.org"]), "smtp": server | smtp}
    return Subscriber.model_validate({"name": "anna", "to": {"email": email}})


async def test_person_reads_what_became_of_the_job(mailbox: Mailbox) -> None:
    done, broken, stopped = completed(files=1), failed(attempts=1), cancelled()
    for ended in (done, broken, stopped):
        await send(to(mailbox.port), Notification(uuid4(), ended), SETTINGS)
    [(envelope, first), (_, second), (_, third)] = mailbox.mails
    assert envelope.mail_from == "jobs@example.org"
    assert envelope.rcpt_tos == ["anna@example.org"]
    assert first["From"] == "Prefecture <jobs@example.org>"
    assert first["To"] == "anna@example.org"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"].datetime is not None
    assert first["Subject"] == "find-primes primes/höhere: completed"
    text = first.get_content().replace("\r\n", "\n")
    assert text.startswith("find-primes for primes/höhere has completed.\n\n1 file, 12.0 kB, in\n")
    assert done.location in text
    assert "It waited 0 s and ran 62 s, in 2 attempts." in text
    assert f"prefecture results {done.job}" in text
    assert second["Subject"] == "find-primes primes/höhere: failed"
    assert broken.reason in second.get_content()
    assert "in 1 attempt." in second.get_content()
    assert third["Subject"].endswith(": cancelled")
    assert "was cancelled" in third.get_content()


async def test_second_try_is_the_same_message(mailbox: Mailbox) -> None:
    notification = Notification(uuid4(), completed())
    mailbox.answer = "451 come back later"
    with pytest.raises(DeliveryFailed, match=r"^127\.0\.0\.1 answered 451 come back later$"):
        await send(to(mailbox.port), notification, SETTINGS)
    mailbox.answer = "250 taken"
    for _ in range(2):
        await send(to(mailbox.port), notification, SETTINGS)
    ids = [message["Message-ID"] for _, message in mailbox.mails]
    assert ids == [f"<{notification.id}@example.org>"] * 2


async def test_refused_recipient_is_named_with_the_reason(mailbox: Mailbox) -> None:
    mailbox.refused = {"gone@example.org": "550 no such user", "slow@example.org": "450 greylisted"}
    with pytest.raises(DeliveryFailed, match=r"refuses gone@example\.org \(550 no such user\)$"):
        await send(
            to(mailbox.port, "gone@example.org"), Notification(uuid4(), completed()), SETTINGS
        )
    assert mailbox.mails == []
    with pytest.raises(DeliveryFailed, match=r"refuses slow@example\.org \(450 greylisted\)$"):
        await send(
            to(mailbox.port, "anna@example.org", "slow@example.org"),
            Notification(uuid4(), completed()),
            SETTINGS,
        )
    assert [envelope.rcpt_tos for envelope, _ in mailbox.mails] == [["anna@example.org"]]


@pytest.mark.parametrize(
    ("recipient", "data", "final"),
    [
        ("550 no such user", "250 taken", True),
        ("552 mailbox full", "250 taken", True),
        ("450 greylisted", "250 taken", False),
        ("421 going down", "250 taken", False),
        ("530 log in first", "250 taken", False),
        ("", "554 looks like spam", True),
        ("", "552 too big", True),
        ("", "451 come back later", False),
    ],
)
async def test_only_a_reply_5yz_to_the_message_is_final(
    mailbox: Mailbox, recipient: str, data: str, final: bool
) -> None:
    mailbox.refused = {"anna@example.org": recipient} if recipient else {}
    mailbox.answer = data
    with pytest.raises(DeliveryFailed) as refused:
        await send(to(mailbox.port), Notification(uuid4(), completed()), SETTINGS)
    assert isinstance(refused.value, DeliveryRefused) is final


async def test_server_that_takes_no_mail_at_all_is_tried_again() -> None:
    with (
        talker(b"554 no mail service here\r\n", None) as port,
        pytest.raises(DeliveryFailed, match="554") as refused,
    ):
        await send(to(port), Notification(uuid4(), completed()), SETTINGS)
    assert not isinstance(refused.value, DeliveryRefused)


async def test_a_thousand_failures_are_one_mail(mailbox: Mailbox) -> None:
    ends = [failed(results_directory=f"d{n}") for n in range(1000)]
    done = completed(results_directory="a\r\nBcc: eve@example.org\r\n\r\nb", location="/x\n.\n/y")
    await send(to(mailbox.port), Digest(uuid4(), [done, *ends]), SETTINGS)
    ((_, message),) = mailbox.mails
    assert message["Subject"] == "1,001 jobs: 1,000 failed, 1 completed"
    assert message["Bcc"] is None
    lines = message.get_content().splitlines()
    assert lines[2] == f"find-primes for d0: failed: {ends[0].reason} ({ends[0].job})"
    assert lines[-1] == "and 801 more: prefecture inbox"
    assert len(lines) == 203
    await send(to(mailbox.port), Digest(uuid4(), [done, failed()]), SETTINGS)
    lines = mailbox.mails[-1][1].get_content().splitlines()
    assert len(lines) == 4, "what did not complete first, each in one line"
    assert "failed" in lines[2]
    assert "Bcc: eve@example.org b: completed: /x . /y" in lines[3]


@pytest.fixture(scope="module")
def password(process_platform: Platform) -> Generator[str]:
    """The name of a Secret block, on the server that the tests' client talks to."""
    with temporary_settings({PREFECT_API_URL: process_platform.api}):
        asyncio.run(save_secret("mail-password", PASSWORD))
        yield "secret/mail-password"


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_login_goes_over_tls_to_a_server_with_a_certificate(
    password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    context, trusted = server_context(tmp_path)
    with server(context, tls) as secure:
        login = {"host": "localhost", "tls": tls, "user": "prefecture", "password": password}
        notification = Notification(uuid4(), completed())
        with pytest.raises(DeliveryFailed, match=r"localhost cannot be reached: .*certificate"):
            await send(to(secure.port, **login), notification, SETTINGS)
        assert secure.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        await send(to(secure.port, **login), notification, SETTINGS)
        assert len(secure.mails) == 1
        assert secure.logins == ["prefecture"]
        await save_secret("wrong-password", "s3cr3t wrong")
        login["password"] = "secret/wrong-password"
        with pytest.raises(
            DeliveryFailed, match=r"refuses to log in prefecture \(535\)"
        ) as refused:
            await send(to(secure.port, **login), notification, SETTINGS)
        assert "secret/wrong-password" in str(refused.value)
        assert "s3cr3t" not in str(refused.value)


async def test_nothing_is_sent_in_clear_where_tls_is_wanted(mailbox: Mailbox) -> None:
    with pytest.raises(DeliveryFailed, match=r"STARTTLS.*change smtp\.tls"):
        await send(to(mailbox.port, tls="starttls"), Notification(uuid4(), completed()), SETTINGS)
    assert mailbox.mails == []


async def test_password_that_is_missing_is_named_with_the_cure(password: str) -> None:
    subscriber = to(25, tls="tls", user="prefecture", password="secret/no-such-password")
    with pytest.raises(OperatorError, match=r"'anna': there is no block secret/no-such-password"):
        await check(subscriber, SETTINGS)
    await check(to(25, tls="tls", user="prefecture", password=password), SETTINGS)


async def test_server_that_is_away_hangs_or_drips_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    on_time: OnTime,
) -> None:
    notification = Notification(uuid4(), completed())
    with pytest.raises(DeliveryFailed, match=r"^127\.0\.0\.1 cannot be reached: .*refused$"):
        await send(to(free_port()), notification, SETTINGS)
    monkeypatch.setattr(mail, "_TIMEOUT", 1.5)
    monkeypatch.setattr(mail, "_SILENCE", 0.5)
    for line, pause in ((b"", None), (b"220 hello\r\n", None), (b"220-wait\r\n", 0.1)):
        with talker(line, pause) as port:
            before = time.monotonic()
            with pytest.raises(DeliveryFailed, match=r"^127\.0\.0\.1 "):
                await send(to(port), notification, SETTINGS)
            on_time(time.monotonic() - before < 5, before)


@pytest.mark.parametrize("tls", ["none", "tls"])
async def test_silence_is_not_reported_as_a_slow_mail(
    monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    monkeypatch.setattr(mail, "_TIMEOUT", 240.0)
    monkeypatch.setattr(mail, "_SILENCE", 0.2)
    with talker(b"", None) as port, pytest.raises(DeliveryFailed, match=r"cannot be reached: .*ti"):
        await send(to(port, tls=tls), Notification(uuid4(), completed()), SETTINGS)


@settings(max_examples=30, deadline=None)
@given(st.text(), st.text(), st.text())
def test_no_name_or_reason_can_add_a_header_or_break_the_mail(
    task: str, directory: str, reason: str
) -> None:
    smtp = Smtp.model_validate({"host": "mail.example.org", "from": "jobs@example.org"})
    email = Email(to=["anna@example.org"], smtp=smtp)
    for nasty in ("", "\r\nBcc: eve@example.org\r\n\r\n", "\n.\n", "\x00\x1b[2J", "\ud800"):
        ended = failed().model_copy(
            update={
                "task": task + nasty,
                "results_directory": nasty + directory,
                "reason": nasty + reason,
            }
        )
        message = message_from_bytes(
            compose(email, uuid4(), ended).as_bytes(), policy=policy.default
        )
        assert sorted(message.keys()) == sorted(
            [
                *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
                *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
            ]
        )
        assert len(message["Subject"]) <= 210
