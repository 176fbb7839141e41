"""The plot of a benchmark: latency and bus bandwidth over size, a line for each engine. Wants matplotlib."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from .layout import sized
from .model import BACKEND, COPY, CUSTOM, ENGINES, GRAPH, GROUP, PYNCCL, Measured, figures
from .record import Setting

FORMATS = (".svg", ".png")

# Wong's colours, which the colour-blind can tell apart; the yardsticks are grey.
_STYLES: Mapping[str, dict[str, Any]] = {
    GROUP: {"color": "#0072B2", "marker": "o", "linewidth": 2.2, "zorder": 4},
    CUSTOM: {"color": "#D55E00", "marker": "s"},
    PYNCCL: {"color": "#009E73", "marker": "^"},
    GRAPH: {"color": "#CC79A7", "marker": "D"},
    BACKEND: {"color": "#666666", "marker": "v"},
    COPY: {"color": "#999999", "linestyle": (0, (4, 3)), "marker": ""},
}


def require(path: Path) -> None:
    """See, before anything is measured, that a plot can be drawn there; raises OptionError where it cannot."""
    if path.suffix.lower() not in FORMATS:
        raise OptionError(f"--plot={path}: the file's name says its format; end it in {' or '.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError("--plot needs matplotlib: pip install 'sglang-conformance[plot]', or leave --plot out")


def draw(setting: Setting, measured: Sequence[Measured], kind: str) -> bytes:
    """The plot as the content of a file of that format: ``.svg`` or ``.png``."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[tuple[int, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.case.ranks, each.case.dtype), []).append(each)
    look: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "bench",
    }
    with rc_context(look):
        figure = Figure(figsize=(10, 1.1 + 3.5 * len(groups)), layout="constrained")
        FigureCanvasAgg(figure)
        rooms = figure.subplots(len(groups), 2, squeeze=False)
        for (latency, bandwidth), ((ranks, dtype), cases) in zip(rooms, groups.items(), strict=True):
            _panel(latency, cases, "µs", lambda found: found.microseconds)
            _panel(bandwidth, cases, "GB/s", lambda found: found.bus)
            latency.set_title(f"time of a call: {ranks} ranks, {dtype}; lower is better", loc="left", fontsize=10)
            bandwidth.set_title(f"bus bandwidth: {ranks} ranks, {dtype}; higher is better", loc="left", fontsize=10)
        drawn = rooms[0][0].get_legend_handles_labels()
        figure.legend(*drawn, loc="outside lower center", ncols=len(ENGINES), frameon=False)
        figure.suptitle(_title(setting), x=0.01, ha="left", fontsize=11, fontweight="bold")
        content = io.BytesIO()
        metadata = {"Date": None} if kind == ".svg" else None
        figure.savefig(content, format=kind.removeprefix("."), dpi=130, metadata=metadata)
    return content.getvalue()


def _title(setting: Setting) -> str:
    device = setting.device or setting.cpu
    return f"all-reduce on {setting.platform}, SGLang {setting.release} ({setting.host}), {device}"


def _panel(room: Any, cases: Sequence[Measured], unit: str, of: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    sizes = [each.case.bytes for each in cases]
    for engine in ENGINES:
        points = [
            (each.case.bytes, of(figures(each, taken)))
            for each in cases
            for taken in each.taken
            if taken.engine == engine
        ]
        shown = [(size, value) for size, value in points if value is not None]
        if shown:
            style = {"linewidth": 1.5, "markersize": 5, **_STYLES[engine]}
            room.plot(*zip(*shown, strict=True), label=engine, **style)
    room.set_xscale("log", base=2)
    room.set_yscale("log")
    room.set_xticks(sizes if len(sizes) <= 9 else sizes[:: -(-len(sizes) // 9)])
    room.xaxis.set_minor_locator(NullLocator())
    room.xaxis.set_major_formatter(FuncFormatter(lambda value, _: sized(int(value))))
    room.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    room.set_ylabel(unit)
    room.set_xlabel("bytes that each rank brings")
    room.grid(True, which="major", color="#dddddd", linewidth=0.8)
    room.set_axisbelow(True)
