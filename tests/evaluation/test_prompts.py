"""Names, templates, and the classifier they make."""

import hashlib
import re
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import zero_shot_metadata
from torch.nn import functional as F

from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.evaluation.imagenet import imagenet_class_names
from cliplab.evaluation.prompts import SEVEN, TOKENS_PER_BATCH, Prompts, embed_texts, load_templates, text_batches
from tests.models.weights import open_clip_twin, tiny, tiny_config, transformers_twin

from .toys import DEVICE, Table, Words


def sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_names_and_templates_are_the_papers() -> None:
    names, templates = imagenet_class_names(), load_templates("openai_80")
    assert sha256(names) == "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60"
    assert sha256(templates) == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    assert len(set(names)) == 998
    assert set(SEVEN) <= set(templates)
    assert len(load_templates("openai_7")) == 7


def test_templates_from_a_file_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a {} here\n\none {}\n")
    assert load_templates(str(tmp_path / "mine.txt")) == load_templates(["a {} here", "one {}"])
    assert load_templates("plain") == ["{}"]
    for wrong, message in {
        "openai_81": "templates 'openai_81' is neither a file nor one of plain",
        ("no place",): "template 'no place' has {}, the place of the class name, 0 times; write it once",
        ("{} and {}",): "template '{} and {}' has {}, the place of the class name, 2 times; write it once",
        (): "there is no template; write one on each line",
    }.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            load_templates(wrong)


def test_each_template_is_normalised_before_the_mean() -> None:
    """Two templates, at 0 and 90 degrees and of very different length: the mean lies at 45 degrees."""
    words = Words()
    prompts = Prompts(["x"], ["a {}", "b {}"], words)
    model = Table(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 50.0]]))
    model.texts = torch.tensor([[1.0, 0.0], [0.0, 50.0]])
    torch.testing.assert_close(prompts.weights(model, DEVICE), torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_a_name_that_occurs_twice_is_encoded_once_and_ties_exactly() -> None:
    prompts = Prompts(["missile", "cat", "missile"], ["a {}", "the {}", "a {}"], CLIPTokenizer(77))
    assert len(prompts.tokens.lengths) == 4
    model = tiny("vit").eval()
    with torch.no_grad():
        logits = prompts.logits(torch.randn(50, 32), prompts.weights(model, DEVICE))
    assert torch.equal(logits[:, 0], logits[:, 2])
    assert logits.dtype == torch.float32


def test_classifier_equals_open_clips_on_the_same_random_weights() -> None:
    model = tiny("vit").eval()
    twin = open_clip_twin(model, tiny_config("vit")).eval()
    names = [*imagenet_class_names()[:7], "missile", "missile"]
    tokenizer = open_clip.SimpleTokenizer()
    theirs = open_clip.build_zero_shot_classifier(
        twin, tokenizer, names, zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=3, device="cpu"
    )
    prompts = Prompts(names, load_templates("openai_80"), CLIPTokenizer(77))
    with torch.no_grad():
        ours = prompts.weights(model, DEVICE)[prompts.classes]
    torch.testing.assert_close(ours, theirs.T, rtol=1e-5, atol=1e-5)


def test_classifier_equals_transformers_on_the_same_random_weights(tmp_path: Path) -> None:
    model = tiny("vit").eval()
    twin = transformers_twin(model, tiny_config("vit"), tmp_path)
    names, templates = ["cat", "missile", "great white shark"], ["a photo of a {}.", "art of the {}.", "{}"]
    tokenizer, rows = CLIPTokenizer(77), []
    with torch.no_grad():
        for name in names:
            tokens = tokenizer([template.format(name) for template in templates])
            mask = torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]
            ids = tokens.ids.masked_fill(~mask, 49407)
            embeds = twin.text_projection(twin.text_model(ids, attention_mask=mask.long()).pooler_output)
            rows.append(F.normalize(F.normalize(embeds, dim=-1).mean(0), dim=-1))
        ours = Prompts(names, templates, tokenizer).weights(model, DEVICE)
    torch.testing.assert_close(ours, torch.stack(rows), rtol=1e-5, atol=1e-5)


def test_clip_benchmarks_place_for_the_name_is_understood() -> None:
    assert load_templates(["a photo of a {c}.", "{}"]) == ["a photo of a {}.", "{}"]


def test_text_batches_hold_every_text_once_and_little_padding() -> None:
    lengths = torch.randint(3, 20, (100,), generator=torch.Generator().manual_seed(3))
    batches = text_batches(lengths, 40)
    assert torch.cat(batches).sort().values.tolist() == list(range(100))
    assert all(len(rows) * int(lengths[rows].max()) <= 40 for rows in batches)
    assert sum(len(rows) * int(lengths[rows].max()) for rows in batches) < 1.2 * int(lengths.sum())


def test_texts_come_back_in_order_whatever_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOKENS_PER_BATCH, "cpu", 20)
    model, tokenizer = tiny("vit").eval(), CLIPTokenizer(77)
    texts = ["one two three four five", "a", "", "b c", "word " * 90, "x y z"]
    with torch.no_grad():
        together = embed_texts(model, tokenizer(texts), DEVICE)
        for text, embed in zip(texts, together, strict=True):
            torch.testing.assert_close(embed, model.encode_text(tokenizer([text]))[0], rtol=1e-5, atol=1e-5)


def test_a_text_tower_that_does_not_train_reads_the_prompts_once() -> None:
    model, calls = Table(torch.eye(4), torch.eye(4)), []
    encode = model.encode_text
    model.encode_text = lambda tokens: calls.append(len(tokens.ids)) or encode(tokens)
    prompts = Prompts(["cat", "dog"], ["a {}", "the {}"], Words())
    model.text_fixed = True
    first = prompts.weights(model, DEVICE)
    assert torch.equal(prompts.weights(model, DEVICE), first)
    assert calls == [4]
    model.text_fixed = False  # it was unfrozen
    prompts.weights(model, DEVICE)
    prompts.weights(model, DEVICE)
    assert calls == [4, 4, 4]
