"""Text without padding gives what 77 columns give."""

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.nn import functional as F

from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens

TEXTS = ["a cat", "", "word " * 200, "a photo of two dogs", "end"]


def tower(context_length: int = 77) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(vocab_size=49408, context_length=context_length, width=32, layers=2, heads=4, output_dim=16)


def padded_forward(model: TextTransformer, tokens: Tokens) -> torch.Tensor:
    """The same weights over all 77 columns, nothing packed: the plain way."""
    ids = F.pad(tokens.ids, (0, 77 - tokens.ids.shape[1]))
    x = model.token_embedding(ids) + model.positional_embedding
    for block in model.blocks:
        x = block(x)
    x = model.ln_final(x)
    return x[torch.arange(len(ids)), tokens.lengths - 1] @ model.projection


def test_packed_equals_77_columns_in_value_and_gradient() -> None:
    model, tokenizer = tower(), CLIPTokenizer(77)
    tokens = tokenizer(TEXTS)
    assert tokenizer.truncated == 1
    assert tokens.lengths.tolist() == [4, 2, 77, 7, 3]
    weights = torch.randn(5, 16)
    gradients = []
    for run in (model, lambda t: padded_forward(model, t)):
        model.zero_grad()
        out = run(tokens)
        (out * weights).sum().backward()
        gradients.append((out.detach(), [p.grad.clone() for p in model.parameters()]))
    (packed, packed_grads), (plain, plain_grads) = gradients
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-5)
    for (name, _), a, b in zip(model.named_parameters(), packed_grads, plain_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_nothing_after_the_end_of_text_matters_and_neighbours_do_not_either() -> None:
    model, tokens = tower(), CLIPTokenizer(77)(TEXTS)
    expected = model(tokens)
    ids = tokens.ids.clone()
    for row, length in enumerate(tokens.lengths):
        ids[row, length:] = 7
    torch.testing.assert_close(model(Tokens(ids, tokens.lengths)), expected)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model(Tokens(tokens.ids[order], tokens.lengths[order])), expected[order])
    alone = CLIPTokenizer(77)(TEXTS[:1])
    assert alone.ids.shape == (1, 4)
    torch.testing.assert_close(model(alone), expected[:1], rtol=1e-5, atol=1e-5)


def test_a_step_needs_no_value_of_the_device_when_the_batch_brings_its_places() -> None:
    """Fake tensors have no values: whatever a GPU would have to be waited for raises."""
    tokens = CLIPTokenizer(77)(TEXTS)

    def step(tokens: Tokens) -> None:
        with FakeTensorMode() as mode:
            model = tower()
            model(Tokens(*(None if x is None else mode.from_tensor(x) for x in tokens))).sum().backward()

    step(tokens.with_places())
    with pytest.raises(DynamicOutputShapeException):
        step(tokens)


def test_too_long_a_text_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="77 tokens reached a tower for 16; give the tokenizer"):
        tower(16)(CLIPTokenizer(77)(["word " * 100]))


def test_gradients_are_the_same_bits_each_time_on_several_threads() -> None:
    """Positions recur thousands of times in a batch: adding them up in the order of threads would differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        tower = TextTransformer(vocab_size=50, context_length=12, width=32, layers=1, heads=2, output_dim=8)
        tokens = Tokens(torch.randint(50, (2000, 12)), torch.randint(3, 13, (2000,)))
        gradients = []
        for _ in range(4):
            tower.zero_grad()
            tower(tokens).square().sum().backward()
            gradients.append([p.grad.clone() for p in tower.parameters()])
    finally:
        torch.set_num_threads(threads)
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


def test_texts_that_begin_alike_share_the_work_and_keep_their_numbers() -> None:
    model, tokenizer = tower(), CLIPTokenizer(77)
    names = ["cat", "dog", "golden retriever", "cat"]
    tokens = tokenizer([f"a photo of the {kind} {name}." for kind in ("big", "small") for name in names] + TEXTS)
    expected = model(tokens)  # with gradient: nothing shared
    rows = []
    model.blocks[0].mlp_in.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)
    beginnings = {
        tuple(ids[:n])
        for ids, length in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)
        for n in range(1, length + 1)
    }
    assert rows == [len(beginnings)]
    assert len(beginnings) < int(tokens.lengths.sum()) * 0.8
