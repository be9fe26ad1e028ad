"""Sets with known accuracies, over one, two and three ranks."""

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from cliplab.evaluation import prompts
from cliplab.evaluation.kind import Record
from cliplab.evaluation.kinds.zero_shot import KIND
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.retrieval import Retrieval
from cliplab.evaluation.zero_shot import ZeroShotClassification, imagenet_classification
from tests.processes import run_ranks

from .toys import DEVICE, Labelled, Numbered, Table, Words, prepared, toy_model

NAMES = [f"n{i}" for i in range(6)]


def evaluate(
    labels: list[int], images: torch.Tensor, texts: torch.Tensor, names: list[str] = NAMES
) -> dict[str, float]:
    shown = prepared(Labelled(labels, names), batch_size=4)
    evaluator = ZeroShotClassification(name="toy", images=shown, templates="plain")
    return evaluator.evaluate(toy_model(images, texts)).metrics


def test_oracle_is_always_right() -> None:
    labels = [0, 1, 2, 3, 4, 5, 3]
    metrics = evaluate(labels, torch.eye(6)[labels], torch.eye(6))
    assert (metrics["acc1"], metrics["acc5"], metrics["mean_per_class_recall"], metrics["mean_rank"]) == (1, 1, 1, 1)
    assert metrics["images"] == 7
    assert metrics["chance"] == pytest.approx(1 / 6)


def test_permuted_labels_are_right_at_the_fixed_points() -> None:
    seen = [0, 1, 2, 3, 4, 5]
    labels = [0, 2, 1, 3, 5, 4]  # two fixed points
    assert evaluate(labels, torch.eye(6)[seen], torch.eye(6))["acc1"] == pytest.approx(2 / 6)


def test_constant_texts_all_tie_and_the_first_class_wins() -> None:
    metrics = evaluate([0, 1, 2, 3, 4, 5], torch.eye(6), torch.ones(6, 6))
    assert metrics["acc1"] == pytest.approx(1 / 6)
    assert metrics["acc5"] == pytest.approx(5 / 6)
    assert metrics["mean_rank"] == pytest.approx(3.5)
    assert (metrics["acc1_ties_lost"], metrics["acc1_ties_won"]) == (0, 1)


def test_accuracy_is_mean_recall_on_a_balanced_set_with_names_that_occur_twice() -> None:
    names = ["a", "b", "a", "c"]
    labels = [0, 1, 2, 3] * 5
    torch.manual_seed(1)
    metrics = evaluate(labels, torch.randn(20, 3), torch.randn(3, 3), names)
    assert metrics["acc1"] == pytest.approx(metrics["mean_per_class_recall"])


def test_logits_are_float32_where_bfloat16_would_tie() -> None:
    """Two names one ten-thousandth apart: in bfloat16 both products are the same number."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 2e-4]])
    images = torch.tensor([[1.0, 0.02]])
    normal = [torch.nn.functional.normalize(x, dim=-1).bfloat16() for x in (images, texts)]
    tied = normal[0] @ normal[1].T
    assert tied[0, 0] == tied[0, 1]
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate([1], images, texts, ["a", "b"])["acc1"] == 1


def test_a_model_with_a_bias_tells_each_name_by_itself() -> None:
    """Cosines 0.8, 0.6 and 0 at scale 10 and bias -6: logits 2, 0 and -6. Accuracy is that of a softmax."""
    images, texts = torch.tensor([[0.8, 0.6, 0.0]]), torch.eye(3)
    shown = prepared(Labelled([0], ["a", "b", "c"]))
    evaluator = ZeroShotClassification(name="toy", images=shown, templates="plain")
    sigmoid = evaluator.evaluate(ZeroShotModel(Table(images, texts, bias=-6.0, scale=10.0), Words(), DEVICE))
    softmax = evaluator.evaluate(ZeroShotModel(Table(images, texts), Words(), DEVICE))
    expected = [1 / (1 + math.exp(-logit)) for logit in (2, 0, -6)]
    assert sigmoid.samples["top5_probability"][0] == pytest.approx(expected, abs=1e-5)
    assert sigmoid.metrics["ece"] == pytest.approx(1 - expected[0], abs=1e-5)
    assert sigmoid.details["sigmoid"] == pytest.approx({"scale": 10.0, "bias": -6.0}, rel=1e-5)
    assert softmax.samples["top5_probability"][0] == pytest.approx([1, math.exp(-20), 0], abs=1e-12)
    assert "sigmoid" not in softmax.details
    assert {**sigmoid.metrics, "ece": 0} == {**softmax.metrics, "ece": 0}
    assert sigmoid.protocol_hash == softmax.protocol_hash
    for result, told in ((sigmoid, True), (softmax, False)):
        record = Record(KIND, "toy", "toy", "m", "last", result.metrics, "", result.details)
        assert ("sigmoid(10 × cosine − 6)" in str(KIND.blocks(record))) is told


def test_an_evaluation_of_a_part_has_fewer_prompts_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """First templates go, then names, but never that of a picture; the labels stay with their names."""
    monkeypatch.setattr(prompts, "PROMPTS_PER_IMAGE", 2)
    names = [f"name {i}" for i in range(10)]
    evaluator = ZeroShotClassification(
        name="toy", images=prepared(Labelled(list(range(10)), names)), templates=["{}", "a {}", "the {}"]
    )
    model = toy_model(torch.eye(10), torch.eye(10))

    def evaluated(**asked: Any) -> tuple[EvaluationResult, int]:
        words = Words()
        words.known = {name: i for i, name in enumerate(names)} | {
            filled: i for i, name in enumerate(names) for filled in (f"a {name}", f"the {name}")
        }
        evaluator._prompts = None
        result = evaluator.evaluate(ZeroShotModel(model.encoders, words, DEVICE), **asked)
        return result, len(evaluator._prompts[0].tokens.lengths)  # type: ignore[index]

    (part, few), (templates, more), (whole, all_of_them) = (
        evaluated(thorough=False, most=3),
        evaluated(thorough=False, most=9),
        evaluated(),
    )
    assert (few, more, all_of_them) == (6, 10, 30)
    assert part.details["subset"] == (
        "3 of the 10 images, each class with its share, against 6 of the 10 names, in 1 of the 3 templates"
    )
    assert templates.details["subset"] == "9 of the 10 images, each class with its share, in 1 of the 3 templates"
    assert whole.details["subset"] is None
    assert part.metrics["acc1"] == templates.metrics["acc1"] == whole.metrics["acc1"] == 1
    assert (part.metrics["chance"], whole.metrics["chance"]) == (1 / 6, 1 / 10)
    shown = [part.details["class_names"][label] for label in part.samples["label"]]
    assert shown == [names[i] for i in part.samples["index"]]
    assert len({result.protocol_hash for result in (part, templates, whole)}) == 3


def test_protocol_hash_changes_with_each_part() -> None:
    def print_of(
        names: list[str] = NAMES, templates: str = "plain", fingerprint: str = "f", first: int = 0
    ) -> str | None:
        shown = prepared(Labelled([0] * 4, names, fingerprint, first))
        return ZeroShotClassification(name="t", images=shown, templates=templates).protocol()["all"]

    prints = [
        print_of(),
        print_of(names=[*NAMES[:-1], "other"]),
        print_of(templates="simple"),
        print_of(fingerprint="g"),
        print_of(first=9),
    ]
    assert len(set(prints)) == 5
    assert print_of() == prints[0]


def result_of(labels: list[int], images: torch.Tensor, texts: torch.Tensor, names: list[str], templates: list[str]):
    shown = prepared(Labelled(labels, names), batch_size=4)
    evaluator = ZeroShotClassification(name="toy", images=shown, templates=templates)
    return evaluator.evaluate(toy_model(images, texts))


def test_every_template_alone_from_the_same_images() -> None:
    """The first template is an oracle, the second exchanges the first two classes; together they are right again."""
    texts = torch.cat([torch.stack([5 * row, other]) for row, other in zip(torch.eye(4), torch.eye(4)[[1, 0, 2, 3]])])
    result = result_of([0, 1, 2, 3, 3], torch.eye(4)[[0, 1, 2, 3, 3]], texts, NAMES[:4], ["a {}", "b {}"])
    alone = [(line["template"], line["acc1"], line["acc5"]) for line in result.details["per_template"]]
    assert alone == [("a {}", 1.0, 1.0), ("b {}", 3 / 5, 1.0)]
    single = result_of([0, 1], torch.eye(4), torch.eye(4), NAMES[:4], ["{}"])
    assert single.details["per_template"] == []


def test_confusions_are_counted_and_the_most_frequent_come_first() -> None:
    seen = torch.eye(6)[[1, 1, 1, 0, 3, 2, 4, 5]]
    result = result_of([0, 0, 1, 1, 2, 2, 4, 5], seen, torch.eye(6), NAMES, ["{}"])
    found = [(line["label"], line["answer"], line["count"]) for line in result.details["confusions"]]
    assert found == [(0, 1, 2), (1, 0, 1), (2, 3, 1)]


def test_labels_in_another_order_and_names_of_another_set_are_told() -> None:
    labels = list(range(6)) * 5
    shifted = torch.eye(6)[[(label + 1) % 6 for label in labels]]
    (warning,) = result_of(labels, shifted, torch.eye(6), NAMES, ["{}"]).details["warnings"]
    assert "in different orders" in warning
    assert result_of(labels, torch.eye(6)[labels], torch.eye(6), NAMES, ["{}"]).details["warnings"] == []
    assert result_of(labels, torch.ones(30, 6), torch.eye(6), NAMES, ["{}"]).details["warnings"] == []
    few = [0, 1] * 10
    (warning,) = result_of(few, torch.eye(6)[few], torch.eye(6), NAMES, ["{}"]).details["warnings"]
    assert "only 2 of the 6 named classes have images" in warning


def test_candidates_that_cannot_be_told_apart_are_named() -> None:
    """By the tokenizer, which lower-cases; or since there is only one."""
    model = toy_model(torch.eye(3), torch.eye(3))
    tokenizer = Words()
    lower = ZeroShotModel(model.encoders, lambda texts: tokenizer([text.lower() for text in texts]), model.device)
    shown = prepared(Labelled([0, 1, 2], ["Ant", "ant", "bee"]))
    warnings = ZeroShotClassification(name="t", images=shown, templates="plain").evaluate(lower).details["warnings"]
    assert warnings == [
        "2 names get the same tokens from the tokenizer as another name: 'Ant', 'ant'; the model answers the first of "
        "them in label order"
    ]
    single = ZeroShotClassification(name="t", images=prepared(Labelled([0], ["ant"])), templates="plain")
    assert "'ant' is the only candidate" in single.notes[0]
    with pytest.raises(ValueError, match=r"zeroshot.t.class_names: name 1 is 7; names are strings"):
        ZeroShotClassification(name="t", images=shown, class_names=["a", 7, "b"])  # type: ignore[list-item]


def test_wrong_number_of_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"zeroshot set imagenet.* classes"):
        imagenet_classification(name="imagenet", images=prepared(Labelled([0], NAMES)))


def test_retrieval_by_hand() -> None:
    """Image 1's captions are the third and fourth text; text "y" describes image 0 but lies next to image 1."""
    data = prepared(Numbered([["x", "y"], ["z", "w"]]))
    texts = torch.tensor([[1.0, 0.0], [0.2, 1.0], [0.0, 1.0], [0.1, 1.0]])
    metrics = Retrieval(name="r", images=data).evaluate(toy_model(torch.eye(2), texts)).metrics
    assert metrics["image_retrieval_recall@1"] == 3 / 4
    assert metrics["text_retrieval_recall@1"] == 1
    assert metrics["recall@1"] == 7 / 8
    assert metrics["image_retrieval_recall@5"] == 1
    assert (metrics["image_retrieval_median_rank"], metrics["text_retrieval_median_rank"]) == (1, 1)
    assert (metrics["images"], metrics["captions"]) == (2, 4)


def test_retrieval_rows_say_what_was_found() -> None:
    data = prepared(Numbered([["x", "y"], ["z"]]))
    texts = torch.tensor([[1.0, 0.0], [0.2, 1.0], [0.0, 1.0]])
    rows = Retrieval(name="r", images=data).evaluate(toy_model(torch.eye(2), texts)).samples
    assert rows["captions"] == [["x", "y"], ["z"]]
    assert rows["text_rank"] == [0, 0]
    assert rows["top_texts"] == [["x", "y", "z"], ["z", "y", "x"]]
    assert rows["top_text_scores"][0][0] == 1
    assert rows["image_rank"] == [[0, 1], [0]]
    assert rows["top_images"] == [[[0, 1], [1, 0]], [[1, 0]]]


def test_retrieval_of_a_constant_scores_nothing_and_shared_captions_match_all() -> None:
    data = prepared(Numbered([["a"], ["b"], ["c"]]))
    constant = toy_model(torch.ones(3, 2), torch.ones(3, 2))
    assert Retrieval(name="r", images=data).evaluate(constant).metrics["recall@1"] == 0
    twice = prepared(Numbered([["a"], ["a"], ["c"]]))
    metrics = (
        Retrieval(name="r", images=twice)
        .evaluate(toy_model(torch.tensor([[1.0, 0], [1, 0.1], [0, 1]]), torch.eye(2)))
        .metrics
    )
    assert metrics["recall@1"] == 1


@patch.dict(prompts.TOKENS_PER_BATCH, {"cpu": 3})  # several text batches for the ranks to share
def everything() -> dict[str, dict[str, float]]:
    generator = torch.Generator().manual_seed(5)
    images, texts = (torch.randn(11, 4, generator=generator) for _ in range(2))
    labels = [i % 6 for i in range(11)]
    classes = evaluate(labels, images, texts)
    pairs = prepared(Numbered([[f"c{i}", f"d{i}"] if i % 3 else [f"c{i}"] for i in range(11)]), batch_size=2)
    wide = torch.randn(22, 4, generator=generator)
    found = Retrieval(name="r", images=pairs).evaluate(toy_model(images, wide)).metrics
    table = Table(images, wide)
    model = ZeroShotModel(table, Words(), DEVICE, lambda some, t: -table.encode_image(some) @ table.encode_text(t).T)
    scored = Retrieval(name="r", images=pairs).evaluate(model).metrics
    assert scored != found
    return {"classes": classes, "retrieval": found, "scored": scored}


def one_rank(number: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{ranks}", rank=number, world_size=ranks)
    Path(folder, f"{ranks}-{number}.json").write_text(json.dumps(everything()))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_counts_the_same(ranks: int, tmp_path: Path) -> None:
    expected = everything()
    run_ranks(one_rank, ranks, str(tmp_path))
    for number in range(ranks):
        found = json.loads((tmp_path / f"{ranks}-{number}.json").read_text())
        assert found["retrieval"] == expected["retrieval"]
        ece = found["classes"].pop("ece"), expected["classes"]["ece"]
        assert ece[0] == pytest.approx(ece[1])
        assert found["classes"] == {k: v for k, v in expected["classes"].items() if k != "ece"}
