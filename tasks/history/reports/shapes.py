"""Converts an answer to the frames that charts are drawn from. Pure polars."""

from datetime import UTC, datetime, timedelta

import polars as pl

from tasks.history.queries import Answer

_HOUR = 3600.0
_SECONDS = {"minute": 60.0, "hour": _HOUR, "day": 24 * _HOUR}
_EVERY = {"minute": "1m", "hour": "1h", "day": "1d"}
_BY_MINUTE = timedelta(hours=3)  # charts show minutes up to this span of data
_BY_HOUR = timedelta(days=10)  # and hours up to this span; more bars have no room


def begin_of(answer: Answer) -> datetime:
    """Return the start of the first period with data; the beginning of the answer without data."""
    first = answer.periods["start"].min()
    if not isinstance(first, datetime):
        return answer.begin
    return max(answer.begin, first.replace(tzinfo=UTC))


def grain(answer: Answer, period: str) -> str:
    """Return the period of the charts, minute, hour or day, for an answer that has `period`s."""
    span = answer.asked - begin_of(answer)
    if period == "day" or span > _BY_HOUR:
        return "day"
    return "minute" if span <= _BY_MINUTE else "hour"


def completed(answer: Answer, period: str) -> pl.DataFrame:
    """Return completed jobs. Columns: start, task, completed."""
    start = pl.col("start").dt.truncate(_EVERY[period])
    counts = answer.periods.group_by(start, "task").agg(pl.col("completed").sum())
    return counts.filter(pl.col("completed") > 0).sort("start", "task")


def rates(answer: Answer, period: str) -> pl.DataFrame:
    """Return the shares of jobs that succeeded, of starts that crashed, and of retried attempts.

    Columns: start, rate, share (0 to 1).
    """
    start = pl.col("start").dt.truncate(_EVERY[period])
    counts = answer.periods.group_by(start).agg(
        pl.col("completed", "failed", "crashed", "started").sum()
    )
    ends = pl.col("completed") + pl.col("failed")
    # Attempts per task are counted by the hour.
    tried = answer.of_all_tasks.clear() if period == "minute" else answer.of_all_tasks
    tried = tried.group_by(start).agg(pl.col("attempts", "jobs").sum())
    retries = pl.col("attempts") - pl.col("jobs")
    parts = [
        _rate(counts, "succeeded", pl.col("completed"), ends),
        _rate(counts, "crashed", pl.col("crashed"), pl.col("started")),
        _rate(tried, "retried", retries, pl.col("attempts")),
    ]
    return pl.concat(parts).sort("start")


def received_by_weekday(answer: Answer) -> pl.DataFrame:
    """Return received jobs. Columns: weekday (1 Monday), hour, received. Needs periods of hours."""
    return (
        answer.periods.group_by(
            pl.col("start").dt.weekday().cast(pl.Int64).alias("weekday"),
            pl.col("start").dt.hour().cast(pl.Int64).alias("hour"),
        )
        .agg(pl.col("received").sum())
        .sort("weekday", "hour")
    )


def busy(attempts: pl.DataFrame, period: str, begin: datetime, now: datetime) -> pl.DataFrame:
    """Return the average number of running jobs in each period since `begin`, the start of one.

    Columns: start, busy.
    """
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
    """Return bytes published since the beginning, for every task in every period.

    Columns: start, task, total.
    """
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
