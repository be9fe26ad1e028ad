"""Keys that were meant."""

from cliplab.cli.suggestions import _similar_keys


def test_a_key_typed_without_its_group_finds_it() -> None:
    known = [
        "seed",
        "data",
        "data.batch_size",
        "data.path",
        "optimizer.lr",
        "trainer.devices",
        "trainer.max_epochs",
        "a.b.lr",
    ]
    expected = {
        "batch_size": "data.batch_size",
        "lr": "optimizer.lr",
        "learning_rate": "optimizer.lr",
        "epochs": "trainer.max_epochs",
        "trainer.gpus": "trainer.devices",
        "task.batch_size": "data.batch_size",
        **dict.fromkeys(("batchsize", "batchSize", "batch-size"), "data.batch_size"),
        "dta.path": "data.path",
    }
    assert {key: _similar_keys(key, known)[0] for key in expected} == expected
    assert _similar_keys("zzz", known) == []
