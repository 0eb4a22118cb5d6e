"""What a candidate costs before any training: sample, admit, identify and tabulate 10,000 of each tree space.

Run `python -m benchmarks.candidates` on an otherwise idle core; writes results/candidates.json. The cost must not grow
with the number of candidates known, so each tenth of the run is timed by itself.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sugarsearch import __version__
from sugarsearch.config import loader
from sugarsearch.config.schema import SearchSpace
from sugarsearch.nn.admission import admit
from sugarsearch.nn.table import tabulate
from sugarsearch.symbolic.grammar import Grammar

CANDIDATES = 10_000
RESULTS = Path(__file__).parent / "results" / "candidates.json"


def measure(space: SearchSpace) -> dict[str, Any]:
    """CPU seconds of each tenth, and how many of the candidates are different functions."""
    grammar, rng = Grammar(space), np.random.default_rng(0)
    known: set[str] = set()
    tenths = []
    for _ in range(10):
        started = time.process_time()
        for _ in range(CANDIDATES // 10):
            surrogate = grammar.surrogate(grammar.sample(rng))
            admit(surrogate)
            known.add(surrogate.identity)
            tabulate([surrogate])
        tenths.append(round(time.process_time() - started, 3))
    return {
        "cpu_seconds": round(sum(tenths), 2),
        "cpu_seconds_by_tenth": tenths,
        "last_tenth_over_first": round(tenths[-1] / tenths[0], 3),
        "unique": len(known),
    }


def main() -> None:
    """Measure every shipped space of trees and write the results."""
    torch.set_num_threads(1)
    spaces = [loader.load(path, SearchSpace) for path in loader.shipped("search_spaces").values()]
    result = {
        "what": f"sample, admit, identify and tabulate {CANDIDATES:,} candidates on one core",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, CPU",
        "versions": {"sugarsearch": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "spaces": {space.name: measure(space) for space in spaces if space.template != "family"},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
