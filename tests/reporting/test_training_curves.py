"""Every figure that was logged while training is drawn, whatever it is called."""

from pathlib import Path

from cliplab.reporting.sections import training_curves


def test_each_logged_figure_has_a_curve_with_loss_and_rate_first(tmp_path: Path) -> None:
    names = ("val/recall@1", "train/caption/perplexity", "train/lr", "train/seen_once", "train/loss")
    rows = ["0.1,9.5,0.2,,3.0", "0.2,8.5,0.1,1.0,2.0"]
    lines = [",".join(("step", *names)), *(f"{i},{row}" for i, row in enumerate(rows))]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    curves = training_curves(tmp_path)
    assert [next(t for t in ("caption/perplexity", "learning rate", "loss") if f">{t}<" in c) for c in curves] == [
        "loss",
        "learning rate",
        "caption/perplexity",
    ]
    assert training_curves(tmp_path / "nowhere") == []
