"""evaluation.json and the test rows -> report.html: one page without scripts, for whoever decides about a candidate.

evaluate.py calls it after the verdict is written. The same input gives the same bytes.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import drift
from artifact import Model, load
from charts import Array, Chart, Range, intervals, safe, span
from data import Schema, load_schema
from metrics import LOWER_IS_BETTER, METRICS, Metric, resample, seen_by

RESAMPLES, RESAMPLED = 200, 10_000  # of the rows; how many rows at most
EXPLAINED = 500  # rows to explain
SHOWN = 10  # of what is ordered by size
Json = dict[str, Any]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root{color-scheme:light dark;--page:#fff;--text:#1c1c1c;--quiet:#595959;--rule:#e2e2e2;--a:#0067a8;--b:#b04a00;
--good:#00694b;--bad:#b3261e}
@media screen and (prefers-color-scheme:dark){:root{--page:#14171a;--text:#e8e8e8;--quiet:#a8adb2;--rule:#33383d;
--a:#6cb8ff;--b:#ffab66;--good:#5bd6a8;--bad:#ff8f85}}
@media print{:root{color-scheme:light}figure,tr,h2{break-inside:avoid;break-after:avoid-page}}
body{margin:0 auto;max-width:1080px;padding:20px 16px 40px;background:var(--page);color:var(--text);
font:15px/1.45 system-ui,sans-serif}
h1{font-size:26px;line-height:1.2;margin:0 0 6px}h2{font-size:18px;margin:26px 0 6px}
.yes{color:var(--good)}.no{color:var(--bad)}.a-text{color:var(--a)}.b-text{color:var(--b)}
p{margin:6px 0;max-width:80ch;overflow-wrap:anywhere}caption,small,thead th{color:var(--quiet)}
small{font-size:12.5px;white-space:nowrap}figcaption small{white-space:normal;display:block}
.scroll{overflow-x:auto;margin-top:8px}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:4px;max-width:calc(100vw - 32px)}
tr.gate>*{font-weight:650}tr.gate small{font-weight:400}
th,td{padding:3px 14px 3px 0;text-align:right;vertical-align:top;border-top:1px solid var(--rule);font-weight:400}
thead th{border:0;vertical-align:bottom}tr>:first-child,td.words{text-align:left;overflow-wrap:anywhere}
td.cell{background:color-mix(in srgb,var(--a) calc(var(--share)*45%),transparent);padding:4px 10px}
td.wrong{background:color-mix(in srgb,var(--b) calc(var(--share)*70%),transparent)}
i.bar{display:inline-block;width:calc(var(--share)*min(30vw,240px));height:11px;background:var(--a)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(290px,100%),1fr));gap:16px 26px}
figure{margin:0;min-width:0}svg{display:block;width:100%;max-width:420px;height:auto}svg.strip{width:200px}
text{font:11px system-ui,sans-serif;fill:var(--quiet);unicode-bidi:isolate}text.key{font-weight:650;fill:var(--text)}
.rule{stroke:var(--rule)}.mark{stroke:var(--text)}.line{fill:none;stroke:var(--text);stroke-width:1.8}
.line.c{stroke-dasharray:1.5 3}.line.a{stroke:var(--a)}.line.b{stroke:var(--b);stroke-dasharray:6 3}
.line.solid{stroke-dasharray:none}.dot{fill-opacity:.55}.full{fill-opacity:1}
.dot.a,text.a{fill:var(--a)}.dot.b,text.b{fill:var(--b)}
@media(max-width:640px){.strip-cell{display:none}small{white-space:normal}th,td{padding-right:9px}}
"""


def page(evaluation: Json, folder: Path, seed: int, rows: pd.DataFrame, y: Array, p: Array, q: Array | None) -> str:
    """Return the page. `folder` is the candidate's artifact, p and q are the predictions of candidate and champion."""
    schema, gate, lineage = load_schema(), evaluation["gate"], evaluation["lineage"]
    record = folder / "training.json"  # another train.py may not write it
    recorded: Json = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    word, css = ("Passed", "yes") if gate["passed"] else ("Rejected", "no")
    title = f"{word} by the gate: {safe(gate['metric'])} {gate['candidate']:.4g}"
    with np.errstate(all="ignore"):
        sections = {
            "Metrics": metrics_table(evaluation, METRICS[schema.problem_type], y, p, q, seed),
            "Predictions": "".join(predictions(schema, y, p, q, evaluation["decision_thresholds"])),
            "What the model uses": contributions(load(folder), rows, y, gate["metric"], seed),
            "Where it is worst": worst_slices(schema, rows, y, p, q),
            "Data": data_summary(schema, recorded.get("profile"), rows, lineage["rows"]),
            "How it was made": origin(recorded, gate, lineage),
        }
    body = "".join(f"<section>\n<h2>{heading}</h2>\n{content}</section>\n" for heading, content in sections.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1 class="{css}">{title}</h1>
<p>{safe(gate["reason"], 600)}</p>
{body}</main>
</body>
</html>
"""


# --- parts of HTML ---------------------------------------------------------------------------------------------------
def named(value: object) -> str:
    """Return a text from the data as HTML, in which the direction of its letters changes nothing around it."""
    return f"<bdi>{safe(value).replace('_', '_<wbr>')}</bdi>"


def table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], marked: int = -1) -> str:
    """Return a table. Cells are HTML; the first of a row is its heading, and a cell may begin with its own <td>."""
    body = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = f"<thead><tr>{body}</tr></thead>\n<tbody>\n" if headings else "<tbody>\n"
    for index, (first, *others) in enumerate(rows):
        cells = "".join(cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in others)
        body += f'<tr{" class=gate" if index == marked else ""}><th scope="row">{first}</th>{cells}</tr>\n'
    caption = f"<caption>{safe(caption, 300)}</caption>"
    return f'<div class="scroll" tabindex="0"><table>\n{caption}\n{body}</tbody></table></div>\n'


def figure(caption: str, note: str, image: str) -> str:
    """Return a chart with its caption."""
    return f"<figure><figcaption>{caption}<small>{safe(note, 200)}</small></figcaption>{image}</figure>\n"


def with_interval(value: float, ends: Range, sign: str = "") -> str:
    """Return a value and, if it has one, its interval."""
    shown = f" <br><small>{ends[0]:{sign}.4g} to {ends[1]:{sign}.4g}</small>"
    return f"{value:{sign}.4g}" + (shown if math.isfinite(sum(ends)) else "")


# --- the verdict -----------------------------------------------------------------------------------------------------
def metrics_table(found: Json, metrics: dict[str, Metric], y: Array, p: Array, q: Array | None, seed: int) -> str:
    """Return candidate beside champion on every metric, with intervals; the gate's metric first."""
    gate, baseline, thresholds = found["gate"], found["baseline_values"], found["decision_thresholds"]
    used, weights, scale = resample(len(y), RESAMPLES, seed, RESAMPLED)
    weights = [np.ones(len(used)), *weights]  # first the rows as they are

    def ends(whole: float, found: Array) -> Range:
        center, found = found[0], found[1:][np.isfinite(found[1:])]
        if len(found) * 2 < RESAMPLES:
            return math.nan, math.nan
        low, high = np.quantile(found, [1 - gate["confidence"], gate["confidence"]]) - center
        return float(whole + scale * low), float(whole + scale * high)

    rows = []
    for name in sorted(metrics, key=lambda name: (name != gate["metric"], name)):
        metric, is_gate, sign = metrics[name], name == gate["metric"], -1.0 if name in LOWER_IS_BETTER else 1.0
        both = [seen_by(name, each, t) for each, t in zip([p] if q is None else [p, q], thresholds, strict=True)]
        values = [metric(y, each, np.ones(len(y))) for each in both]
        samples = [np.array([metric(y[used], each[used], weight) for weight in weights]) for each in both]
        spread = [(css, value, ends(value, each)) for css, value, each in zip("ab", values, samples, strict=False)]
        cells = [with_interval(value, each) for _, value, each in spread]
        if q is not None:
            better = sign * (values[0] - values[1]) + 0.0  # not -0
            low, high = ends(better, sign * (samples[0] - samples[1]))
            low = gate["lowest_improvement"] if is_gate else low  # of more resamples: the gate decided by it
            clear = "better" if low > 0 else "worse" if high < 0 else "same" if low == high == 0 else "not clear"
            cells += [with_interval(better, (low, high), "+"), f'<td class="words">{clear}</td>']
        strip = intervals(spread, gate["threshold"] if is_gate else None, f"the intervals of {name} on one scale")
        first = f"{named(name)} {'↓' if sign < 0 else '↑'}"
        cells.append(f"{round(baseline[name], 12):.4g}" if name in baseline else "")
        rows.append([first, *cells, f'<td class="strip-cell">{strip}</td>'])
    headings = ["metric", '<span class="a-text">candidate</span>']
    caption = f"{len(y):,} test rows. ↑ higher is better, ↓ lower. Each end of an interval holds with"
    caption += f" {gate['confidence']:.4g} confidence ({RESAMPLES} resamples). "
    if q is not None:
        headings += [f'<span class="b-text">champion v{gate["champion_version"]}</span>', "improvement", ""]
    caption += "There is no champion yet." if q is None else "Above 0, an improvement is one, of errors too."
    caption += f" The baseline gives every row {'the share of each class' if y.dtype.kind == 'i' else 'the mean'}."
    return table(caption, [*headings, "baseline", '<span class="strip-cell">│ threshold</span>'], rows, marked=0)


# --- predictions -----------------------------------------------------------------------------------------------------
def predictions(schema: Schema, y: Array, p: Array, q: Array | None, thresholds: list[float]) -> Iterator[str]:
    """Yield the charts that go with the problem type."""
    yield '<div class="figures">'
    if schema.problem_type == "binary_classification":
        series = [("candidate", "a", y, p)] + ([] if q is None else [("champion", "b", y, q)])
        yield from curves(series, f"of {schema.classes[1]}")
        yield calibration(y == 1, p)
        how = f"a probability above {thresholds[0]:.4g}"
        yield f"</div>\n{confusion_table(schema, y, (p > thresholds[0]).astype(int), how)}"
    elif schema.is_classification:
        auc, count = METRICS["binary_classification"]["auc"], len(schema.classes)
        ranked = [(auc((y == k).astype(int), p[:, k], np.ones(len(y))), k) for k in range(count)]
        worst = sorted(each for each in ranked if math.isfinite(each[0]))[:3]
        shown = [(schema.classes[k], css, y == k, p[:, k]) for css, (_, k) in zip("abc", worst, strict=False)]
        yield from curves(shown, "of the candidate, a class against the others" + (", the worst 3" * (count > 3)))
        yield calibration(y == p.argmax(axis=1), p.max(axis=1))
        yield f"</div>\n{confusion_table(schema, y, p.argmax(axis=1), 'the most probable class')}"
    else:
        residuals, both = y - p, span(y, p)
        chart = Chart("actual", "predicted", both, both)
        chart.line(both, both, "c")
        chart.dots(y, p, "a")
        note = f"of the candidate; half of the rows are within {np.median(np.abs(residuals)):.4g} of the dotted line"
        yield figure("Predicted against actual", note, chart.svg(note))
        chart = Chart("predicted", "actual - predicted", span(p), span(residuals, [0.0]))
        chart.line(chart.x, (0.0, 0.0), "c")
        chart.dots(p, residuals, "a")
        note = f"of the candidate; mean {residuals.mean():.4g}, standard deviation {residuals.std():.4g}"
        yield figure("Residuals", note, chart.svg(note)) + "</div>\n"


def curves(series: Sequence[tuple[str, str, Array, Array]], note: str) -> Iterator[str]:
    """Yield the ROC and the precision-recall chart of (name, class, is positive, probability)."""
    roc = Chart("false positive rate", "true positive rate", (0, 1), (0, 1))
    recall = Chart("recall", "precision", (0, 1), (0, 1))
    roc.line((0, 1), (0, 1), "c")
    for name, css, positive, p in series:
        order = np.argsort(-p, kind="stable")
        hit, last = positive[order] == 1, np.flatnonzero(np.r_[np.diff(p[order]) != 0, True])
        tp, fp = np.cumsum(hit)[last], np.cumsum(~hit)[last]
        roc.line(np.r_[0, fp / max(1, fp[-1])], np.r_[0, tp / max(1, tp[-1])], css)
        recall.line(tp / max(1, tp[-1]), tp / (tp + fp), css)
        roc.key(name, css)
        recall.key(name, css, left=True)
    yield figure("ROC", note, roc.svg(f"ROC {note}; the dotted diagonal is guessing"))
    yield figure("Precision and recall", note, recall.svg(f"precision and recall {note}"))


def calibration(is_true: Array, p: Array) -> str:
    """Return how often what is predicted with a probability is true, with Wilson's 95 % intervals."""
    chart = Chart("probability of what is predicted", "share that is true", (0, 1), (0, 1))
    chart.line((0, 1), (0, 1), "c")
    bins, said, z = np.minimum((p * 10).astype(int), 9), [], 1.96
    for k in np.unique(bins):
        count, share, at = int((bins == k).sum()), float(is_true[bins == k].mean()), float(p[bins == k].mean())
        middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
        chart.line((at, at), (middle - half, middle + half), "a")
        chart.dots((at,), (share,), "a full")
        said.append(f"{at:.2f} predicted, {share:.2f} true of {count} rows")
    return figure("Calibration", "of the candidate; right is on the diagonal", chart.svg("; ".join(said)))


def confusion_table(schema: Schema, y: Array, called: Array, how: str) -> str:
    """Return the confusion matrix with recall and precision, of at most SHOWN classes, the most frequent ones."""
    counts = np.zeros((len(schema.classes), len(schema.classes)), dtype=int)
    np.add.at(counts, (y, called), 1)
    most = sorted(np.argsort(-counts.sum(axis=1), kind="stable")[:SHOWN])
    sums, totals = np.maximum(1, counts.sum(axis=0)), np.maximum(1, counts.sum(axis=1))
    rows = []
    for t in most:
        shares = [(counts[t, c], counts[t, c] / totals[t], "cell" if t == c else "cell wrong") for c in most]
        cells = [f'<td class="{css}" style="--share:{share:.2f}">{n}</td>' for n, share, css in shares]
        rows.append([named(schema.classes[t]), *cells, f"{counts[t, t] / totals[t]:.3g}"])
    rows.append(["precision", *(f"{counts[c, c] / sums[c]:.3g}" for c in most), ""])
    caption = f"The candidate's confusion at {how}: rows are true, columns are called"
    caption += f". The {SHOWN} most frequent of {len(counts)} classes" if len(counts) > SHOWN else ""
    return table(caption, ["", *(named(schema.classes[c]) for c in most), "recall"], rows)


# --- what the model uses, and where it is worst ----------------------------------------------------------------------
def contributions(model: Model, rows: pd.DataFrame, y: Array, metric: str, seed: int) -> str:
    """Return how much each column moves predictions: XGBoost's contributions, else what shuffling it costs."""
    at = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), EXPLAINED)).astype(int))
    rows, y, fitted = rows.iloc[at], y[at], model.estimator
    sizes = dict.fromkeys(model.schema.columns, 0.0)
    if hasattr(fitted, "contributions"):
        what = "Mean size of a column's contribution to a prediction (TreeSHAP, before the link function)"
        each = fitted.contributions(model.preprocessing.transform(rows[list(sizes)]))
        for feature, size in zip(model.preprocessing.get_feature_names_out(), each.tolist(), strict=True):
            name = feature.partition("__")[2] or feature  # of a category: its column, _, the value
            owner = max((c for c in sizes if name == c or name.startswith(f"{c}_")), key=len, default=name)
            sizes[owner] = sizes.get(owner, 0.0) + size
    else:
        what = f"How much worse {metric} is if the column's values are shuffled"
        measured, sign = METRICS[model.schema.problem_type][metric], 1.0 if metric in LOWER_IS_BETTER else -1.0
        ones, threshold = np.ones(len(y)), model.threshold
        order = np.random.default_rng(seed).permutation(len(rows))
        base = measured(y, seen_by(metric, model.predict(rows), threshold), ones)
        for name in sizes:
            shuffled = model.predict(rows.assign(**{name: rows[name].to_numpy()[order]}))
            sizes[name] = max(0.0, sign * (measured(y, seen_by(metric, shuffled, threshold), ones) - base))
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    shares = [sizes[name] / (sizes[names[0]] or 1.0) for name in names[:SHOWN]]
    bars = [f'<td class="words"><i class="bar" style="--share:{share:.3f}"></i></td>' for share in shares]
    body = [[named(name), f"{sizes[name]:.3g}", bar] for name, bar in zip(names, bars, strict=False)]
    rest = f"; not shown: {len(names) - SHOWN}, with less" if len(names) > SHOWN else ""
    return table(f"{what}, on {len(rows)} test rows{rest}.", ["column", "size", ""], body)


def slices(schema: Schema, rows: pd.DataFrame) -> Iterator[tuple[str, Array]]:
    """Yield parts of the rows: a name as HTML, and which rows are in it."""
    for name, kind in schema.columns.items():
        values = rows[name].to_numpy(dtype=float if kind == "number" else object)
        yield f"{named(name)} is missing", rows[name].isna().to_numpy()
        if kind == "number":
            known = np.sort(values[np.isfinite(values)])
            cuts = np.unique(known[[len(known) * k // 4 for k in (1, 2, 3)]]) if len(known) else known
            for low, high in zip([-np.inf, *cuts], [*cuts, np.inf], strict=True):
                shown = "" if math.isinf(low) else f"{low:.4g} &lt; "
                shown += named(name) + ("" if math.isinf(high) else f" ≤ {high:.4g}")
                yield shown, (values > low) & (values <= high)
        else:
            for value in rows[name].value_counts().index[:SHOWN]:
                yield f"{named(name)} is {named(value)}", values == value


def worst_slices(schema: Schema, rows: pd.DataFrame, y: Array, p: Array, q: Array | None) -> str:
    """Return the parts of the test rows on which the mean loss is highest, beyond what their size explains."""
    columns = []
    for each in [p] if q is None else [p, q]:
        given = np.where(y == 1, each, 1 - each) if each.ndim == 1 else each[np.arange(len(y)), y.astype(int)]
        columns.append(-np.log(np.clip(given, 1e-7, 1)) if schema.is_classification else np.abs(y - each))
    loss, least, found = columns[0], max(10, len(rows) // 50), []
    for shown, inside in [("all test rows", np.ones(len(rows), dtype=bool)), *slices(schema, rows)]:
        if (count := int(inside.sum())) >= least:
            z = (loss[inside].mean() - loss.mean()) / (loss.std() / math.sqrt(count) + 1e-12)
            found.append((float(z), shown, [str(count), *(f"{column[inside].mean():.4g}" for column in columns)]))
    body = [[shown, *cells, f"{z:.1f}"] for z, shown, cells in sorted(found[1:], key=lambda each: (-each[0], each[1]))]
    headings = ["rows where", "rows", f"mean {'log loss' if schema.is_classification else 'absolute error'}"]
    headings += ["z"] if q is None else ["champion", "z"]
    caption = f"The worst of {len(body)} slices of at least {least} rows. Of so many, some are worse by chance: a z"
    return table(f"{caption} below 3 says little.", headings, [*body[:5], [found[0][1], *found[0][2], ""]])


# --- data and origin -------------------------------------------------------------------------------------------------
def data_summary(schema: Schema, profile: Json | None, rows: pd.DataFrame, sizes: Json) -> str:
    """Return the rows by split, and for each column what is missing and how far the splits differ."""
    text = f"<p>Rows: {safe(', '.join(f'{name} {count:,}' for name, count in sizes.items()), 200)}.</p>\n"
    found = []
    for name, known in (profile or {}).items():
        counts = known["counts"] | {"test": drift.count(rows[name], known["bins"])}
        missing = [f"{100 * counts[split][-1] / max(1, sum(counts[split])):.3g} %" for split in ("train", "test")]
        shifts = {split: drift.shift(counts["train"], counts[split]) for split in ("validation", "test")}
        differ = ", ".join(split for split, (size, chance) in shifts.items() if size > chance)
        cells = [named(name), *missing, *(f"{size:.3f}" for size, _ in shifts.values())]
        cells.append(f'<td class="words">{differ and f"differs: {differ}"}</td>')
        found.append((not differ, -shifts["test"][0], cells))
    if not found:
        return f"{text}<p>The artifact does not say how its training data was distributed.</p>\n"
    found.sort(key=lambda each: each[:2])
    caption = "Drift is the population stability index against the train split; a column differs if chance does not"
    caption += f" explain it. {f'Not shown: {len(found) - SHOWN}, with less drift.' if len(found) > SHOWN else ''}"
    headings = ["column", "missing in train", "in test", "drift of validation", "of test", ""]
    return text + table(caption, headings, [cells for *_, cells in found[:SHOWN]])


def origin(recorded: Json, gate: Json, lineage: Json) -> str:
    """Return parameters and lineage."""
    groups = {
        "Hyperparameters": recorded.get("hyperparameters", {}),
        "Gate": {name: gate[name] for name in ("metric", "threshold", "min_improvement", "confidence")},
        "Split": lineage["split"],
        "Libraries": lineage["versions"],
        "Lineage": {"champion": gate["champion_version"] or "none", "artifact SHA-256": lineage["artifact_sha256"]},
    }
    tables = [
        table(name, [], [[named(key), f'<td class="words">{safe(values[key], 70)}</td>'] for key in sorted(values)])
        for name, values in groups.items()
    ]
    advice = "<code>sagegate models VERSION</code> shows the code, the data and the execution."
    return f'<div class="figures">{"".join(tables)}</div>\n<p>{advice}</p>\n'
