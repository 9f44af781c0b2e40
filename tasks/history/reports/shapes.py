"""The answer in the shapes that charts are drawn from. Pure polars."""

from datetime import UTC, datetime, timedelta

import polars as pl

from tasks.history.queries import Answer

_HOUR = 3600.0
_SECONDS = {"minute": 60.0, "hour": _HOUR, "day": 24 * _HOUR}
_EVERY = {"minute": "1m", "hour": "1h", "day": "1d"}
_BY_MINUTE = timedelta(hours=3)  # of data: up to this, charts show minutes
_BY_HOUR = timedelta(days=10)  # and up to this, hours: more bars than there is room for


def begin_of(answer: Answer) -> datetime:
    """The period in which the first thing happened that an answer knows of; its own beginning where
    nothing did."""
    first = answer.periods["start"].min()
    if not isinstance(first, datetime):
        return answer.begin
    return max(answer.begin, first.replace(tzinfo=UTC))


def grain(answer: Answer, period: str) -> str:
    """What charts show an answer in, made of `period`s: minutes, hours or days, as there are data
    for."""
    span = answer.asked - begin_of(answer)
    if period == "day" or span > _BY_HOUR:
        return "day"
    return "minute" if span <= _BY_MINUTE else "hour"


def completed(answer: Answer, period: str) -> pl.DataFrame:
    """start, task, completed."""
    start = pl.col("start").dt.truncate(_EVERY[period])
    counts = answer.periods.group_by(start, "task").agg(pl.col("completed").sum())
    return counts.filter(pl.col("completed") > 0).sort("start", "task")


def rates(answer: Answer, period: str) -> pl.DataFrame:
    """start, rate, share: of the ends that are successes, of the starts that crash, of the attempts
    that are another try."""
    start = pl.col("start").dt.truncate(_EVERY[period])
    counts = answer.periods.group_by(start).agg(
        pl.col("completed", "failed", "crashed", "started").sum()
    )
    ends = pl.col("completed") + pl.col("failed")
    # Tries are counted by the hour.
    takes = answer.takes.clear() if period == "minute" else answer.takes
    takes = takes.group_by(start).agg(pl.col("attempts", "jobs").sum())
    again = pl.col("attempts") - pl.col("jobs")
    parts = [
        _rate(counts, "succeeded", pl.col("completed"), ends),
        _rate(counts, "crashed", pl.col("crashed"), pl.col("started")),
        _rate(takes, "tried again", again, pl.col("attempts")),
    ]
    return pl.concat(parts).sort("start")


def received_by_weekday(answer: Answer) -> pl.DataFrame:
    """weekday (1 Monday), hour, received; of whole days there is no hour."""
    return (
        answer.periods.group_by(
            pl.col("start").dt.weekday().cast(pl.Int64).alias("weekday"),
            pl.col("start").dt.hour().cast(pl.Int64).alias("hour"),
        )
        .agg(pl.col("received").sum())
        .sort("weekday", "hour")
    )


def busy(attempts: pl.DataFrame, period: str, begin: datetime, now: datetime) -> pl.DataFrame:
    """start, busy: how many jobs were at work on average, in every minute, hour or day since
    `begin`, the beginning of one."""
    begin, now = begin.replace(tzinfo=None), now.replace(tzinfo=None)
    every, length = _EVERY[period], _SECONDS[period]
    first, last = pl.col("started").dt.truncate(every), pl.col("ended").dt.truncate(every)
    at_work = (
        attempts.with_columns(pl.col("ended").fill_null(now))
        .with_columns(pl.max_horizontal("started", pl.lit(begin)).alias("started"))
        .filter(pl.col("started") <= pl.col("ended"))
        .with_columns(pl.datetime_ranges(first, last, every).alias("start"))
        .explode("start")
    )
    from_ = pl.max_horizontal("started", "start")
    to = pl.min_horizontal("ended", pl.col("start").dt.offset_by(every))
    seconds = (to - from_).dt.total_microseconds() / 1e6
    counted = at_work.group_by("start").agg(busy=seconds.sum() / length)
    whole = pl.DataFrame({"start": pl.datetime_range(begin, now, every, eager=True)}).with_columns(
        pl.col("start").cast(pl.Datetime("us"))
    )
    filled = whole.join(counted, on="start", how="left").with_columns(pl.col("busy").fill_null(0.0))
    return filled.sort("start")


def published(answer: Answer, period: str) -> pl.DataFrame:
    """start, task, total: bytes since the beginning, for every task in every period."""
    start = pl.col("start").dt.truncate(_EVERY[period])
    made = answer.periods.group_by(start, "task").agg(pl.col("published_bytes").sum())
    made = made.filter(pl.col("published_bytes").sum().over("task") > 0)
    grid = made.select("start").unique().join(made.select("task").unique(), how="cross")
    return (
        grid.join(made, on=["start", "task"], how="left")
        .sort("start")
        .with_columns(total=pl.col("published_bytes").fill_null(0).cum_sum().over("task"))
        .select("start", "task", "total")
    )


def _rate(counts: pl.DataFrame, name: str, part: pl.Expr, whole: pl.Expr) -> pl.DataFrame:
    return counts.filter(whole > 0).select(
        "start", pl.lit(name).alias("rate"), (part / whole).alias("share")
    )
