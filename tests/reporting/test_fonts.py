"""Names in scripts that no font has end in boxes, not in warnings on the screen."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from cliplab.evaluation.blocks import Curve, Line
from cliplab.reporting.fonts import families
from cliplab.reporting.plots import curve
from cliplab.reporting.predictions import prediction_sheet
from cliplab.reporting.sweep.drawings import against, parallel

NAMES = ["猫", "강아지", "🦉 owl", "กบ", "कुत्ता", "$x_1", "a\tb", "𓃠"]


def test_no_script_warns(tmp_path: Path) -> None:
    picture = Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in NAMES:
            assert name.split()[0] in curve(
                Curve([Line(name, [0, 1], [1, 2])], "epoch", "top-1", references=[(name, 1)])
            )
        against("設定", NAMES[:3], [0.1, 0.2, 0.3], "値")
        parallel({"設定": NAMES[:2], "x": ["1", "2"]}, [0.1, 0.2], "$x_1", True)
        prediction_sheet(tmp_path / "sheet.png", [(picture, "猫.png", np.full(len(NAMES), 1 / len(NAMES)))], NAMES)
    assert (tmp_path / "sheet.png").is_file()
    assert families()[0] == "DejaVu Sans"
