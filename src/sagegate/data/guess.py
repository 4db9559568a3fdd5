"""Guesses about a table of texts: what each column is, what the target makes of the problem, and why."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sagegate.data.project import Code
from sagegate.errors import USAGE, SagegateError
from sagegate.pipeline.parameters import shown

MOST_CATEGORIES = 100  # different texts of a category: each becomes a column
MOST_CLASSES = 20
FEWEST_ROWS, FEWEST_OF_A_CLASS = 50, 10
NEARLY = 0.95  # of the cells: the others are faults to correct
LEAKS = {"regression": 0.999, "classification": 0.995}  # R2, balanced accuracy of one column on rows left out
ROWS_TO_JUDGE = 50_000
ID_NAME = re.compile(r"(^|[\W_])(id|uuid|guid|key|nr|no|number|index)$|Id$|ID$|^(Unnamed: \d+)?$", re.IGNORECASE)
KEY_NAME = re.compile(r"(^|[\W_])(id|uuid|guid)$", re.IGNORECASE)
FORMS = (  # of dates, besides ISO 8601
    *("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%y", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%d-%m-%Y"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%m/%d/%y"),
    *("%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%y"),
)
POSITIVE = {"1", "1.0", "true", "t", "yes", "y", "ja", "oui", "si", "positive", "pos", "fraud", "churned", "default"}


@dataclass(frozen=True)
class Column:
    """A column of texts: the different ones, and each row's number in that list; -1 is none."""

    name: str
    codes: Any
    texts: list[str]


@dataclass(frozen=True)
class Guess:
    """A guess: `kind` is as in schema.toml, "" for a column to leave out, "key" for split_by."""

    name: str
    kind: str
    why: str
    missing: int
    distinct: int
    example: str


@dataclass(frozen=True)
class Target:
    """The problem: its type, the classes in order (none of a number), and why."""

    problem_type: str
    classes: list[str]
    why: str
    values: Any  # each row's class number, or value


def guess_form(content: bytes) -> tuple[str, str]:
    """Return the separator and the encoding of a text file."""
    encoding = "utf-8"
    try:
        content.decode()
    except UnicodeDecodeError:
        encoding = "cp1252" if b"\0" not in content else "utf-16"
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            encoding = "latin-1"
    else:
        if b"\0" in content[:200]:
            encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    lines = content[: 1 << 17].decode(encoding, errors="ignore").lstrip("\ufeff").splitlines(keepends=True)
    lines = lines[:-1] if len(lines) > 1 and len(content) > 1 << 17 else lines
    best, separator = (False, 1), ","
    header = "".join(lines[:1])
    for candidate in dict.fromkeys([*",;\t|", *header]):
        if candidate.isalnum() or not candidate.isascii() or candidate in '"\r\n\0_-.' or candidate not in header:
            continue
        rows = [row for row in csv.reader(lines, delimiter=candidate) if row]
        fits = sum(len(row) == len(rows[0]) for row in rows) >= 0.9 * len(rows)
        if len(rows[0]) > 1 and (fits and candidate != " ", len(rows[0]) * fits) > best:
            best, separator = (fits and candidate != " ", len(rows[0])), candidate
    return separator, encoding


def guess_decimal(columns: list[Column], separator: str) -> str:
    """Return the decimal character: the one with which more columns are numbers."""
    counts = {}
    for mark in ".,":
        pattern = re.compile(rf"[ \t]*[+-]?\d*{re.escape(mark)}?\d+([eE][+-]?\d+)?[ \t]*")
        decimals = [c for c in columns if any(mark in text for text in c.texts)]
        counts[mark] = sum(
            np.mean([bool(pattern.fullmatch(text)) for text in column.texts if text.strip()] or [False]) > NEARLY
            for column in decimals
        )
    return "," if separator != "," and counts[","] > counts["."] else "."


class Guesser:
    """Guesses from a table of texts. `files` is the form in which its numbers are written."""

    def __init__(self, code: Code, files: Any, rows: int) -> None:
        self.code, self.files, self.rows = code, files, rows

    def numbers(self, column: Column) -> Any:
        """Return the number that each text is, nan for another one."""
        return np.array([self.code.raw_files.read_number(text, self.files) for text in column.texts], dtype=float)

    def present(self, column: Column, kind: str) -> Any:
        """Return for each text whether it is a value of that kind, and not a missing one."""
        return np.array([not self.code.raw_files.is_missing(text, kind) for text in column.texts], dtype=bool)

    def date_form(self, texts: list[str], counts: Any) -> tuple[str, str] | None:
        """Return the form in which the texts are dates ("" is ISO 8601) and a doubt about it, or None."""

        def share(form: str, some: slice) -> float:
            right = []
            for text in texts[some]:
                try:
                    right.append(1900 <= self.code.data.read_date(text, form).year < 2200 or not form)
                except ValueError:
                    right.append(False)
            return float(np.average(right, weights=counts[some]))

        if not texts or not re.match(r"\s*\d{1,4}[./-]?\d", texts[0]):
            return None
        compact = ["%Y%m%d"] if all(re.fullmatch(r"\d{8}", text) for text in texts) else []
        fitting = [form for form in ("", *FORMS, *compact) if share(form, slice(50)) >= 0.8]
        shares = {form: share(form, slice(None)) for form in fitting}
        fitting = [form for form in fitting if shares[form] == max(shares.values()) and shares[form] >= NEARLY]
        if not fitting:
            return None
        if len(fitting) > 1 and fitting[0].startswith("%m/%d"):
            form = fitting[-1] if self.files.decimal == "," else fitting[0]
            return form, f"; could also be {fitting[0] if form == fitting[-1] else fitting[-1]}: make sure"
        return fitting[0], ""

    def column(self, column: Column) -> Guess:
        """Return what a column is, by its values alone."""
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.texts))
        is_text, is_value = self.present(column, "category"), self.present(column, "number")
        numbers, texts = self.numbers(column), np.array(column.texts, dtype=object)
        example = next((text for text, keep in zip(column.texts, is_text, strict=True) if keep), "")

        def guess(kind: str, why: str, values: Any) -> Guess:
            return Guess(column.name, kind, why, self.rows - int(counts[values].sum()), int(values.sum()), example)

        if not is_text.any():
            return guess("", "always empty", is_text)
        is_constant = is_text.sum() == 1 and counts[is_text].sum() == self.rows
        if is_constant:
            return guess("", f"constant: always {example!r}", is_text)
        dated = self.date_form(list(texts[is_value]), counts[is_value])
        is_number = np.isfinite(numbers) & is_value
        share = counts[is_number].sum() / max(1, counts[is_value].sum())
        codes = [text for text in texts[is_number] if re.fullmatch(r"[+-]?0\d+", text)]
        if dated:
            return guess(
                f"date {dated[0]}".strip(), f"dates{' like ' + dated[0] if dated[0] else ''}{dated[1]}", is_value
            )
        if share >= NEARLY and not codes:
            return guess(*self.number(column, numbers[is_number], counts[is_number]), is_value)
        distinct, repeated = int(is_text.sum()), counts[is_text].sum()
        if distinct > MOST_CATEGORIES and KEY_NAME.search(column.name) and 1.2 * distinct < repeated == self.rows:
            return guess("key", "key of several rows, which stay in one split", is_text)
        if distinct > max(20, NEARLY * repeated):
            return guess("", "id or free text: another text in each row", is_text)
        if distinct > MOST_CATEGORIES:
            return guess("", f"too many different texts: more than {MOST_CATEGORIES}", is_text)
        digits = f"texts: digits such as {codes[0]!r} are codes" if codes else "texts"
        return guess("category", f"{digits}, {distinct} different", is_text)

    def number(self, column: Column, found: Any, counts: Any) -> tuple[str, str]:
        """Return the kind of a column of numbers, and why: one that only counts or names rows is no feature."""
        has_all, is_whole = counts.sum() == self.rows, bool((found == np.round(found)).all())
        if has_all and is_whole and len(found) == self.rows:
            is_dense = found.max() - found.min() < 1.05 * self.rows
            if is_dense or ID_NAME.search(column.name):
                return "", "id: another whole number in each row"
        is_key = has_all and is_whole and KEY_NAME.search(column.name) and 1.2 * len(found) < self.rows
        if is_key and len(found) > MOST_CATEGORIES:
            return "key", "key of several rows, which stay in one split"
        return "number", f"numbers from {found.min():g} to {found.max():g}"

    def features(self, columns: list[Column], target: Target, target_column: Column) -> list[Guess]:
        """Return a guess for each column; those that give the target away are left out."""
        guesses = [self.column(column) for column in columns]
        keys = [guess for guess in guesses if guess.kind == "key"]
        found = []
        for column, guess in zip(columns, guesses, strict=True):
            if guess.kind == "key" and len(keys) > 1:
                guess = replace(guess, kind="", why="key of several rows: put one key into split_by")
            if guess.kind not in ("", "key") and (why := self.leak(column, guess, target, target_column)):
                guess = replace(guess, kind="", why=f"leaks: {why}; keep it only if it is known before the target is")
            found.append(guess)
        if not any(guess.kind not in ("", "key") for guess in found):
            raise SagegateError(
                "no column is left to predict from: " + "; ".join(f"{shown(g.name)}: {g.why}" for g in found)
            )
        return found

    def leak(self, column: Column, guess: Guess, target: Target, target_column: Column) -> str:
        """Return how a column gives the target away, or ""."""
        from sklearn.metrics import balanced_accuracy_score, r2_score
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        if len(column.texts) == len(target_column.texts) and (column.codes == target_column.codes).all():
            return "it says the same as the target"  # codes count texts in the order of their first rows
        some = np.random.default_rng(0).permutation(self.rows)[:ROWS_TO_JUDGE]
        values = self.numbers(column) if guess.kind == "number" else np.arange(len(column.texts), dtype=float)
        if guess.kind == "category":
            values[~self.present(column, "category")] = np.nan
        elif guess.kind.startswith("date"):
            values = np.argsort(np.argsort(np.array(column.texts, dtype=object).astype(str))).astype(float)
            values[~self.present(column, "date")] = np.nan
        x, y = np.append(values, np.nan)[column.codes][some, None], target.values[some]
        half = len(some) // 2
        if len(some) < 2 * FEWEST_ROWS or len(np.unique(y[:half])) < 2 or len(np.unique(y[half:])) < 2:
            return ""
        if target.classes:
            tree = DecisionTreeClassifier(min_samples_leaf=3).fit(x[:half], y[:half])
            score, limit = balanced_accuracy_score(y[half:], tree.predict(x[half:])), LEAKS["classification"]
        else:
            tree = DecisionTreeRegressor(min_samples_leaf=1).fit(x[:half], y[:half])
            score, limit = r2_score(y[half:], tree.predict(x[half:])), LEAKS["regression"]
        return f"it alone predicts the target ({score:.4f} of 1)" if score >= limit else ""

    def target(self, column: Column, asked: str | None) -> Target:
        """Return the problem that a target makes. Raises SagegateError for one that no model can learn."""
        name, present = f"the target {shown(column.name)!r}", self.present(column, "category")
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.texts))
        texts = [text for text, keep in zip(column.texts, present, strict=True) if keep]
        if self.rows < FEWEST_ROWS:
            raise SagegateError(f"only {self.rows} rows: at least {FEWEST_ROWS} are needed to train and test", USAGE)
        if missing := self.rows - int(counts[present].sum()):
            raise SagegateError(f"{name} has no value in {missing} of {self.rows} rows: leave those rows out", USAGE)
        if len(texts) < 2:
            raise SagegateError(f"{name} is always {shown(texts[0])!r}: there is nothing to learn", USAGE)
        alike: dict[str, str] = {}
        for text in texts:
            if (other := alike.setdefault(text.strip().casefold(), text)) != text and len(texts) <= MOST_CLASSES:
                raise SagegateError(f"{name} has {other!r} and {text!r}: make them one class", USAGE)
        numbers = self.numbers(column)
        are_numbers, is_whole = bool(np.isfinite(numbers).all()), bool((numbers == np.round(numbers)).all())
        few = len(texts) <= 10 and is_whole and counts[present].min() >= FEWEST_OF_A_CLASS
        guessed = "binary_classification" if len(texts) == 2 else "multiclass_classification"
        if are_numbers and len(texts) > 2 and not few:
            guessed = "regression"
        problem = asked or guessed
        if problem == "regression":
            if not are_numbers:
                wrong = texts[int(np.argmin(np.isfinite(numbers[present])))]
                raise SagegateError(f"{name} has {shown(wrong)!r}, which is not a number: correct it", USAGE)
            return Target(problem, [], f"{len(texts)} different numbers", numbers[column.codes])
        if len(texts) > MOST_CLASSES or (len(texts) == 2) != (problem == "binary_classification"):
            raise SagegateError(
                f"{name} has {len(texts)} different values such as {shown(texts[0])!r}, which make no {problem}:"
                f" choose another --problem-type or target, or correct them (at most {MOST_CLASSES} classes)",
                USAGE,
            )
        of = {text: int(count) for text, count in zip(column.texts, counts, strict=True)}
        if of[rarest := min(texts, key=lambda text: of[text])] < FEWEST_OF_A_CLASS:
            what = f"{name}: only {of[rarest]} rows of class {shown(rarest)!r}"
            raise SagegateError(f"{what}: at least {FEWEST_OF_A_CLASS} are needed: add rows, or join classes", USAGE)
        classes = sorted(texts, key=lambda text: (numbers[column.texts.index(text)] if are_numbers else 0.0, text))
        if problem == "binary_classification" and not are_numbers:
            named = [text for text in texts if text.strip().casefold() in POSITIVE]
            last = named[0] if len(named) == 1 else rarest
            classes = [text for text in texts if text != last] + [last]
        order = np.array(
            [
                classes.index(text) if text in of and keep else -1
                for text, keep in zip(column.texts, present, strict=True)
            ]
        )
        return Target(problem, classes, ", ".join(f"{shown(c)}: {of[c]} rows" for c in classes), order[column.codes])
