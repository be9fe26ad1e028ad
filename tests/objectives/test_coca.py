"""CoCa's decoder: equal to open_clip's on the same weights, causal, and a sum whose gradients are those of its parts."""

import pytest
import torch
from open_clip.transformer import MultimodalTransformer

from cliplab.models.caption_decoder import CaptionDecoder, Causal
from cliplab.models.layers import pack_tokens
from cliplab.models.tokens import Tokens
from cliplab.objectives.coca import CocaCaption
from cliplab.objectives.contrastive import ClipLoss
from cliplab.objectives.objective import Objective
from cliplab.objectives.weighted_sum import WeightedSum

from .decoding import built, pairs, towers
from .test_bag_of_words import TOKENS, corpus_of


def coca() -> CocaCaption:
    objective = built(CocaCaption(layers=None, heads=None, captions=100), towers())
    assert isinstance(objective, CocaCaption)
    return objective


def _take_over(ours: CaptionDecoder, theirs: MultimodalTransformer) -> None:
    def linear(mine: torch.nn.Linear, weight: torch.Tensor, bias: torch.Tensor) -> None:
        mine.weight.copy_(weight)
        mine.bias.copy_(bias)

    for block, own, cross in zip(ours.blocks, theirs.resblocks, theirs.cross_attn, strict=True):
        width = block.ln_1.weight.shape[0]
        linear(block.attention.qkv, own.attn.in_proj_weight, own.attn.in_proj_bias)
        linear(block.attention.out, own.attn.out_proj.weight, own.attn.out_proj.bias)
        linear(block.cross.q, cross.attn.in_proj_weight[:width], cross.attn.in_proj_bias[:width])
        linear(block.cross.kv, cross.attn.in_proj_weight[width:], cross.attn.in_proj_bias[width:])
        linear(block.cross.out, cross.attn.out_proj.weight, cross.attn.out_proj.bias)
        for mine, its in ((block.between, own), (block.mlp, cross)):
            linear(mine[0], its.ln_2.weight, its.ln_2.bias)
            linear(mine[1], its.mlp.c_fc.weight, its.mlp.c_fc.bias)
            linear(mine[3], its.mlp.c_proj.weight, its.mlp.c_proj.bias)
        linear(block.ln_1, own.ln_1.weight, own.ln_1.bias)
        linear(block.ln_cross, cross.ln_1.weight, cross.ln_1.bias)
        linear(block.ln_memory, cross.ln_1_kv.weight, cross.ln_1_kv.bias)
    linear(ours.ln_final, theirs.ln_final.weight, theirs.ln_final.bias)


@torch.no_grad()
def test_the_decoder_equals_open_clips() -> None:
    torch.manual_seed(4)
    theirs = MultimodalTransformer(width=32, layers=3, heads=4, context_length=9, output_dim=20).eval()
    for parameter in theirs.parameters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
    ours = CaptionDecoder(
        width=32, memory_width=32, layers=3, heads=4, mlp_ratio=4, activation="gelu", mlp_between=True
    ).eval()
    _take_over(ours, theirs)
    images, texts = torch.randn(3, 5, 32), torch.randn(3, 7, 32)
    lengths = torch.tensor([7, 4, 1])
    packing = pack_tokens(Tokens(torch.zeros(3, 7, dtype=torch.int64), lengths))
    states = ours(packing.pack(texts), ours.see(images), Causal(packing))
    logits = packing.pad(states @ theirs.text_projection)
    expected = theirs(images, texts)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(logits[row, :length], expected[row, :length], rtol=1e-5, atol=1e-5)


def test_a_later_word_changes_nothing_before_it() -> None:
    model, objective = towers(), coca()
    losses = []
    for text in ("a b c", "a b a"):
        batch = pairs([text])
        encoded = model(batch.images, batch.tokens, objective.reads)
        assert encoded.text_states is not None
        words = objective.vocabulary.words(batch.tokens)
        packing = pack_tokens(words)
        seen = objective.decoder.see(encoded.image_states.patches.flatten(1, 2))
        losses.append(objective.decoder(packing.pack(encoded.text_states.tokens[:, :-1]), seen, Causal(packing)))
    torch.testing.assert_close(losses[0][:3], losses[1][:3])
    assert not torch.allclose(losses[0][3], losses[1][3])


def test_gradients_of_shared_features_are_the_sums_of_separate_ones() -> None:
    model, batch = towers(), pairs()
    parts: dict[str, Objective] = {"clip": ClipLoss(), "caption": coca()}
    whole = WeightedSum(parts=parts, weights={"clip": 1.0, "caption": 2.0})
    whole(model(batch.images, batch.tokens, whole.reads), batch).loss.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for name, weight in (("clip", 1.0), ("caption", 2.0)):
        (weight * parts[name](model(batch.images, batch.tokens, parts[name].reads), batch).loss).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(together[name], p.grad, rtol=1e-4, atol=1e-6)


def test_a_tower_without_an_order_of_words_is_refused() -> None:
    model = towers()
    model.text_encoder = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    objective = CocaCaption(layers=None, heads=None, captions=100)
    objective.prepare(corpus_of(["a"]))
    with pytest.raises(ValueError, match="needs a causal text tower, and words of Linear see later words"):
        objective.build_heads(model)


@torch.no_grad()
@pytest.mark.parametrize("captions", [100, 0])
def test_scores_by_trie_are_what_each_text_alone_loses(captions: int) -> None:
    """Texts that begin alike, one with a token that training never saw, and the empty one."""
    model = towers()
    objective = built(CocaCaption(layers=None, heads=None, captions=captions), model)
    assert isinstance(objective, CocaCaption)
    texts = ["a b", "a b c", "a", "b a c a", "a e", ""]
    images = pairs().images[:3]
    scores = objective.score(model, images, TOKENS(texts))
    for i, picture in enumerate(images):
        for j, text in enumerate(texts):
            one = pairs([text])._replace(images=picture[None])
            loss = objective(model(one.images, one.tokens, objective.reads), one).loss
            words = objective.vocabulary.words(one.tokens)
            shares = objective.vocabulary.shared_share(words.ids[0, : int(words.lengths[0])]).sum()
            torch.testing.assert_close(scores[i, j], shares - loss * words.lengths[0], rtol=1e-4, atol=1e-4)
