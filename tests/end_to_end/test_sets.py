"""Several sets in one run: zero-shot classification, retrieval and a linear probe, with less during training."""

import json
from collections.abc import Callable
from pathlib import Path

from .conftest import only_run


def test_several_sets_a_probe_and_a_part_of_a_set(
    command: Callable[..., int], arguments: list[str], shapes: Path, tmp_path: Path
) -> None:
    sets = ["folder", "folder_retrieval", "linear_probe"]
    chosen = [a for a in arguments if not a.startswith("zeroshot")]
    chosen += ["zeroshot=[" + ",".join(sets) + "]", "optimized_metric=linear_probe/folder/acc1"]
    for name in sets:
        chosen += [f"zeroshot.{name}.dataset.path={shapes}", f"zeroshot.{name}.dataset.split=validation"]
        chosen += [f"zeroshot.{name}.num_workers=0", f"zeroshot.{name}.cache_gb=0", f"zeroshot.{name}.batch_size=3"]
    chosen += [
        "zeroshot.folder.templates=openai_7",
        "zeroshot.folder.subset=4",
        f"zeroshot.folder.cache_dir={tmp_path}",
    ]
    chosen += ["zeroshot.linear_probe.max_iter=20", "zeroshot.linear_probe.validation_fraction=0.5"]
    assert command(*chosen) == 0
    run = only_run(tmp_path)

    history = [json.loads(line) for line in (run / "zeroshot" / "history.jsonl").read_text().splitlines()]
    told = [(line["step"], line["task"], line["metrics"]["images"]) for line in history if line["set"] == "folder"]
    assert [line[1:] for line in told if line[0] == 3] == [("zeroshot_classification", 4), ("zeroshot_retrieval", 8)]
    assert [line[1:] for line in told if line[0] == 9] == [
        ("zeroshot_classification", 8),
        ("zeroshot_retrieval", 8),
        ("linear_probe", 8),
    ]
    assert [line["subset"] is None for line in history if line["task"] == "zeroshot_classification"] == [False] * 3 + [
        True
    ]

    results = {path.stem: json.loads(path.read_text()) for path in (run / "results").glob("*.json")}
    assert {"folder", "folder_retrieval", "folder_linear_probe"} <= set(results)
    assert results["folder_linear_probe"]["metrics"]["train_images"] == 48
    details = json.loads((run / "details" / "folder.json").read_text())
    assert len(details["per_template"]) == 7
    assert details["subset"] is None
    assert (run / "report.html").is_file()
