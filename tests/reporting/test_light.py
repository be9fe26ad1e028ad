"""Pages come from files alone: the verbs that make them import nothing heavy."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .toys import fill_run

HEAVY = ("torch", "torchmetrics", "lightning", "datasets", "transformers", "torchvision", "scipy")
PROGRAM = """
import json, sys
from cliplab.cli import main
report, comparison, heavy = json.loads(sys.argv.pop())
for arguments in (report, comparison):
    sys.argv[1:] = arguments
    main()
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_report_and_compare_import_nothing_heavy(tmp_path: Path) -> None:
    folders = [str(fill_run(tmp_path / name)) for name in ("one", "two")]
    for folder in folders:
        (Path(folder) / "report.html").unlink(missing_ok=True)
    asked = [["task=report", f"run={folders[0]}"], ["task=compare", f"run=[{','.join(folders)}]"], HEAVY]
    environment = {**os.environ, "CLIPLAB_ROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    report, comparison, imported = done.stdout.splitlines()
    assert (Path(report).name, Path(comparison).name) == ("report.html", "comparison.html")
    assert json.loads(imported) == []
