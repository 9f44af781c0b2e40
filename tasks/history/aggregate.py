"""What happened in each minute, hour, day, week and month, counted out of attempts. Pure polars.

Minutes and hours are counted from the attempts; days from hours, weeks and months from days. So a
pass costs what its own hours hold, and not what their month does; and longer periods stay right
when the attempts are gone. Everything is UTC, weeks begin on Monday (ISO 8601), and durations are
whole microseconds, whose sums depend on no order.

Percentiles are by nearest rank: exact for minutes and hours. Of longer periods they are read off
the merged spread of values, whose buckets are 1 % wide: at most 0.5 % off. The buckets are those
of DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from collections.abc import Sequence
from math import log

import polars as pl

from tasks.history.schema import ALL, EVER

KEYS = ["start", "task", "queue"]
_NAMES = ["task", "queue"]
COUNTS = ["received", "started", "completed", "failed", "crashed", "cancelled", "ran"]
MEASURES = ["waited", "ran"]
_EVERY = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "1mo"}
_PERCENTS = (50, 95, 99)
_GAMMA = 1.01
_MICRO = 1e6
_MINUTE = 60_000_000  # microseconds
_BUCKETS = 4096  # more than any duration has: the last is of 16,000 years
_KEY = (pl.col("place") // _BUCKETS).alias("key")
_TIME = pl.Datetime("us")
_TEXT, _INT = pl.String(), pl.Int64()

ATTEMPTS = pl.Schema(
    {"task": _TEXT, "queue": _TEXT, "number": _INT, "state": _TEXT}
    | {"submitted": _TIME, "started": _TIME, "ended": _TIME}
    | {"waited": pl.Float64(), "ran": pl.Float64(), "published_bytes": _INT}
    | {"job_attempts": _INT, "job_starts": _INT}
)
"""What is wanted of each attempt. Durations in seconds."""
PARTS = pl.Schema(
    {"start": _TIME, "task": _TEXT, "queue": _TEXT}
    | dict.fromkeys([*COUNTS, "published_bytes"], _INT)
    | {f"{measure}_total": pl.Float64() for measure in MEASURES}
    | {f"{measure}_spread": _TEXT for measure in MEASURES}
)
"""What is wanted of shorter periods to make longer ones of."""
TAKES = pl.Schema(
    {"start": _TIME, "task": _TEXT} | dict.fromkeys(["jobs", "attempts", "starts"], _INT)
)


def start_of(time: pl.Expr, period: str) -> pl.Expr:
    """When the period began that a time is in."""
    return time.dt.truncate(_EVERY[period])


def count_attempts(attempts: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """For "minute" and "hour" a row for each, task and queue in which something happened."""
    # Nothing is left to a lazy plan: it costs more than it saves, and sorts into small chunks.
    names = _Names(attempts)
    coded = attempts.with_columns(names.number())
    state, decided = pl.col("state"), pl.col("job_attempts").is_not_null()
    first = coded.filter(pl.col("number") == 1)
    begun = coded.filter(pl.col("started").is_not_null())
    over = coded.filter(pl.col("ended").is_not_null() & (state != "DELETED")).with_columns(
        completed=(state == "COMPLETED") & decided,
        failed=(state == "FAILED") & decided,
        crashed=state == "CRASHED",
        cancelled=(state == "CANCELLED") & decided,
    )
    ends = ["completed", "failed", "crashed", "cancelled", "published_bytes"]
    counted: dict[str, pl.DataFrame] = {}
    for period in ("minute", "hour"):
        submitted, started, ended = [
            names.key(start_of(pl.col(time), period)) for time in ("submitted", "started", "ended")
        ]
        waited = begun.select(started, "waited").sort("key", "waited")
        ran = over.select(ended, "ran", *ends).sort("key", "ran")
        parts = [
            _runs(first.select(submitted).sort("key"), "received"),
            _measured(waited, "waited").rename({"rows": "started"}).drop("values"),
            _measured(ran, "ran", ends).rename({"values": "ran"}).drop("rows"),
        ]
        if period == "hour":
            parts += [_spreads(waited, "waited"), _spreads(ran, "ran")]
        counted[period] = _finished(_side_by_side(parts), names)
    return counted


def merge(parts: pl.DataFrame, period: str) -> pl.DataFrame:
    """A row for each day made of hours, or week or month made of days, or for ever of anything."""
    names = _Names(parts)
    coded = parts.with_columns(names.number()).with_columns(names.key(_whole(period)))
    totals = [_micro(f"{measure}_total").sum() for measure in MEASURES]
    counted = coded.group_by("key").agg(
        *(pl.col(name).sum() for name in [*COUNTS, "published_bytes"]), *totals
    )
    spreads = [_merged(coded, measure) for measure in MEASURES]
    return _finished(_side_by_side([counted, *spreads]), names)


def count_takes(attempts: pl.DataFrame) -> pl.DataFrame:
    """For each hour and task, and all of them, the jobs that ended, their attempts and starts."""
    decided = attempts.filter(pl.col("job_attempts").is_not_null() & (pl.col("state") != "DELETED"))
    takes = decided.select(
        start_of(pl.col("ended"), "hour").alias("start"),
        "task",
        pl.lit(1, pl.Int64).alias("jobs"),
        pl.col("job_attempts").alias("attempts"),
        pl.col("job_starts").alias("starts"),
    )
    everything = takes.with_columns(pl.lit(ALL).alias("task"))
    return _taken(pl.concat([takes, everything]))


def merge_takes(takes: pl.DataFrame, period: str) -> pl.DataFrame:
    """The same for a day out of hours, a week or month out of days, and for ever out of months."""
    return _taken(takes.with_columns(_whole(period)))


def _whole(period: str) -> pl.Expr:
    """The start of the longer period that a shorter one is part of."""
    start = pl.lit(0).cast(_TIME) if period == EVER else start_of(pl.col("start"), period)
    return start.alias("start")


def _taken(takes: pl.DataFrame) -> pl.DataFrame:
    counted = takes.group_by("start", "task").agg(pl.col("jobs", "attempts", "starts").sum())
    return counted.with_columns(average_starts=pl.col("starts") / pl.col("jobs"))


class _Names:
    """A number for each task and queue, and one for them and a period.

    Grouped by, and sorted by, they are far faster than the names.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self._known = [rows[name].unique().sort() for name in _NAMES]
        self._queues = max(1, len(self._known[1]))
        self._many = max(1, len(self._known[0])) * self._queues

    def number(self) -> pl.Expr:
        """Of a row with a task and a queue."""
        task, queue = [
            pl.col(name).cast(pl.Enum(known)).to_physical().cast(pl.Int64)
            for name, known in zip(_NAMES, self._known, strict=True)
        ]
        return (task * self._queues + queue).alias("name")

    def key(self, start: pl.Expr) -> pl.Expr:
        """Of a row with a number, and the start of a period."""
        return (start.cast(pl.Int64) // _MINUTE * self._many + pl.col("name")).alias("key")

    def read(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with starts, tasks and queues in place of keys."""
        name = rows["key"] % self._many
        task, queue = self._known
        return rows.drop("key").with_columns(
            (rows["key"] // self._many * _MINUTE).cast(_TIME).alias("start"),
            task.gather(name // self._queues).alias("task"),
            queue.gather(name % self._queues).alias("queue"),
        )


def _micro(column: str) -> pl.Expr:
    """Seconds as whole microseconds."""
    return (pl.col(column) * _MICRO).round().cast(pl.Int64)


def _measured(values: pl.DataFrame, measure: str, sums: Sequence[str] = ()) -> pl.DataFrame:
    """For each key its rows, values, sums, total in microseconds and percentiles in seconds.

    The rows come by key, and by value within each, those that have none first: where a percentile
    is follows from how many there are, and a sum from those up to there. So no group is gone
    through; there may be as many as minutes.
    """
    found = _runs(values.select("key"), "rows")
    end = found["rows"].cum_sum()
    summed = {"values": pl.col(measure).is_not_null(), f"{measure}_total": _micro(measure)}
    up_to = values.select(*sums, **summed).select(pl.all().cast(pl.Int64).fill_null(0).cum_sum())
    ends = up_to.select(pl.all().gather(end - 1))
    found = found.with_columns(ends - ends.shift(1, fill_value=0))
    first = end - found["values"]
    return found.with_columns(
        values[measure]
        .gather(first + _rank(found["values"], percent) - 1)
        .alias(f"{measure}_p{percent}")
        for percent in _PERCENTS
    )


def _rank(count: pl.Series, percent: int) -> pl.Series:
    """Which of so many values in order a percentile is, from 1 on. Whole numbers: never one off."""
    return (count * percent + 99) // 100


def _side_by_side(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """One row for each key, of what each part says of it."""
    together, *others = parts
    for part in others:
        together = together.join(part, on="key", how="full", coalesce=True)
    return together


def _finished(rows: pl.DataFrame, names: _Names) -> pl.DataFrame:
    """Times and names for keys, counts where there is none, means, and totals in seconds."""
    rows = names.read(rows)
    totals = [f"{measure}_total" for measure in MEASURES]
    spreads = [f"{measure}_spread" for measure in MEASURES]
    rows = rows.with_columns(pl.lit("").alias(s) for s in spreads if s not in rows.columns)
    rows = rows.with_columns(
        pl.col([*COUNTS, "published_bytes", *totals]).fill_null(0), pl.col(spreads).fill_null("")
    )
    many = {"waited": pl.col("started"), "ran": pl.col("ran")}
    means = {f"{m}_mean": pl.col(f"{m}_total") / many[m] / _MICRO for m in MEASURES}
    means = {name: pl.when(mean.is_finite()).then(mean) for name, mean in means.items()}
    return rows.with_columns(**means).with_columns(pl.col(totals) / _MICRO)


def _spreads(values: pl.DataFrame, measure: str) -> pl.DataFrame:
    """How the values of each key spread. They come by key, and in order within each."""
    some = values.filter(pl.col(measure).is_not_null())
    place = some.select(place=pl.col("key") * _BUCKETS + _bucket(_micro(measure)))
    return _written(_runs(place, "count"), measure)


def _runs(ordered: pl.DataFrame, many: str) -> pl.DataFrame:
    """How often each value of a column comes, where equal ones come together."""
    (name,) = ordered.columns
    # Not lazily: polars 2.1 panics there, "assertion failed: chunks.len() == 1".
    runs = ordered[name].rle().struct.unnest()
    return runs.select(pl.col("value").alias(name), pl.col("len").cast(pl.Int64).alias(many))


def _bucket(micro: pl.Expr) -> pl.Expr:
    """0 for nothing; b for what lies over gamma^(b-2) and up to gamma^(b-1) microseconds."""
    exponent = (micro.log() / log(_GAMMA)).ceil()
    return pl.when(micro > 0).then(exponent + 1).otherwise(0).cast(pl.Int64)


def _written(counted: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Buckets in order, and their counts, as text: 12:3 40:1."""
    bucket = pl.col("place") % _BUCKETS
    text = pl.concat_str(bucket, pl.lit(":"), "count").str.join(" ")
    return counted.group_by(_KEY, maintain_order=True).agg(text.alias(f"{measure}_spread"))


def _merged(parts: pl.DataFrame, measure: str) -> pl.DataFrame:
    """The spread of longer periods, and the percentiles that are read off it."""
    pair = pl.col("pair").str.split_exact(":", 1).struct
    bucket, count = [pair.field(f"field_{at}").cast(pl.Int64) for at in (0, 1)]
    counted = (
        parts.filter(pl.col(f"{measure}_spread") != "")
        .select("key", pl.col(f"{measure}_spread").str.split(" ").alias("pair"))
        .explode("pair")
        .select(place=pl.col("key") * _BUCKETS + bucket, count=count)
        .group_by("place")
        .agg(pl.col("count").sum())
        .sort("place")
    )
    found = _written(counted, measure)
    up_to = counted["count"].cum_sum()
    end = up_to.gather(_runs(counted.select(_KEY), "rows")["rows"].cum_sum() - 1)
    many = end - end.shift(1, fill_value=0)
    middles = counted.select(_middle(pl.col("place") % _BUCKETS)).to_series()
    return found.with_columns(
        middles.gather(up_to.search_sorted(end - many + _rank(many, percent))).alias(
            f"{measure}_p{percent}"
        )
        for percent in _PERCENTS
    )


def _middle(bucket: pl.Expr) -> pl.Expr:
    """Seconds that no value of a bucket is more than 0.5 % off."""
    middle = pl.lit(_GAMMA).pow(bucket - 1) * (2 / (_GAMMA + 1)) / _MICRO
    return pl.when(bucket > 0).then(middle).otherwise(0.0)
