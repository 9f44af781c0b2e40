"""What happened in each minute, hour, day, week and month, counted out of attempts. Pure polars.

Minutes and hours are counted from the attempts; days from hours, weeks and months from days. So a
pass costs what its own hours hold, and not what their month does; and longer periods stay right
when the attempts are gone. Everything is UTC, weeks begin on Monday (ISO 8601), and durations are
whole microseconds, whose sums depend on no order.

Percentiles are by nearest rank: exact for minutes and hours. Of longer periods they are read off
the merged spread of values, whose buckets are 1 % wide: at most 0.5 % off. The buckets are those
of DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019).
"""

from math import log

import polars as pl

from tasks.history.tables import ALL, EVER

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
    names = _names(attempts)
    state = pl.col("state")
    coded = attempts.lazy().join(names.lazy(), on=_NAMES)
    over = coded.filter(pl.col("ended").is_not_null() & (state != "DELETED"))
    # Sorted once, and not in each group, of which there may be as many as minutes.
    begun = coded.filter(pl.col("started").is_not_null()).select("started", "name", "waited")
    ran = over.filter(pl.col("ran").is_not_null()).select("ended", "name", "ran")
    first = coded.filter(pl.col("number") == 1).select("submitted", "name")
    plans = [first, begun.sort("waited"), over, ran.sort("ran")]
    first, begun, over, ran = [made.lazy() for made in pl.collect_all(plans)]
    decided = pl.col("job_attempts").is_not_null()
    ends = {
        "completed": ((state == "COMPLETED") & decided).sum(),
        "failed": ((state == "FAILED") & decided).sum(),
        "crashed": (state == "CRASHED").sum(),
        "cancelled": ((state == "CANCELLED") & decided).sum(),
        "published_bytes": pl.col("published_bytes").sum(),
    }
    together: list[pl.LazyFrame] = []
    for period in ("minute", "hour"):
        submitted, started, ended = [
            _key(start_of(pl.col(time), period), names)
            for time in ("submitted", "started", "ended")
        ]
        parts = [
            first.group_by(submitted).agg(received=pl.len()),
            begun.group_by(started).agg(pl.len().alias("started"), *_measured("waited")),
            over.group_by(ended).agg(**ends),
            ran.group_by(ended).agg(pl.len().alias("ran"), *_measured("ran")),
        ]
        if period == "hour":
            parts += [_spreads(begun, started, "waited"), _spreads(ran, ended, "ran")]
        together.append(_side_by_side(parts))
    minutes, hours = pl.collect_all(together)
    return {"minute": _finished(minutes, names), "hour": _finished(hours, names)}


def merge(parts: pl.DataFrame, period: str) -> pl.DataFrame:
    """A row for each day made of hours, or week or month made of days, or for ever of anything."""
    names = _names(parts)
    coded = parts.lazy().join(names.lazy(), on=_NAMES).with_columns(_key(_whole(period), names))
    totals = [_micro(f"{measure}_total").sum() for measure in MEASURES]
    counted = coded.group_by("key").agg(
        *(pl.col(name).sum() for name in [*COUNTS, "published_bytes"]), *totals
    )
    spreads = [_merged(coded, measure) for measure in MEASURES]
    return _finished(_side_by_side([counted, *spreads]).collect(), names)


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


def _names(rows: pl.DataFrame) -> pl.DataFrame:
    """A number for each task and queue."""
    return rows.select(_NAMES).unique().with_row_index("name").cast({"name": pl.Int64()})


def _key(start: pl.Expr, names: pl.DataFrame) -> pl.Expr:
    """One number for a period, a task and a queue: grouped by far faster than the three are."""
    return (start.cast(pl.Int64) // _MINUTE * max(1, len(names)) + pl.col("name")).alias("key")


def _micro(column: str) -> pl.Expr:
    """Seconds as whole microseconds."""
    return (pl.col(column) * _MICRO).round().cast(pl.Int64)


def _rank(percent: int) -> pl.Expr:
    """The index of a percentile among so many values in order; whole numbers, so never one off."""
    return (pl.len() * percent + 99) // 100 - 1


def _measured(measure: str) -> list[pl.Expr]:
    """The total, in microseconds, and the percentiles, in seconds, of values that come in order."""
    total = _micro(measure).sum().alias(f"{measure}_total")
    return [total] + [
        pl.col(measure).get(_rank(percent)).alias(f"{measure}_p{percent}") for percent in _PERCENTS
    ]


def _side_by_side(parts: list[pl.LazyFrame]) -> pl.LazyFrame:
    """One row for each key, of what each part says of it."""
    together, *others = parts
    for part in others:
        together = together.join(part, on="key", how="full", coalesce=True)
    return together


def _finished(rows: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Times and names for keys, counts where there is none, means, and totals in seconds."""
    many_names = max(1, len(names))
    start = (pl.col("key") // many_names * _MINUTE).cast(_TIME)
    rows = rows.with_columns(start=start, name=pl.col("key") % many_names).drop("key")
    rows = rows.join(names, on="name").drop("name")
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


def _spreads(values: pl.LazyFrame, key: pl.Expr, measure: str) -> pl.LazyFrame:
    """How the values of each key spread."""
    place = (key * _BUCKETS + _bucket(_micro(measure))).alias("place")
    some = values.filter(pl.col(measure).is_not_null()).select(place)
    return _written(some.group_by("place").agg(count=pl.len().cast(pl.Int64)), measure)


def _bucket(micro: pl.Expr) -> pl.Expr:
    """0 for nothing; b for what lies over gamma^(b-2) and up to gamma^(b-1) microseconds."""
    exponent = (micro.log() / log(_GAMMA)).ceil()
    return pl.when(micro > 0).then(exponent + 1).otherwise(0).cast(pl.Int64)


def _written(counted: pl.LazyFrame, measure: str) -> pl.LazyFrame:
    """Buckets and their counts as text: 12:3 40:1."""
    bucket = pl.col("place") % _BUCKETS
    text = pl.concat_str(bucket, pl.lit(":"), "count").str.join(" ")
    return counted.sort("place").group_by(_KEY).agg(text.alias(f"{measure}_spread"))


def _merged(parts: pl.LazyFrame, measure: str) -> pl.LazyFrame:
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
    up_to, many = pl.col("count").cum_sum(), pl.col("count").sum()
    read = [
        (pl.col("place") % _BUCKETS)
        .filter(up_to >= (many * percent + 99) // 100)
        .first()
        .pipe(_middle)
        .alias(f"{measure}_p{percent}")
        for percent in _PERCENTS
    ]
    return counted.group_by(_KEY).agg(*read).join(_written(counted, measure), on="key")


def _middle(bucket: pl.Expr) -> pl.Expr:
    """Seconds that no value of a bucket is more than 0.5 % off."""
    middle = pl.lit(_GAMMA).pow(bucket - 1) * (2 / (_GAMMA + 1)) / _MICRO
    return pl.when(bucket > 0).then(middle).otherwise(0.0)
