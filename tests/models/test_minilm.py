"""The pretrained sentence encoder out of its package: its own numbers, its own sense of what is alike."""

import torch
from hydra.utils import instantiate
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from cliplab.models.hf_sources import locate
from tests.configs.test_configs import composed

TEXTS = [
    "a kitten asleep on a sofa",
    "a small cat that sleeps",
    "stock prices fell",
    "the market lost value again today",
]


def test_minilm_gives_the_library_s_own_sentence_embeddings() -> None:
    cfg = composed("experiment=emoji_minilm")
    folder = locate(cfg.model.text_encoder.source)
    tower = instantiate(cfg.model.text_encoder, projection={"_target_": "torch.nn.Identity"}).eval()
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    library = AutoModel.from_pretrained(folder).eval()(**batch, output_hidden_states=True)
    mask = batch["attention_mask"].unsqueeze(-1)
    tokens = instantiate(cfg.tokenizer)(TEXTS)
    assert tokens.lengths.tolist() == mask.sum((1, 2)).tolist()
    with torch.no_grad():
        words, embeds = tower(tokens).chunk(2, dim=-1)  # of the embeddings, and of the last layer
    for ours, states in ((words, library.hidden_states[0]), (embeds, library.last_hidden_state)):
        torch.testing.assert_close(ours, (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-5)
    alike = F.normalize(embeds, dim=-1) @ F.normalize(embeds, dim=-1).T
    assert min(alike[0, 1], alike[2, 3]) > 0.4 > 0.3 > alike[:2, 2:].max()
