"""Charts of the history as SVG, drawn without a browser.

Colours of text and lines are CSS variables (`--ink`, `--line`), so that one drawing serves light
mode, dark mode and paper.
"""

import re
from typing import Any

import altair as alt
import polars as pl
import vl_convert

WIDTH, HEIGHT = 460, 230  # pixels; legible at the width of a phone
# Okabe and Ito's colours, safe for colour-blind readers, in tones for light and dark mode.
PALETTE = ["#3d8fd1", "#e08a1e", "#2aa57f", "#c86aa8", "#8a7fd6", "#b8a019", "#d2553f", "#7f8c9b"]
_INK, _LINE = "#010203", "#040506"  # placeholders, replaced by CSS variables at the end
_NAMES = {_INK: "var(--ink)", _LINE: "var(--line)"}
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def throughput(completed: pl.DataFrame, period: str) -> str:
    """Jobs completed in each minute, hour or day. Columns: start, task, completed."""
    bars = alt.Chart(completed).mark_bar(binSpacing=1, cornerRadiusEnd=2)
    return _svg(
        bars.encode(
            x=_time(period),
            y=alt.Y("sum(completed):Q", title=f"jobs completed, per {period}", axis=_whole()),
            color=_colour("task"),
        )
    )


def durations(by_queue: pl.DataFrame, measure: str) -> str:
    """p50 to p95 by queue, on a logarithmic scale. Columns: queue, waited_p50 … ran_p95."""
    low, high = f"{measure}_p50", f"{measure}_p95"
    least = 0.01  # seconds: a logarithmic scale has no 0
    shown = by_queue.filter(pl.col(high).is_not_null()).with_columns(
        pl.col(low, high).clip(lower_bound=least)
    )
    queues = alt.Y("queue:N", title=None, sort=["high", "normal", "low"])
    scale = alt.Scale(type="log")
    axis = alt.Axis(labelExpr=_SECONDS, values=_MARKS, labelFlush=False)
    base = alt.Chart(shown).encode(y=queues)
    line = base.mark_bar(height=10, opacity=0.45, cornerRadius=5).encode(
        x=alt.X(f"{low}:Q", title=f"{measure}, p50 to p95", scale=scale, axis=axis),
        x2=high,
        color=alt.Color("queue:N", legend=None, scale=_range()),
    )
    points = base.mark_circle(size=120, opacity=1).encode(
        x=alt.X(f"{low}:Q", scale=scale), color=alt.Color("queue:N", legend=None, scale=_range())
    )
    return _svg(line + points, height=HEIGHT // 2)


def outcomes(shares: pl.DataFrame, period: str) -> str:
    """Shares over time. Columns: start, rate, share (0 to 1)."""
    rates = {"succeeded": PALETTE[2], "crashed": PALETTE[6], "retried": PALETTE[1]}
    lines = alt.Chart(shares).mark_line(interpolate="monotone", strokeWidth=2.5, point=_POINT)
    return _svg(
        lines.encode(
            x=_time(period),
            y=alt.Y("share:Q", title="share", axis=alt.Axis(format="%", tickCount=5)),
            color=_colour("rate", rates),
        )
    )


def busiest(received: pl.DataFrame) -> str:
    """Jobs received by weekday and hour, UTC. Columns: weekday (1 Monday), hour, received."""
    named = received.with_columns(
        day=pl.col("weekday").replace_strict(dict(enumerate(_DAYS, 1)), return_dtype=pl.String)
    )
    cells = alt.Chart(named).mark_rect(cornerRadius=2, stroke=_LINE, strokeWidth=0.5)
    return _svg(
        cells.encode(
            x=alt.X(
                "hour:O",
                title="hour, UTC",
                axis=alt.Axis(labelAngle=0, values=[*range(0, 24, 3)]),
                scale=alt.Scale(domain=[*range(24)]),
            ),
            y=alt.Y("day:O", title=None, sort=_DAYS, scale=alt.Scale(domain=_DAYS)),
            color=alt.Color(
                "received:Q",
                title="jobs",
                scale=alt.Scale(range=["#3d8fd122", PALETTE[0]], domainMin=0),
                legend=alt.Legend(orient="bottom", gradientLength=160, tickCount=3, format="~s"),
            ),
        )
    )


def utilisation(busy: pl.DataFrame, period: str, slots: int | None) -> str:
    """Jobs at work on average. Columns: start, busy. With a line at the number of slots."""
    area = alt.Chart(busy).mark_area(
        interpolate="step-after", color=PALETTE[2], opacity=0.55, line={"color": PALETTE[2]}
    )
    top = alt.Y("busy:Q", title="jobs at work, on average", axis=alt.Axis(tickCount=4))
    drawn: Any = area.encode(x=_time(period), y=top)
    if slots:
        line = alt.Chart(pl.DataFrame({"slots": [slots]})).mark_rule(
            color=_INK, strokeDash=[4, 4], opacity=0.6
        )
        drawn = drawn + line.encode(y="slots:Q")
    return _svg(drawn)


def storage(published: pl.DataFrame, period: str) -> str:
    """Bytes published since the beginning of the report. Columns: start, task, total."""
    area = alt.Chart(published).mark_area(opacity=0.6, interpolate="step-after")
    axis = alt.Axis(format="~s", tickCount=4)
    return _svg(
        area.encode(
            x=_time(period),
            y=alt.Y("total:Q", title="bytes published", stack=True, axis=axis),
            color=_colour("task"),
        )
    )


_MARKS = [0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000]  # seconds
_HOURS = "[utcFormat(datum.value, '%H:%M'), utcFormat(datum.value, '%d %b')]"
_DATES = (
    "utchours(datum.value) ? '' : [utcFormat(datum.value, '%d %b'), utcFormat(datum.value, '%Y')]"
)
_POINT = {"size": 28, "filled": True}
_SECONDS = (
    "datum.value >= 3600 ? format(datum.value / 3600, '~g') + ' h' : "
    "datum.value >= 60 ? format(datum.value / 60, '~g') + ' min' : "
    "datum.value >= 1 ? format(datum.value, '~g') + ' s' : "
    "format(datum.value * 1000, '~g') + ' ms'"
)


def _time(period: str) -> Any:
    # In two lines, since a reader's font may be wider than the one used here; each day once.
    form = _DATES if period == "day" else _HOURS
    axis = alt.Axis(labelExpr=form, tickCount=5, labelOverlap=True)
    # UTC, whatever the zone of this host.
    return alt.X("start:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def _colour(field: str, named: dict[str, str] | None = None) -> Any:
    legend = alt.Legend(
        orient="bottom",
        title=None,
        columns=3,
        symbolType="circle",
        labelLimit=150,
        columnPadding=18,
    )
    own = named and alt.Scale(domain=list(named), range=list(named.values()))
    return alt.Color(f"{field}:N", scale=own or _range(), legend=legend)


def _range() -> Any:
    return alt.Scale(range=PALETTE)


def _whole() -> Any:
    return alt.Axis(tickMinStep=1, format="~s", tickCount=4)


def png(svg: str) -> bytes:
    """Convert an SVG to a PNG on white, for viewers without CSS."""
    colours = {_NAMES[_INK]: "#1c2530", _NAMES[_LINE]: "#e3e7ec"}
    for name, colour in colours.items():
        svg = svg.replace(name, colour)
    width = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    assert width is not None
    ground = f'<rect width="{width[1]}" height="{width[2]}" fill="#ffffff"/>'
    svg = re.sub(r"(<svg[^>]*>)", rf"\1{ground}", svg, count=1)
    return vl_convert.svg_to_png(svg, scale=1.5)


def _svg(chart: Any, height: int = HEIGHT) -> str:
    """Render a chart as SVG with real text, scalable to the width of the page."""
    drawn = chart.properties(width=WIDTH, height=height, background="transparent").configure(
        **_look()
    )
    svg = vl_convert.vegalite_to_svg(drawn.to_json(), vl_version="v6.1")
    for stand_in, name in _NAMES.items():
        svg = svg.replace(stand_in, name)
    # Not as wide as it was drawn, but as wide as there is room; the viewBox keeps the shape.
    return re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)


def _look() -> dict[str, Any]:
    text = {"labelColor": _INK, "titleColor": _INK, "labelFontSize": 12, "titleFontSize": 12}
    quiet = {"titleFontWeight": "normal", "titleOpacity": 0.75, "labelOpacity": 0.85}
    axis = text | quiet | {"gridColor": _LINE, "domainColor": _LINE, "tickColor": _LINE}
    return {
        "font": _FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False, "titlePadding": 10},
        "legend": text | quiet | {"labelFontSize": 12, "rowPadding": 4},
        "autosize": {"type": "fit", "contains": "padding"},
    }
