"""Counts of attempts in each minute, hour, day, week and month. Pure polars.

Minutes and hours are counted from attempts, days from hours, weeks and months from days. So the
cost of a pass depends on the attempts of its hours, not of their month, and longer periods stay
correct when attempts are deleted. Times are UTC, weeks begin on Monday (ISO 8601), and durations
are whole microseconds, so that sums do not depend on the order.

Percentiles are by nearest rank, exact for minutes and hours. For longer periods they are read from
merged histograms with buckets 1 % wide, at most 0.5 % off. The buckets are those of DDSketch
(Masson, Rim, Lee: DDSketch, VLDB 2019).
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
_BUCKETS = 4096  # more than any duration needs: the last is 16,000 years
_KEY = (pl.col("place") // _BUCKETS).alias("key")
_TIME = pl.Datetime("us")
_TEXT, _INT = pl.String(), pl.Int64()

ATTEMPTS = pl.Schema(
    {"task": _TEXT, "queue": _TEXT, "number": _INT, "state": _TEXT}
    | {"submitted": _TIME, "started": _TIME, "ended": _TIME}
    | {"waited": pl.Float64(), "ran": pl.Float64(), "published_bytes": _INT}
    | {"job_attempts": _INT, "job_starts": _INT}
)
"""The columns of attempts that are counted. Durations in seconds."""
PARTS = pl.Schema(
    {"start": _TIME, "task": _TEXT, "queue": _TEXT}
    | dict.fromkeys([*COUNTS, "published_bytes"], _INT)
    | {f"{measure}_total": pl.Float64() for measure in MEASURES}
    | {f"{measure}_spread": _TEXT for measure in MEASURES}
)
"""The columns of shorter periods from which longer ones are made."""
PER_TASK = pl.Schema(
    {"start": _TIME, "task": _TEXT} | dict.fromkeys(["jobs", "attempts", "starts"], _INT)
)


def start_of(time: pl.Expr, period: str) -> pl.Expr:
    """Return the start of the period that contains a time."""
    return time.dt.truncate(_EVERY[period])


def count_attempts(attempts: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Count attempts by minute and by hour: a row for each period, task and queue with any."""
    # Eager, not lazy: a lazy plan costs more than it saves, and sorts into small chunks.
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
            parts += [_histograms(waited, "waited"), _histograms(ran, "ran")]
        counted[period] = _finished(_side_by_side(parts), names)
    return counted


def merge(parts: pl.DataFrame, period: str) -> pl.DataFrame:
    """Merge hours to days, days to weeks or months, or any periods to EVER."""
    names = _Names(parts)
    coded = parts.with_columns(names.number()).with_columns(names.key(_whole(period)))
    totals = [_micro(f"{measure}_total").sum() for measure in MEASURES]
    counted = coded.group_by("key").agg(
        *(pl.col(name).sum() for name in [*COUNTS, "published_bytes"]), *totals
    )
    histograms = [_merged(coded, measure) for measure in MEASURES]
    return _finished(_side_by_side([counted, *histograms]), names)


def count_per_task(attempts: pl.DataFrame) -> pl.DataFrame:
    """Count the jobs that ended, their attempts and starts, by hour and task, and for ALL tasks."""
    decided = attempts.filter(pl.col("job_attempts").is_not_null() & (pl.col("state") != "DELETED"))
    rows = decided.select(
        start_of(pl.col("ended"), "hour").alias("start"),
        "task",
        pl.lit(1, pl.Int64).alias("jobs"),
        pl.col("job_attempts").alias("attempts"),
        pl.col("job_starts").alias("starts"),
    )
    everything = rows.with_columns(pl.lit(ALL).alias("task"))
    return _per_task(pl.concat([rows, everything]))


def merge_per_task(rows: pl.DataFrame, period: str) -> pl.DataFrame:
    """Merge such counts: hours to days, days to weeks or months, months to EVER."""
    return _per_task(rows.with_columns(_whole(period)))


def _whole(period: str) -> pl.Expr:
    """Return the start of the longer period that contains a shorter one."""
    start = pl.lit(0).cast(_TIME) if period == EVER else start_of(pl.col("start"), period)
    return start.alias("start")


def _per_task(rows: pl.DataFrame) -> pl.DataFrame:
    counted = rows.group_by("start", "task").agg(pl.col("jobs", "attempts", "starts").sum())
    return counted.with_columns(average_starts=pl.col("starts") / pl.col("jobs"))


class _Names:
    """Integer codes for pairs of task and queue, and for those with a period.

    Grouping and sorting by integers is far faster than by names.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self._known = [rows[name].unique().sort() for name in _NAMES]
        self._queues = max(1, len(self._known[1]))
        self._many = max(1, len(self._known[0])) * self._queues

    def number(self) -> pl.Expr:
        """Return the code of a row's task and queue, as the column `name`."""
        task, queue = [
            pl.col(name).cast(pl.Enum(known)).to_physical().cast(pl.Int64)
            for name, known in zip(_NAMES, self._known, strict=True)
        ]
        return (task * self._queues + queue).alias("name")

    def key(self, start: pl.Expr) -> pl.Expr:
        """Return the code of a row's `name` and the start of a period, as the column `key`."""
        return (start.cast(pl.Int64) // _MINUTE * self._many + pl.col("name")).alias("key")

    def read(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Replace the keys of rows by starts, tasks and queues."""
        name = rows["key"] % self._many
        task, queue = self._known
        return rows.drop("key").with_columns(
            (rows["key"] // self._many * _MINUTE).cast(_TIME).alias("start"),
            task.gather(name // self._queues).alias("task"),
            queue.gather(name % self._queues).alias("queue"),
        )


def _micro(column: str) -> pl.Expr:
    """Convert seconds to whole microseconds."""
    return (pl.col(column) * _MICRO).round().cast(pl.Int64)


def _measured(values: pl.DataFrame, measure: str, sums: Sequence[str] = ()) -> pl.DataFrame:
    """Return for each key its rows, values, sums, total in microseconds, percentiles in seconds.

    The input is sorted by key, then by value, nulls first. So percentiles are found by position,
    and sums are differences of cumulative sums: there is no loop over groups, of which there may be
    as many as minutes.
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
    """Return the rank of a percentile among `count` values, from 1 on; exact by integers."""
    return (count * percent + 99) // 100


def _side_by_side(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Join the parts by key: one row for each."""
    together, *others = parts
    for part in others:
        together = together.join(part, on="key", how="full", coalesce=True)
    return together


def _finished(rows: pl.DataFrame, names: _Names) -> pl.DataFrame:
    """Replace keys by times and names, nulls by 0; add means; convert totals to seconds."""
    rows = names.read(rows)
    totals = [f"{measure}_total" for measure in MEASURES]
    histograms = [f"{measure}_spread" for measure in MEASURES]
    rows = rows.with_columns(pl.lit("").alias(s) for s in histograms if s not in rows.columns)
    rows = rows.with_columns(
        pl.col([*COUNTS, "published_bytes", *totals]).fill_null(0), pl.col(histograms).fill_null("")
    )
    many = {"waited": pl.col("started"), "ran": pl.col("ran")}
    means = {f"{m}_mean": pl.col(f"{m}_total") / many[m] / _MICRO for m in MEASURES}
    means = {name: pl.when(mean.is_finite()).then(mean) for name, mean in means.items()}
    return rows.with_columns(**means).with_columns(pl.col(totals) / _MICRO)


def _histograms(values: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Make a histogram for each key. The input is sorted by key, then by value."""
    some = values.filter(pl.col(measure).is_not_null())
    place = some.select(place=pl.col("key") * _BUCKETS + _bucket(_micro(measure)))
    return _as_text(_runs(place, "count"), measure)


def _runs(ordered: pl.DataFrame, many: str) -> pl.DataFrame:
    """Count each value of a sorted column."""
    (name,) = ordered.columns
    # Not lazily: polars 2.1 panics there, "assertion failed: chunks.len() == 1".
    runs = ordered[name].rle().struct.unnest()
    return runs.select(pl.col("value").alias(name), pl.col("len").cast(pl.Int64).alias(many))


def _bucket(micro: pl.Expr) -> pl.Expr:
    """Return the bucket of a duration: 0 for 0, b for over gamma^(b-2) up to gamma^(b-1) us."""
    exponent = (micro.log() / log(_GAMMA)).ceil()
    return pl.when(micro > 0).then(exponent + 1).otherwise(0).cast(pl.Int64)


def _as_text(counted: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Write the buckets of each key and their counts as text, such as 12:3 40:1."""
    bucket = pl.col("place") % _BUCKETS
    text = pl.concat_str(bucket, pl.lit(":"), "count").str.join(" ")
    return counted.group_by(_KEY, maintain_order=True).agg(text.alias(f"{measure}_spread"))


def _merged(parts: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Merge the histograms of each key, and read percentiles from them."""
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
    found = _as_text(counted, measure)
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
    """Return the middle of a bucket in seconds: its values are at most 0.5 % off."""
    middle = pl.lit(_GAMMA).pow(bucket - 1) * (2 / (_GAMMA + 1)) / _MICRO
    return pl.when(bucket > 0).then(middle).otherwise(0.0)
