"""What people read in chats and mails: names of jobs are shown, and do nothing."""

import json
from functools import cache
from typing import Any

import pytest
from apprise import NotifyFormat
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.slack import NotifySlack
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markdown_it import MarkdownIt

from deployments.notifications.wording import SUBJECT, TEXT, written_for
from tasks.runtime.events import JobEnded
from tests.support.outcomes import completed, failed
from tests.support.web.receiver import receiver

NASTY = [
    *("<!channel>", "<!here|all>", "!channel>", "<@U6TTX1F9R>", "&lt;!channel&gt;"),
    *(
        "<https://evil.example|holiday>",
        "[holiday](https://evil.example)",
        "![x](https://e.example)",
    ),
    *("@everyone", "<@1234>", "<@&5678>", "*bold* _it_ ~no~ `code` ||hidden||", "# big", "- item"),
    *("<img src=https://evil.example>", "a\\*b", '"quoted"', "{{ event }}", "1. one"),
]


@cache
def templates(kind: str) -> list[Template]:
    environment = ImmutableSandboxedEnvironment()  # as Prefect's server has it
    return [environment.from_string(part) for part in written_for(kind)]


def rendered(kind: str, ended: JobEnded) -> tuple[str, str]:
    said = {"event": {"payload": ended.model_dump(mode="json")}}
    subject, text = (template.render(said) for template in templates(kind))
    return subject, text


def ends_with(text: str) -> list[JobEnded]:
    return [
        failed(task=text, results_directory=text, reason=text),
        completed(task=text, results_directory=text, location=text),
    ]


@pytest.mark.parametrize("nasty", NASTY)
def test_slack_mentions_nobody_and_shows_no_other_link(nasty: str) -> None:
    with receiver() as slack:
        client = NotifySlack(token_a="T" * 9, token_b="B" * 9, token_c="c" * 24)
        client.webhook_url = slack.url
        client.request_rate_per_sec = 0
        for ended in ends_with(nasty):
            subject, text = rendered("slack-webhook", ended)
            client.notify(body=text, title=subject)
    said = [json.loads(request.body) for request in slack.requests]
    assert len(said) == 2
    for message in said:
        texts = json.dumps(message, ensure_ascii=False)
        assert "<!" not in texts
        assert "<@" not in texts
        assert "<http" not in texts


@pytest.mark.parametrize("nasty", NASTY)
def test_markdown_shows_a_name_as_it_is(nasty: str) -> None:
    for kind in ("discord-webhook", "mattermost-webhook", "ms-teams-webhook"):
        for ended in ends_with(nasty):
            subject, _ = rendered(kind, ended)
            (paragraph,) = MarkdownIt("commonmark").parseInline(subject)
            assert {part.type for part in paragraph.children or ()} == {"text"}
            said = "".join(part.content for part in paragraph.children or ())
            shown = nasty.replace("@", "@\u200b")
            assert said == f"{shown} {shown}: {ended.model_dump()['outcome']}"


@pytest.mark.parametrize("nasty", ["@everyone", "@here", "<@1234>", "<@&5678>"])
def test_discord_pings_nobody(nasty: str) -> None:
    client: Any = NotifyDiscord(webhook_id="1" * 18, webhook_token="t" * 68)
    client.notify_format = NotifyFormat.MARKDOWN
    for ended in ends_with(nasty):
        assert not client.ping_payload(rendered("discord-webhook", ended)[1])


@pytest.mark.parametrize("nasty", NASTY)
def test_html_has_no_tag_but_ours(nasty: str) -> None:
    for ended in ends_with(nasty):
        subject, text = rendered("sendgrid-email", ended)
        assert "<" not in subject + text.replace("<br>", "")


def test_what_takes_plain_text_gets_it() -> None:
    assert written_for("custom-webhook") == (SUBJECT, TEXT)
    subject, _ = rendered("custom-webhook", ends_with("<a> & *b*")[0])
    assert subject == "<a> & *b* <a> & *b*: failed"
