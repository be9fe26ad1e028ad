"""Captions that are written: kept keys equal plain recomputation, a wide beam finds the best, the nucleus is drawn from."""

import itertools

import pytest
import torch
from torch import Tensor

from cliplab.models.tokens import Tokens
from cliplab.objectives.caption import Caption
from cliplab.objectives.coca import CocaCaption
from cliplab.objectives.objective import Objective
from cliplab.objectives.vocabulary import Vocabulary
from cliplab.objectives.writing import Beam, Greedy, Nucleus, writer_of

from .decoding import built, pairs, towers

MODEL, IMAGES = towers(), pairs().images
CHOICES: dict[str, Objective] = {
    "caption": Caption(directions="both", width=None, layers=None, heads=None, captions=100),
    "coca": CocaCaption(layers=None, heads=None, captions=100),
}
for objective in CHOICES.values():
    built(objective, MODEL)


def log_p(objective: Objective, text: list[int], row: int) -> Tensor:
    """Log-probabilities after the words ``text``, from the whole text at once."""
    batch = pairs()
    ids = torch.tensor([[1, *objective.vocabulary.tokens[torch.tensor(text, dtype=torch.int64)].tolist(), 2]])  # type: ignore[operator,index]
    tokens = Tokens(ids, torch.tensor([ids.shape[1]]))
    encoded = MODEL(batch.images[row : row + 1], tokens, objective.reads)
    memory = encoded.image_states.patches.flatten(1, 2)
    if isinstance(objective, Caption):
        states, _ = objective.states(objective.decoders[0], memory, objective.vocabulary.words(tokens))  # type: ignore[arg-type]
        return objective.table.logits(states)[-1].log_softmax(-1)
    assert isinstance(objective, CocaCaption)
    from cliplab.models.caption_decoder import Causal
    from cliplab.models.layers import pack_tokens

    words = objective.vocabulary.words(tokens)
    packing = pack_tokens(words)
    x = objective.decoder(
        packing.pack(encoded.text_states.tokens[:, :-1]), objective.decoder.see(memory), Causal(packing)
    )
    return objective.output.logits(x)[-1].log_softmax(-1)


@pytest.mark.parametrize("choice", CHOICES)
@torch.inference_mode()
def test_word_by_word_equals_the_whole_text_also_after_a_reorder(choice: str) -> None:
    writer = writer_of(CHOICES[choice])
    assert writer is not None
    underway = writer.begin(MODEL, IMAGES)
    underway.step(None)
    underway.step(torch.tensor([1, 2, 3, 1]))
    underway.reorder(torch.tensor([2, 2, 0]))
    told = underway.step(torch.tensor([1, 3, 2])).log_softmax(-1)
    for line, (row, text) in enumerate([(2, [3, 1]), (2, [3, 3]), (0, [1, 2])]):
        torch.testing.assert_close(told[line], log_p(CHOICES[choice], text, row), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_wide_beam_finds_the_likeliest_caption_and_greedy_the_likeliest_words() -> None:
    objective = CHOICES["caption"]
    assert isinstance(objective, Caption)
    rows, end = [1, 2, 3], objective.vocabulary.end_row
    for row in range(2):
        texts = [list(t) for n in range(3) for t in itertools.product(rows, repeat=n)]
        ended = {tuple(t): sum(float(log_p(objective, t[:i], row)[w]) for i, w in enumerate([*t, end])) for t in texts}
        found = Beam(beams=5)(objective.begin(MODEL, IMAGES[row : row + 1]), objective.vocabulary, [0], 3)[0]
        if len(found.rows) < 3:
            assert found.log_likelihood >= max(ended.values()) - 1e-4
            assert found.log_likelihood == pytest.approx(ended[tuple(found.rows)], abs=1e-4)
        greedy = Greedy()(objective.begin(MODEL, IMAGES[row : row + 1]), objective.vocabulary, [0], 3)[0]
        text: list[int] = []
        while len(text) < 3 and (word := int(log_p(objective, text, row)[:4].argmax())) != end:
            text.append(word)
        assert greedy.rows == text


class Fixed:
    """The same logits at each place."""

    def __init__(self, p: list[float], texts: int) -> None:
        self.logits = torch.tensor(p).log().expand(texts, -1)

    def step(self, rows: Tensor | None) -> Tensor:
        return self.logits

    def reorder(self, rows: Tensor) -> None: ...


def test_the_nucleus_holds_the_likeliest_words_and_a_draw_follows_its_picture() -> None:
    vocabulary = Vocabulary(0)
    vocabulary.marks = torch.tensor([-1, 0])
    vocabulary.build(4)
    p = [0.1, 0.5, 0.3, 0.1]
    drawn = Nucleus(top_p=0.7, seed=1)(Fixed(p, 400), vocabulary, list(range(400)), 1)
    words = torch.tensor([one.rows[0] for one in drawn])
    assert set(words.tolist()) == {1, 2}
    assert float((words == 1).float().mean()) == pytest.approx(0.5 / 0.8, abs=0.08)
    again = Nucleus(top_p=0.7, seed=1)(Fixed(p, 2), vocabulary, [17, 3], 1)
    assert [one.rows for one in again] == [drawn[17].rows, drawn[3].rows]
    with pytest.raises(ValueError, match=r"task\.top_p 0 must lie above 0"):
        Nucleus(top_p=0)
