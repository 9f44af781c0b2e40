"""E-mail, handed to the operator's SMTP server."""

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

_TIMEOUT = 30.0  # seconds for a whole e-mail: some servers greet slowly, to put off spammers
_SILENCE = 10.0  # seconds without a byte
_PORTS = {"none": 25, "starttls": 587, "tls": 465}
_MAX_SUBJECT = 200  # characters
_PERMANENT = 500  # replies from here on are final: RFC 5321, 4.2.1
_LOGIN_WANTED = 530  # RFC 4954

_plain = Environment()  # not HTML: nothing to escape
_SUBJECT, _TEXT = _plain.from_string(SUBJECT), _plain.from_string(TEXT)


async def send(email: Email, message: EmailMessage) -> None:
    """Hand an e-mail to the server.

    Raises DeliveryFailed unless it is taken for all recipients, and DeliveryRefused where the
    server's answer is final.
    """
    password = email.smtp.password and await read_secret(email.smtp.password)
    # Made here and connected in the thread, by its constructor: whatever the thread then waits for
    # ends when the connection is shut from here.
    kind = _OverTls if email.smtp.tls == "tls" else smtplib.SMTP
    connection = kind.__new__(kind)
    try:
        async with asyncio.timeout(_TIMEOUT):
            await asyncio.to_thread(_hand_over, connection, email, password, message)
    except TimeoutError as error:
        raise DeliveryFailed(
            f"{email.smtp.host} took over {_TIMEOUT:.0f} s for an e-mail"
        ) from error
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        kind = DeliveryRefused if _is_final(error) else DeliveryFailed
        raise kind(_reason(error, email)) from error
    finally:
        if connection.sock is not None:
            with suppress(OSError):  # the thread was faster, and has closed it
                connection.sock.shutdown(socket.SHUT_RDWR)


async def check(email: Email) -> None:
    """Raises DeliveryFailed where the password is missing."""
    if email.smtp.password is not None:
        await read_secret(email.smtp.password)


class _OverTls(smtplib.SMTP_SSL):
    """Checks the server's certificate, which the base does for a given context alone."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout, context=httpx.create_ssl_context())


def compose(email: Email, id: UUID, ended: JobEnded) -> EmailMessage:
    """The e-mail about a job's end, under an id that is the same at each try."""
    said = {"event": {"payload": ended.model_dump(mode="json")}}
    return _compose(email, id, _SUBJECT.render(said), _TEXT.render(said))


def compose_digest(email: Email, id: UUID, ends: Sequence[JobEnd]) -> EmailMessage:
    """The same about the ends of several jobs."""
    return _compose(email, id, digest_subject(ends), digest_text(ends))


def _compose(email: Email, id: UUID, subject: str, text: str) -> EmailMessage:
    sender = Address("Prefecture", addr_spec=email.smtp.sender)
    message = EmailMessage(FOR_SMTP)
    message["From"] = sender
    message["To"] = [Address(addr_spec=address) for address in email.to]
    message["Subject"] = " ".join(_printable(subject).split())[:_MAX_SUBJECT]
    message["Date"] = localtime()
    message["Message-ID"] = f"<{id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies, please
    message.set_content(_printable(text), cte="quoted-printable")  # any server takes that
    return message


def _printable(text: str) -> str:
    """Names and reasons come from jobs: no control or invisible character of theirs gets through.

    Of half a character, a surrogate, none could be encoded.
    """
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else " " for c in text)


def _hand_over(
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
        with suppress(smtplib.SMTPException, OSError):  # it is taken, whatever follows
            connection.quit()
    finally:
        connection.close()


def _is_final(error: Exception) -> bool:
    """Whether the server will never take this message: a reply 5yz to it or to all its recipients.

    Not where it refuses the connection, the log-in or a sender who has not logged in: that is
    between the server and the operator, and the message may still be taken once it is mended.
    """
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            codes = [code for code, _ in refused.values()]
        case smtplib.SMTPSenderRefused(smtp_code=code) | smtplib.SMTPDataError(smtp_code=code):
            codes = [code]
        case _:
            return False
    return all(code >= _PERMANENT and code != _LOGIN_WANTED for code in codes)


def _reason(error: Exception, email: Email) -> str:
    """What went wrong, in one line."""
    host = email.smtp.host
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=refused):
            told = (f"{address} ({_reply(*reply)})" for address, reply in refused.items())
            return f"{host} refuses {', '.join(told)}"
        case smtplib.SMTPAuthenticationError(smtp_code=code):
            return (
                f"{host} refuses to log in {email.smtp.user} ({code}): check smtp.user and what "
                f"{email.smtp.password} holds"
            )
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
            return f"{host} answered {_reply(code, text)}"
        case smtplib.SMTPNotSupportedError():
            return f"{host}: {error}: see to the server, or change smtp.tls or smtp.user"
        case UnicodeError():
            return f"{host} takes ASCII alone: check smtp.user and what {email.smtp.password} holds"
        case _:
            return f"{host} cannot be reached: {' '.join(str(error).split()) or 'timed out'}"


def _reply(code: int, text: bytes | str) -> str:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(_printable(said).split())[:_MAX_SUBJECT]}"
