"""The README's example is run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_of_use_trains_and_leaves_a_plain_network(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (example,) = (block for block in blocks if "ss.remove(" in block)
    code = (
        f"import torch\n\ntorch.manual_seed(0)\n{example}\n"
        "assert type(model[1]) is torch.nn.ReLU\n"
        "loss = torch.nn.functional.cross_entropy(model(x), y)\n"
        "assert loss < 1.05, loss  # chance is 1.10\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1: ReLU -> SugarReLU" in done.stdout
