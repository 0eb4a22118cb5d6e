"""Are verdicts right? Studies whose truth is known, judged by the shipped stages and the shipped decision.

    python -m benchmarks.verdicts

Only the trainer is replaced: a run's accuracy is ReLU's own mean at that learning rate, as a real study measured it,
plus noise resampled from that study's final runs: what a seed brought to all of its arms, and what was left of each
single run. In a null study every candidate and every control is ReLU's equal; in a planted one a single candidate, at
random, is better by so many points. The candidates are screened, and `final_table` does the rest: re-run, sweeps, final
runs, corrections, phrase.

Counted is what was said. A null study should not be called "better than tuned ReLU"; a planted one should, where the
spread and the seeds of the study allow it, and where they do not, the phrase should say what could have been seen.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sugarsearch.config.schema import StudyConfig
from sugarsearch.config.verdict import FinalConfig
from sugarsearch.errors import AdmissionError, UsageError
from sugarsearch.evaluation.bench import versions
from sugarsearch.evaluation.jobs import SCREENING, Job, seed_of
from sugarsearch.evaluation.records import Record, Status
from sugarsearch.nn.admission import admit
from sugarsearch.runs.load import load_study
from sugarsearch.runs.results import StudyResult
from sugarsearch.symbolic.grammar import Grammar
from sugarsearch.symbolic.surrogate import Surrogate
from sugarsearch.verdict.arms import RELU, Screened
from sugarsearch.verdict.final import final_table
from sugarsearch.verdict.table import FinalTable

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "verdicts.json"
STUDIES: Final = ("quickstart", "cifar10_small")
DEFAULT: Final = "default budget"
"""Of the stages after the screening: what a study file that names no budget gets."""
SCENARIOS: Final = (*STUDIES, f"cifar10_small, {DEFAULT}")
PLANTED: Final = 0.01
CLASSES: Final = 10


@dataclass(frozen=True)
class World:
    """What a real study measured.

    Attributes:
        study: its settings, as shipped.
        rates, means: ReLU's mean validation accuracy by learning rate.
        shared: what each seed brought to all arms of the final runs.
        own: what was left of each single run.
        pool: candidates of its space, each fit for training.
    """

    study: StudyConfig
    rates: tuple[float, ...]
    means: tuple[float, ...]
    shared: NDArray[np.float64]
    own: NDArray[np.float64]
    pool: tuple[Surrogate, ...]

    def truth(self, rate: float) -> float:
        """ReLU's mean at any rate, straight between and beyond the measured ones over the rate's logarithm."""
        logs, means = np.log(self.rates), np.array(self.means)
        at = float(np.log(rate))
        for end, inner in ((0, 1), (-1, -2)):
            if (at - logs[end]) * (logs[end] - logs[inner]) > 0:
                slope = (means[end] - means[inner]) / (logs[end] - logs[inner])
                return float(np.clip(means[end] + slope * (at - logs[end]), 1 / CLASSES, 1.0))
        return float(np.interp(at, logs, means))


@cache
def world(scenario: str) -> World:
    """Of a study's committed run, with the study's budget or the default one."""
    name, _, budget = scenario.partition(", ")
    result = StudyResult.load(ROOT / "docs" / "results" / name / "results.json")
    study = load_study(name)
    if budget == DEFAULT:
        final = FinalConfig(learning_rates=study.final.learning_rates)
        study = study.model_copy(update={"final": final})
    table = result.table
    assert table is not None
    relu = next(row for row in table.rows if row.label == "relu")
    sweep = sorted((float(rate), mean) for rate, mean in relu.tuning.items())
    most = max(len(row.scores) for row in table.rows)
    whole = [[row.scores[key] for key in sorted(row.scores, key=int)] for row in table.rows if len(row.scores) == most]
    rates, means = zip(*sweep, strict=True)
    return World(study, rates, means, *_parted(np.array(whole)), _pool(study))


def _parted(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What scores [arms, seeds] share by seed, and what is left of each, both with their true spread.

    The mean over k arms takes a k-th of the variance of what is left away from it, and to the shared part.
    """
    residuals = scores - scores.mean(1, keepdims=True)
    arms, seeds = residuals.shape
    means = residuals.mean(0)
    left = (residuals - means) * (arms / (arms - 1)) ** 0.5 * (seeds / (seeds - 1)) ** 0.5
    spread = float(means.var(ddof=1))
    true = max(0.0, spread - float(left.var()) / arms)
    return means * (true / spread) ** 0.5, left.ravel()


def _pool(study: StudyConfig) -> tuple[Surrogate, ...]:
    grammar, rng = Grammar(study.space), np.random.default_rng(0)
    pool: dict[str, Surrogate] = {}
    while len(pool) < 3 * study.search.candidates:
        try:
            g = grammar.surrogate(grammar.sample(rng)).at_unit_gain()
            admit(g)
        except (AdmissionError, UsageError):
            continue
        pool[g.identity] = g
    return tuple(pool.values())


class Trainer:
    """Gives records as a real trainer would, without training."""

    def __init__(self, world: World, lead: Callable[[Surrogate], float], number: int) -> None:
        self._world, self._lead, self._number = world, lead, number

    def __call__(self, jobs: Sequence[Job]) -> Iterator[Record]:
        for job in jobs:
            yield Record(
                job=job,
                recipe="simulated",
                mode="eager",
                device="none",
                status=Status.COMPLETED,
                classes=CLASSES,
                seconds=0.0,
                versions={},
                scores=(self.score(job.surrogate, job.learning_rate, job.seed),),
            )

    def score(self, g: Surrogate, rate: float, seed: int) -> float:
        """Accuracy of a run."""
        here = self._world
        shared = np.random.default_rng([self._number, seed]).choice(here.shared)
        own = np.random.default_rng([self._number, seed, int(g.identity, 16), round(1e6 * rate)]).choice(here.own)
        return float(np.clip(here.truth(rate) + self._lead(g) + shared + own, 0.0, 1.0))


def judged(scenario: str, planted: float, number: int) -> tuple[FinalTable, bool]:
    """One study from its screening to its verdict; whether the planted candidate is the finalist comes with it."""
    here, rng = world(scenario), np.random.default_rng([number, 1])
    search = here.study.search.model_copy(update={"seed": number})
    study = here.study.model_copy(update={"search": search})
    chosen = rng.choice(len(here.pool), study.search.candidates - 1, replace=False)
    candidates = [RELU, *(here.pool[index] for index in chosen)]
    best = candidates[int(rng.integers(1, len(candidates)))]
    trainer = Trainer(here, lambda g: planted if planted and g.identity == best.identity else 0.0, number)
    screened = sorted((_screened(g, trainer, study) for g in candidates), key=lambda one: -one.score)
    table = final_table(trainer, screened, study, scoring=None)
    finalist = next(row for row in table.rows if row.role == "finalist")
    return table, Surrogate.from_json(finalist.surrogate).identity == best.identity


def _screened(g: Surrogate, trainer: Trainer, study: StudyConfig) -> Screened:
    seeds = [seed_of(study.search.seed, SCREENING, replicate) for replicate in range(study.search.replicates)]
    scores = {rate: fmean(trainer.score(g, rate, seed) for seed in seeds) for rate in study.search.learning_rates}
    rate = max(scores, key=lambda rate: scores[rate])
    return Screened(g, rate, scores[rate])


def _outcome(scenario: str, planted: float, number: int) -> dict[str, Any]:
    table, is_planted = judged(scenario, planted, number)
    verdict, optimism = table.verdict, table.optimism
    assert verdict is not None
    return {
        "kind": verdict.kind,
        "planted": is_planted,
        "detectable": verdict.detectable,
        "phrase": verdict.phrase,
        "optimism": None if optimism is None else optimism.points,
        "relu_sd": next(row.summary.sd for row in table.rows if row.label == "relu"),
    }


def counted(scenario: str, planted: float, studies: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """What so many studies said."""
    started = time.monotonic()
    made = list(pool.map(partial(_outcome, scenario, planted), range(studies), chunksize=10))
    kinds = Counter(one["kind"] for one in made)
    better = sum(one["kind"] == "better" and (one["planted"] or not planted) for one in made)
    silent = [one for one in made if one["kind"] == "no_difference"]
    test = stats.binomtest(better, studies, alternative="greater" if planted else "less")
    bound = test.proportion_ci(0.95)
    return {
        "scenario": scenario,
        "planted_points": 100 * planted,
        "studies": studies,
        "said": dict(kinds.most_common()),
        "better_percent": round(100 * better / studies, 2),
        "better_percent_95_bound": round(100 * (bound.low if planted else bound.high), 2),
        "planted_is_finalist_percent": round(100 * fmean(one["planted"] for one in made), 1) if planted else None,
        "sd_of_a_run_points": round(100 * fmean(one["relu_sd"] for one in made), 2),
        "detectable_points_median": round(100 * median(one["detectable"] for one in made), 2),
        "silent_that_say_they_could_not_see_it_percent": _percent_blind(silent, planted),
        "optimism_points_mean": round(fmean(one["optimism"] for one in made if one["optimism"] is not None), 2),
        "seconds": round(time.monotonic() - started, 1),
    }


def _percent_blind(silent: Sequence[dict[str, Any]], planted: float) -> float | None:
    """Of the planted studies that showed nothing: how many print a detectable difference above the planted one."""
    if not planted or not silent:
        return None
    assert all("points could have been seen" in one["phrase"] for one in silent)
    return round(100 * fmean(one["detectable"] > planted for one in silent), 1)


def _others(path: Path, scenarios: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that the results file has of other scenarios."""
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in rows if row["scenario"] not in scenarios]


def main() -> int:
    """Simulate, and write the results; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=int, default=2000, help="null studies for each source of noise")
    parser.add_argument("--planted", type=int, default=500, help="planted studies for each")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS, help="others' rows stay")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        rows = _others(given.out, given.scenarios)
        for scenario in given.scenarios:
            for planted, studies in ((0.0, given.null), (PLANTED, given.planted)):
                rows.append(counted(scenario, planted, studies, pool))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "what": "what verdicts say of studies whose truth is known; noise resampled from real runs",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {**versions(), "scipy": version("scipy")},
        "rows": rows,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return int(any(row["better_percent_95_bound"] > 6 for row in rows if not row["planted_points"]))


if __name__ == "__main__":
    sys.exit(main())
