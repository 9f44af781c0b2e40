"""The answer in the shapes that charts are drawn from. Pure polars."""

from datetime import datetime

import polars as pl

from tasks.history.queries import Answer

_HOUR = 3600.0
_SECONDS = {"hour": _HOUR, "day": 24 * _HOUR}
_EVERY = {"hour": "1h", "day": "1d"}


def completed(answer: Answer) -> pl.DataFrame:
    """start, task, completed."""
    return answer.periods.filter(pl.col("completed") > 0).select("start", "task", "completed")


def rates(answer: Answer, period: str) -> pl.DataFrame:
    """start, rate, share: of the ends that are successes, of the starts that crash, of the attempts
    that are another try."""
    start = pl.col("start").dt.truncate(_EVERY[period])
    counts = answer.periods.group_by(start).agg(
        pl.col("completed", "failed", "crashed", "started").sum()
    )
    ends = pl.col("completed") + pl.col("failed")
    takes = answer.takes.group_by(start).agg(pl.col("attempts", "jobs").sum())
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
    """start, busy: how many jobs were at work on average, in every hour or day since `begin`."""
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


def published(answer: Answer) -> pl.DataFrame:
    """start, task, total: bytes since the beginning, for every task in every period."""
    made = answer.periods.group_by("start", "task").agg(pl.col("published_bytes").sum())
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
