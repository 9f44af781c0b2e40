"""E-mail, sent through the operator's SMTP server."""

import asyncio
import smtplib
import socket
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as FOR_SMTP
from email.utils import localtime
from uuid import UUID

import httpx
from jinja2 import Environment

from deployments.notifications.channels.secret_blocks import read_secret
from deployments.notifications.schema import JobEnd
from deployments.notifications.subscribers import Email
from deployments.notifications.wording import SUBJECT, TEXT, digest_subject, digest_text
from tasks.errors import DeliveryFailed, DeliveryRefused
from tasks.runtime.events import JobEnded

_TIMEOUT = 30.0  # seconds for a whole e-mail: some servers greet slowly, against spam
_SILENCE = 10.0  # seconds without a byte
_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_MAX_SUBJECT = 200  # characters
_PERMANENT = 500  # codes from 500 are final: RFC 5321, 4.2.1
_LOGIN_REQUIRED = 530  # RFC 4954

_plain = Environment()  # not HTML: nothing to escape
_SUBJECT, _TEXT = _plain.from_string(SUBJECT), _plain.from_string(TEXT)


async def send(email: Email, message: EmailMessage) -> None:
    """Send an e-mail to the SMTP server.

    Raises DeliveryRefused where the server refuses it for good, and DeliveryFailed unless it is
    accepted for all recipients.
    """
    password = email.smtp.password and await read_secret(email.smtp.password)
    # Created here, connected by its constructor in the thread: shutting the socket from here ends
    # any call in which the thread blocks.
    kind = _OverTls if email.smtp.tls == "tls" else smtplib.SMTP
    connection = kind.__new__(kind)
    limit = asyncio.timeout(_TIMEOUT)
    try:
        async with limit:
            await asyncio.to_thread(_transmit, connection, email, password, message)
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        if limit.expired():
            raise DeliveryFailed(
                f"{email.smtp.host} took over {_TIMEOUT:.0f} s for an e-mail"
            ) from error
        kind = DeliveryRefused if _is_final(error) else DeliveryFailed
        raise kind(_reason(error, email)) from error
    finally:
        if connection.sock is not None:
            with suppress(OSError):  # the thread has closed it already
                connection.sock.shutdown(socket.SHUT_RDWR)


async def check(email: Email) -> None:
    """Check that the password exists. Raises DeliveryFailed where it does not."""
    if email.smtp.password is not None:
        await read_secret(email.smtp.password)


class _OverTls(smtplib.SMTP_SSL):
    """SMTP over TLS that checks the certificate: the base class does so only with a context."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=httpx.create_ssl_context())


def compose(email: Email, id: UUID, event: JobEnded) -> EmailMessage:
    """The e-mail about the final state of a job; the id is the same at each try."""
    values = {"event": {"payload": event.model_dump(mode="json")}}
    return _compose(email, id, _SUBJECT.render(values), _TEXT.render(values))


def compose_digest(email: Email, id: UUID, events: Sequence[JobEnd]) -> EmailMessage:
    """The e-mail about the final states of several jobs; the id is the same at each try."""
    return _compose(email, id, digest_subject(events), digest_text(events))


def _compose(email: Email, id: UUID, subject: str, text: str) -> EmailMessage:
    sender = Address("Prefecture", addr_spec=email.smtp.sender)
    message = EmailMessage(FOR_SMTP)
    message["From"] = sender
    message["To"] = [Address(addr_spec=address) for address in email.to]
    message["Subject"] = " ".join(_printable(subject).split())[:_MAX_SUBJECT]
    message["Date"] = localtime()
    message["Message-ID"] = f"<{id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
    message.set_content(_printable(text), cte="quoted-printable")  # every server accepts it
    return message


def _printable(text: str) -> str:
    """Replace control, invisible and surrogate characters: names and reasons come from jobs.

    A surrogate could not be encoded.
    """
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in text)


def _transmit(
    connection: smtplib.SMTP, email: Email, password: str | None, message: EmailMessage
) -> None:
    smtp = email.smtp
    try:
        connection.__init__(smtp.host, smtp.port or _PORTS[smtp.tls], timeout=_SILENCE)
        if smtp.tls == "starttls":
            connection.starttls(context=httpx.create_ssl_context())
        if smtp.user is not None and password is not None:
            connection.login(smtp.user, password)
        refused = connection.send_message(message, smtp.sender, email.to)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)
        with suppress(smtplib.SMTPException, OSError):  # the message is accepted already
            connection.quit()
    finally:
        connection.close()


def _is_final(error: Exception) -> bool:
    """Whether the server refuses this message for good: a reply 5yz to it or to all recipients.

    A refused connection, log-in or sender without log-in is not final: the operator can correct
    the configuration, and the message is accepted then.
    """
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            codes = [code for code, _ in refused.values()]
        case smtplib.SMTPSenderRefused(smtp_code=code) | smtplib.SMTPDataError(smtp_code=code):
            codes = [code]
        case _:
            return False
    return all(code >= _PERMANENT and code != _LOGIN_REQUIRED for code in codes)


def _reason(error: Exception, email: Email) -> str:
    """The cause of an error, in one line."""
    host = email.smtp.host
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            refusals = (f"{address} ({_reply(*reply)})" for address, reply in refused.items())
            return f"{host} refuses {', '.join(refusals)}"
        case smtplib.SMTPAuthenticationError(smtp_code=code):
            return (
                f"{host} refuses to log in {email.smtp.user} ({code}): check smtp.user and the "
                f"password in {email.smtp.password}"
            )
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
            return f"{host} answered {_reply(code, text)}"
        case smtplib.SMTPNotSupportedError():
            return f"{host}: {error}: change smtp.tls or smtp.user, or configure the server"
        case UnicodeError():
            return f"{host} accepts only ASCII: check smtp.user and {email.smtp.password}"
        case _:
            return f"{host} cannot be reached: {' '.join(str(error).split()) or 'timed out'}"


def _reply(code: int, text: bytes | str) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(_printable(words).split())[:_MAX_SUBJECT]}"
