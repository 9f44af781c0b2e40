"""The report's page and its charts: what they say, and that they need nothing else."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tasks.history.database import History, open_history
from tasks.history.queries import Answer, Query, ask, by_minute, read_attempts
from tasks.history.reports import shapes
from tasks.history.reports.charts import png
from tasks.history.reports.page import Report, make_report, percent, seconds, size
from tasks.settings import Settings
from tests.tasks.history.lives import Row, last, lives
from tests.tasks.history.test_store import write

HOUR = timedelta(hours=1)


def answered(history: History, since: datetime) -> tuple[Answer, Report]:
    query = Query(since)
    with history.reading() as connection:
        answer, attempts = ask(connection, query), read_attempts(connection, query)
        minutes = by_minute(connection, query)
    disk = (3 * 10**11, 10**12)
    return answer, make_report(answer, attempts, query.period, 4, disk, minutes)


@pytest.fixture
def begin() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)


@pytest.fixture
def rows(begin: datetime) -> list[Row]:
    every = lives(5, 60, begin, timedelta(hours=30))
    return [row for life in every for row in last(life)]


@pytest.fixture
def filled(tmp_path: Path, rows: list[Row]) -> History:
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        write(history, rows)
    return history


def test_it_says_what_happened_and_needs_nothing(
    history: History, rows: list[Row], begin: datetime
) -> None:
    write(history, rows)
    answer, report = answered(history, begin)
    jobs = {row["job"] for row in rows}
    assert report.summary["received"] == len(jobs)
    completed = {row["job"] for row in rows if row["state"] == "COMPLETED"}
    assert report.summary["completed"] == len(completed)
    assert report.summary["published_ever"] == sum(row["published_bytes"] or 0 for row in rows)
    assert [chart.name for chart in report.charts] == [
        *("throughput", "utilisation", "busiest", "durations", "outcomes", "storage")
    ]
    assert all(chart.svgs for chart in report.charts)
    assert answer.slowest[0]["ran"] == max(job["ran"] for job in answer.slowest)
    assert f"<code>{answer.slowest[0]['job']}</code>" in report.html
    assert "var(--ink)" in report.html
    assert "#010203" not in report.html
    outside = re.findall(r"(?:src|href)=|url\((?!#|&#34;#|'#)", report.html)
    assert outside == [], "a page that asks for something"
    assert len(report.html) < 2**20


def test_an_empty_history(tmp_path: Path) -> None:
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        for since in (HOUR, timedelta(days=200)):
            _, report = answered(history, datetime.now(UTC) - since)
            assert "Nothing yet." in report.html
            assert report.summary["received"] == 0


def test_a_name_is_text_and_no_markup(tmp_path: Path, rows: list[Row], begin: datetime) -> None:
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        write(history, [row | {"task": "<script>alert(1)</script>"} for row in rows])
        _, report = answered(history, begin)
    assert "<script" not in report.html


def test_longer_spans_are_counted_by_day(filled: History, rows: list[Row], begin: datetime) -> None:
    answer, report = answered(filled, begin - timedelta(days=100))
    assert {at.hour for at in answer.periods["start"].to_list()} == {0}
    assert report.summary["received"] == len({row["job"] for row in rows})
    assert "busiest" not in [chart.name for chart in report.charts], "days have no hours"


@pytest.mark.parametrize(
    ("ago", "length", "grain"),
    [
        (HOUR, HOUR / 2, "minute"),
        (timedelta(hours=20), timedelta(hours=10), "hour"),
        (timedelta(days=30), timedelta(days=29), "day"),
    ],
)
def test_charts_show_as_much_as_there_is(
    tmp_path: Path, ago: timedelta, length: timedelta, grain: str
) -> None:
    now = datetime.now(UTC)
    rows = [row for life in lives(3, 80, now - ago, length) for row in last(life)]
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        write(history, rows)
        answer, report = answered(history, now - timedelta(days=40))
    assert shapes.grain(answer, "hour") == grain
    captions = {chart.name: chart.caption for chart in report.charts}
    assert captions["throughput"] == f"Jobs completed in each {grain}, by task."
    assert all(chart.svgs for chart in report.charts)
    assert ("busiest" in captions) is (grain != "minute"), "one cell says nothing"
    marks = report.charts[0].svgs[0].count('aria-roledescription="bar"')
    assert 5 <= marks <= 400, "neither one bar nor a hedge of them"


def test_jobs_at_work(begin: datetime) -> None:
    at = begin.replace(tzinfo=None)
    work = [
        (at - HOUR, at + HOUR / 2),  # since before the report
        (at + HOUR / 2, at + 3 * HOUR / 2),  # across an hour's end
        (at + 3 * HOUR / 2, None),  # still
    ]
    attempts = pl.DataFrame(
        work, schema={"started": pl.Datetime("us"), "ended": pl.Datetime("us")}, orient="row"
    )
    busy = shapes.busy(attempts, "hour", begin, begin + 3 * HOUR)
    assert busy["busy"].to_list() == [1.0, 1.0, 1.0, 0.0]
    half = shapes.busy(attempts.head(2), "minute", begin, begin + HOUR)
    assert half["busy"].to_list() == [1.0] * 61


def test_a_chart_as_an_image(filled: History, begin: datetime) -> None:
    _, report = answered(filled, begin)
    assert all(png(svg).startswith(b"\x89PNG") for chart in report.charts for svg in chart.svgs)


def test_words() -> None:
    assert [seconds(value) for value in (None, 0.004, 12.34, 90, 7260)] == [
        *("-", "4 ms", "12.3 s", "1 min 30 s", "2 h 1 min")
    ]
    assert [size(value) for value in (0, 999, 1500, 2.5e9, 3e15)] == [
        *("0 bytes", "999 bytes", "1.5 kB", "2.5 GB", "3000.0 TB")
    ]
    assert [percent(value) for value in (None, 0.1234)] == ["-", "12.3%"]
