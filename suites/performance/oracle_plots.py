"""The plots of docs/oracle.md, as SVG in docs/plots, from the measurements kept in docs/data.

python suites/performance/oracle_plots.py
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from oracle_data import DOCS, HIGHEST, LOWEST, Row, partial, read, score, scores, share_of, whole
from svg import Scale, path, tag, text

from harness.oracles.precision import PRECISIONS

STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#3a3a3a}.axis{stroke:#888}.grid{stroke:#8884}"
    ".clean{fill:#2a7fbf}.bug{fill:#d0562a}.k{stroke:#888;stroke-dasharray:4 3}"
    ".line{fill:none;stroke-width:2}.a{stroke:#2a7fbf}.b{stroke:#d0562a}.c{stroke:#3a9a5b}.d{stroke:#a05ac0}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)
WIDTH = 720.0
KINDS = dict(zip(PRECISIONS, "abcd", strict=True))


def histogram(clean: Sequence[Row], runs: Sequence[Row]) -> str:
    """Return a panel a precision: how many clean and bug runs have which closest call."""
    height, parts = 104.0, []
    across = Scale(low=LOWEST, high=HIGHEST, start=80, end=WIDTH - 20, log=True)
    edges = 10.0 ** np.arange(-2, 17.01, 0.25)
    for number, (precision, constants) in enumerate(PRECISIONS.items()):
        bottom = 20 + height * (number + 1) - 24
        parts.append(text(precision, x=8, y=bottom - 24))
        groups = {
            "clean": scores(clean, precision),
            "bug": scores([row for row in runs if whole(row) or partial(row)], precision),
        }
        for kind, values in groups.items():
            counts, _ = np.histogram(np.clip(values, LOWEST, HIGHEST * 0.99), edges)
            for left, right, count in zip(edges, edges[1:], counts / max(1, counts.max()), strict=False):
                if count:
                    tall = 2 + 66 * float(count)
                    box = {"x": across(left), "y": bottom - tall, "width": across(right) - across(left) - 0.5}
                    parts.append(tag("rect", **box, height=tall, class_=kind, fill_opacity="0.75"))
        x = across(constants.factor)
        parts.append(tag("line", x1=x, x2=x, y1=bottom - 74, y2=bottom, class_="k"))
        parts.append(text(f"K = {constants.factor:g}", x=x + 4, y=bottom - 64))
        parts.append(_baseline(across, bottom))
    parts += key([("clean", "clean runs"), ("bug", "runs with a bug")], 20 + 4 * height + 14, boxes=True)
    return picture(20 + 4 * height + 24, "Largest D / max(F, G) of clean runs and of runs with a bug", parts)


def roc(clean: Sequence[Row], runs: Sequence[Row]) -> str:
    """Return detection of whole and partial bugs over the rate of false alarms, a line a precision."""
    across = Scale(low=1e-4, high=1.0, start=70, end=WIDTH - 20, log=True)
    up = Scale(low=0.0, high=1.0, start=260, end=20)
    parts = axes(
        across,
        up,
        [(10.0**p, f"1e{p}") for p in range(-4, 1)],
        percents(),
        "clean runs beyond the threshold; none at the left",
    )
    for precision, kind in KINDS.items():
        sound = np.sort(scores(clean, precision))
        found = np.asarray(scores([row for row in runs if whole(row) or partial(row)], precision))
        if len(sound) and len(found):
            limits = np.concatenate([[0.0], sound])[::-1]
            points = [(across(max(1e-4, float(np.mean(sound > k)))), up(float(np.mean(found > k)))) for k in limits]
            # Between two thresholds nothing is known: steps. Those that look alike are drawn once.
            points = [
                next(alike) for _, alike in itertools.groupby(points, key=lambda at: (round(at[0]), round(at[1])))
            ]
            points = [points[0], *itertools.chain(*(((x, y), (x, z)) for (_, y), (x, z) in itertools.pairwise(points)))]
            parts.append(path(points, class_=f"line {kind}"))
    parts += key([(kind, precision) for precision, kind in KINDS.items()], 306)
    return picture(316, "Bugs detected over false alarms, as the threshold is varied", parts)


def graded(runs: Sequence[Row]) -> str:
    """Return the share of runs in which an error of the gradient's scale is seen, over its size."""
    across = Scale(low=1e-14, high=1e-1, start=70, end=WIDTH - 20, log=True)
    up = Scale(low=0.0, high=1.0, start=260, end=20)
    parts = axes(across, up, [(10.0**p, f"1e{p}") for p in range(-14, 0, 2)], percents(), "error of the gradient")
    for precision, constants in PRECISIONS.items():
        of = [row for row in runs if row["kind"].startswith("wrong by") and row["precision"] == precision]
        sizes = sorted({share_of(row["kind"]) for row in of})
        points = [
            (across(size), up(float(np.mean([score(r) > constants.factor for r in of if share_of(r["kind"]) == size]))))
            for size in sizes
        ]
        parts.append(path(points, class_=f"line {KINDS[precision]}"))
    parts += key([(kind, precision) for precision, kind in KINDS.items()], 306)
    return picture(316, "Runs beyond K over the relative error of all gradients", parts)


def layers(depth: Sequence[Row]) -> str:
    """Return a panel a network and precision: the relative rounding error of each layer, its floor, and the bounds."""
    models, parts = sorted({row["model"] for row in depth}), []
    wide, tall = WIDTH / 4, 190.0
    lines: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
        "error": ("a", max),
        "allowed": ("c", lambda values: float(np.median(values))),
        "bound": ("b", max),
    }
    for (row, model), (column, precision) in itertools.product(enumerate(models), enumerate(PRECISIONS)):
        of = [found for found in depth if (found["model"], found["precision"]) == (model, precision)]
        if not of:
            continue
        left, top = wide * column + 44, tall * row + 28
        values = [found[name] for found in of for name in lines if found[name] > 0]
        low, high = 10.0 ** np.floor(np.log10(min(values))), 10.0 ** np.ceil(np.log10(max(values)))
        across = Scale(low=1, high=max(found["layer"] for found in of), start=left, end=wide * (column + 1) - 8)
        up = Scale(low=low, high=high, start=top + tall - 62, end=top, log=True)
        parts.append(text(f"{model.replace('_', ' ')}, {precision}", x=left, y=top - 8))
        for mark in 10.0 ** np.arange(np.log10(low), np.log10(high) + 0.5, max(1, round(np.log10(high / low) / 4))):
            parts.append(tag("line", x1=left, x2=across.end, y1=up(mark), y2=up(mark), class_="grid"))
            parts.append(text(f"1e{round(np.log10(mark))}", x=left - 4, y=up(mark) + 4, text_anchor="end"))
        for name, (kind, join) in lines.items():
            points = [
                (across(layer), up(join([found[name] for found in of if found["layer"] == layer])))
                for layer in sorted({found["layer"] for found in of})
            ]
            parts.append(path(points, class_=f"line {kind}"))
        parts.append(text("layer 1", x=left, y=top + tall - 46))
        parts.append(text(f"{across.high:g}", x=across.end, y=top + tall - 46, text_anchor="end"))
    names = [("a", "measured, largest"), ("c", "allowed: K max(F, G)"), ("b", "bound 4 x 1.03^(L+1-l) eps")]
    parts += key(names, tall * len(models) + 18, gap=200)
    return picture(tall * len(models) + 30, "Relative rounding error of each layer's gradient", parts)


def picture(height: float, title: str, parts: Sequence[str]) -> str:
    head = [tag("title", title), tag("style", STYLE)]
    box = {"viewBox": f"0 0 {WIDTH:g} {height:g}", "xmlns": "http://www.w3.org/2000/svg", "role": "img"}
    return tag("svg", *head, *parts, **box) + "\n"


def _baseline(across: Scale, bottom: float) -> str:
    marks = [
        text(f"1e{power}", x=across(10.0**power), y=bottom + 14, text_anchor="middle") for power in range(-2, 18, 2)
    ]
    return tag("g", tag("line", x1=across.start, x2=across.end, y1=bottom, y2=bottom, class_="axis"), *marks)


def axes(
    across: Scale,
    up: Scale,
    below: Sequence[tuple[float, str]],
    beside: Sequence[tuple[float, str]],
    name: str,
) -> list[str]:
    parts = []
    for value, label in beside:
        parts.append(tag("line", x1=across.start, x2=across.end, y1=up(value), y2=up(value), class_="grid"))
        parts.append(text(label, x=across.start - 6, y=up(value) + 4, text_anchor="end"))
    parts += [text(label, x=across(value), y=up.start + 16, text_anchor="middle") for value, label in below]
    return [*parts, text(name, x=across.end, y=up.start + 32, text_anchor="end")]


def percents() -> list[tuple[float, str]]:
    return [(share, f"{100 * share:g} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def key(names: Sequence[tuple[str, str]], y: float, *, boxes: bool = False, gap: float = 130) -> list[str]:
    parts = []
    for number, (kind, label) in enumerate(names):
        x = 80 + gap * number
        mark = {"x": x, "y": y - 9, "width": 14, "height": 10, "class_": kind}
        parts.append(
            tag("rect", **mark) if boxes else tag("line", x1=x, x2=x + 18, y1=y - 4, y2=y - 4, class_=f"line {kind}")
        )
        parts.append(text(label, x=x + 24, y=y))
    return parts


def main() -> None:
    """Write all of them."""
    clean, runs, depth = read()
    folder = DOCS / "plots"
    folder.mkdir(exist_ok=True)
    pictures = {"ratios": histogram(clean, runs), "roc": roc(clean, runs), "graded": graded(runs)}
    for name, picture in (pictures | {"depth": layers(depth)}).items():
        (folder / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
