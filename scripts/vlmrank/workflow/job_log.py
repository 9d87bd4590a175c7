"""What a run says: a log file a job, one line a result on the terminal, and the last lines of the run.

A job's lines go through a file that the head process follows, so that they appear above its progress bar and also come
from other nodes.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vlmrank.errors import LEFT_OUT, VlmrankError
from vlmrank.store import FAILED, DamagedFile, distrusted_models, read_csv
from vlmrank.text import rank_interval

# The file that jobs append their lines to; set by the head process, inherited by its jobs.
CHANNEL = "VLMRANK_RUN_LOG"
AGAIN = "Try them again with: snakemake --forcerun {rules} (finished pairs are kept)"
# How many models of equal rank the recommendation names.
EQUALS = 3
logger = logging.getLogger("vlmrank")


def announce(line: str) -> None:
    """Write a line to the job's log and to the terminal of the run."""
    logger.info(line)
    channel = os.environ.get(CHANNEL)
    if channel:
        with contextlib.suppress(OSError), Path(channel).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            return
    print(line, file=_terminal, flush=True)


_terminal = sys.stderr


@contextlib.contextmanager
def job(log: str | os.PathLike[str]) -> Iterator[None]:
    """Run the body of a job: everything that it or a library prints goes to its log file.

    A `VlmrankError` ends the process with exit status 1 and its message as one line; a result file that turns out to be
    damaged is dropped, so that the next run makes it anew. Anything else does so as well, but
    its traceback is in the log.
    """
    global _terminal
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    _terminal = os.fdopen(os.dup(2), "w", encoding="utf-8")
    with Path(log).open("w", encoding="utf-8", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
        logging.captureWarnings(True)
        try:
            yield
        except VlmrankError as error:
            announce(f"error: {error}")
            if isinstance(error, DamagedFile) and error.path.suffix == ".h5":  # then it is a result, and the next run's
                error.path.unlink(missing_ok=True)
            sys.exit(1)
        except KeyboardInterrupt:
            print("stopped by Ctrl-C", flush=True)
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            traceback.print_exc()
            announce(f"error: {type(error).__name__}: {error} (traceback in {log})")
            sys.exit(1)


class _Follower(threading.Thread):
    """Pass on each line that is appended to a file."""

    def __init__(self, path: Path, say: Callable[[str], None], every: float = 0.5):
        super().__init__(daemon=True)
        self.path, self.say, self.every = path, say, every
        self.ended = threading.Event()
        self.offset = 0

    def run(self) -> None:
        while not self.ended.wait(self.every):
            self.drain()
        self.drain()

    def drain(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            self.say(line)


_follower: _Follower | None = None
_started = time.time()


def open_channel(path: str | os.PathLike[str], say: Callable[[str], None] | None = None) -> None:
    """Let jobs append their lines to `path`; with `say`, this process passes them on from now on."""
    global _follower, _started
    path = Path(path).absolute()
    os.environ[CHANNEL] = str(path)
    if say is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        _started = time.time()
        logging.raiseExceptions = False  # a logger that stumbles over a killed job's missing log is no news
        _follower = _Follower(path, say)
        _follower.start()


def distrust(folder: str | os.PathLike[str]) -> list[str]:
    """One line if a folder of pairs holds some that an earlier version may have got wrong; else none."""
    models = distrusted_models(folder)
    if not models:
        return []
    which = f"{models[0]}" + (f" and {len(models) - 1} other models" if len(models) > 1 else "")
    return [
        f"{folder}: the conductance of {which} was made by the secant rule of an earlier version, which was wrong in "
        "passes of a single sample: it is computed again, and nothing of it is used"
    ]


def close_channel(
    results: str | os.PathLike[str],
    targets: Sequence[str],
    rules: Mapping[tuple[str, str], str] | None = None,
    *,
    failed: bool = False,
) -> None:
    """Pass on what is left and, when the process ends, print the last lines of the run (see `last_lines`)."""
    if _follower is not None:
        _follower.ended.set()
        _follower.join()
    # The job that fails for the sake of the exit status alone comes after all others.
    last = Path(os.environ[CHANNEL]).parent / "check_pairs" / "all.log"
    stopped = failed and not (last.exists() and not _earlier(last, _started))
    lines = last_lines(results, targets, rules, since=_started, stopped=stopped)
    atexit.register(lambda: print(*lines, sep="\n", file=sys.stderr, flush=True))


@dataclass(frozen=True)
class Outcome:
    """What `pairs.csv` says: how many (model, dataset) pairs there are, how many failed, and a line for each cause.

    `rules` are the rules to run again once the causes are mended.
    """

    pairs: int
    failed: int
    rules: tuple[str, ...]
    lines: tuple[str, ...]
    notes: tuple[str, ...]


def outcome(pairs: str | os.PathLike[str], rules: Mapping[tuple[str, str], str] | None = None) -> Outcome:
    """Sum `pairs.csv` up: what failed as a whole is one line, and so are pairs of one model with one reason.

    A pair counts as failed if any of its stages failed. `notes` has what was left out of pairs that succeeded. `rules`
    has the rule that computes the conductance of each (model, dataset).
    """
    table = read_csv(pairs)
    both = table[(table["model"] != "") & (table["dataset"] != "")]
    bad = table[table["status"] == FAILED]
    bad_pairs = bad[(bad["model"] != "") & (bad["dataset"] != "")]
    whole = bad[(bad["model"] == "") | (bad["dataset"] == "")]
    lines = [f"  {row.model or row.dataset} (all its pairs): {row.reason}" for row in whole.itertuples()]
    rest = bad_pairs[~bad_pairs["model"].isin(set(whole["model"]) - {""})]
    rest = rest[~rest["dataset"].isin(set(whole["dataset"]) - {""})]
    lines += _grouped(rest, both)
    left_out = table[(table["status"] != FAILED) & table["reason"].str.startswith(LEFT_OUT)]
    notes = [
        f"  {dataset}: {reason.removeprefix(LEFT_OUT)}"
        for (dataset, reason), _ in left_out.groupby(["dataset", "reason"], sort=False)
    ]
    again = {"fetch": "fetch_model", "prepare": "prepare_dataset", "accuracy": "measure_accuracy"}
    made_by = [
        (rules or {}).get((row.model, row.dataset), "compute_conductance")
        if row.stage == "conductance"
        else again.get(row.stage)
        for row in bad.itertuples()
    ]
    return Outcome(
        rules=tuple(dict.fromkeys(rule for rule in made_by if rule)),
        pairs=len(both.drop_duplicates(["model", "dataset"])),
        failed=len(bad_pairs.drop_duplicates(["model", "dataset"])) or len(whole),
        lines=tuple(lines),
        notes=tuple(notes),
    )


def _grouped(bad: pd.DataFrame, both: pd.DataFrame) -> list[str]:
    """A line for what all models have on a dataset, and for what one model has on several."""
    lines, rest = [], []
    every = both.groupby("dataset")["model"].nunique()
    for (dataset, reason), rows in bad.groupby(["dataset", "reason"], sort=False):
        if rows["model"].nunique() == every[dataset] > 1:
            lines.append(f"  {dataset} with every model: {reason}")
        else:
            rest.append(rows)
    for (model, reason), rows in pd.concat(rest).groupby(["model", "reason"], sort=False) if rest else ():
        names = list(dict.fromkeys(rows["dataset"]))
        whole = len(names) == both[both["model"] == model]["dataset"].nunique() and len(names) > 1
        lines.append(f"  {model} on {'every dataset' if whole else ', '.join(names)}: {reason}")
    return lines


def last_lines(
    results: str | os.PathLike[str],
    targets: Sequence[str],
    rules: Mapping[tuple[str, str], str] | None = None,
    *,
    since: float = 0.0,
    stopped: bool = False,
) -> list[str]:
    """The recommendation for each target, the report, and each failed pair, as far as this run came.

    Parameters
    ----------
    results : results folder.
    targets : names of the target datasets.
    rules : the rule that computes the conductance of each (model, dataset), where it is not `compute_conductance`.
    since : files that are older (seconds since the epoch) are of another run, and said to be.
    stopped : the run failed before its end: what an earlier one recommends may no longer hold.
    """
    results, lines = Path(results), []
    for target in targets:
        path = results / "ranking" / f"{target}.csv"
        if path.exists():
            old = _earlier(path, since) if stopped else ""
            failure = f"{target}: not ranked, since the run failed; {path} is of an earlier one{old}"
            lines.append(failure if old else recommendation(path, target))
    pairs, report = results / "pairs.csv", results / "report.html"
    if pairs.exists():
        found = outcome(pairs, rules)
        earlier = _earlier(pairs, since)
        if found.notes:
            lines += ["Left out:", *found.notes]
        if found.lines:
            lines += [f"{found.failed} of {found.pairs} pairs failed{earlier}:", *found.lines]
            lines += [AGAIN.format(rules=" ".join(found.rules))] if found.rules else []
        else:
            lines.append(f"All {found.pairs} pairs succeeded{earlier}.")
    if report.exists():
        lines.append(f"Report: {report}{_earlier(report, since) if stopped else ''}")
    return lines


def _earlier(path: Path, since: float) -> str:
    """When a file was written, if that was before this run."""
    written = path.stat().st_mtime
    return "" if written >= since - 1 else time.strftime(" (as of %Y-%m-%d %H:%M)", time.localtime(written))


def recommendation(path: str | os.PathLike[str], target: str) -> str:
    """`target: take model (95 % interval of its rank: 1 to 3 of 8)` from a ranking file."""
    table = read_csv(path)
    usable = table[table["status"] != FAILED]
    if usable.empty:
        return f"{target}: no model could be ranked"
    best, equal = usable.iloc[0], usable[usable["rank"] == usable["rank"].min()]["model"]
    names = " or ".join(equal[:EQUALS]) + (f" (or another {len(equal) - EQUALS})" if len(equal) > EQUALS else "")
    sure = rank_interval(float(best["rank_low"]), float(best["rank_high"]), len(usable))
    notes = [note for note in ("equal scores" if len(equal) > 1 else "", sure) if note]
    return f"{target}: take {names}" + (f" ({'; '.join(notes)})" if notes else "")
