"""A trained model for users: it turns images and texts into unit vectors."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor

from cliplab.data.images import BadImage, decode_image
from cliplab.embedding.arrays import is_array
from cliplab.embedding.captions import Caption, captioner
from cliplab.embedding.index import ExactIndex, Index
from cliplab.embedding.inputs import SUFFIXES, as_list, given_labels, given_texts, list_images, query_file
from cliplab.evaluation.answers import answers_of
from cliplab.evaluation.batches import Transform
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.prompts import Prompts, embed_texts, load_templates
from cliplab.models.clip import CLIP
from cliplab.models.fingerprint import model_fingerprint
from cliplab.models.tokens import Tokenizer, Tokens
from cliplab.objectives.objective import Objective, score_of, trained_embeds
from cliplab.objectives.writing import Method, writer_of
from cliplab.text import occurrences

__all__ = ["SUFFIXES", "Classification", "EmbeddingModel", "Hit", "Skipped", "as_list", "list_images", "query_file"]

SHOWN_FROM = 4  # batches from which a progress bar is shown


class Skipped(NamedTuple):
    """An image that could not be used: its position in the input, and a short reason."""

    position: int
    reason: str


class Classification(NamedTuple):
    """Probabilities of labels for images, float32 ``[images, labels]``, and the ``cosines`` that they are computed from.
    With ``by_score`` these are the scores of an objective that trains no text embeddings, such as log-likelihoods.

    ``kept`` has the position of each row's image in the input. A row of probabilities sums to 1, unless ``independent``:
    models trained with a bias, such as SigLIP, give the probability of each label by itself.
    """

    labels: list[str]
    probabilities: Float[np.ndarray, "images labels"]
    kept: Int[np.ndarray, " images"]
    cosines: Float[np.ndarray, "images labels"]
    independent: bool
    by_score: bool = False

    @property
    def best(self) -> list[str]:
        """The most probable label of each row."""
        return [self.labels[i] for i in self.probabilities.argmax(1)]


class Hit(NamedTuple):
    """One search result: its position in the collection, the cosine, and the image (or id) itself."""

    position: int
    score: float
    image: Any


class EmbeddingModel:
    """A CLIP with its tokenizer and evaluation transform. Use ``cliplab.load`` to make one.

    Images are paths, PIL images, encoded bytes, arrays or tensors (see ``arrays.WANTED``). An image that cannot be read is
    left out with a warning; ``skipped`` lists those of the last call, ``kept`` the positions of the others. A text longer
    than the context is cut; ``truncated`` counts the cut texts of the last call. ``objective`` is what the model was trained
    with, where it is known: it scores texts where it trains no embeddings of them, and it may write captions.
    """

    def __init__(
        self,
        *,
        model: CLIP,
        tokenizer: Tokenizer,
        transform: Transform,
        source: str = "",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        workers: int = 4,
        progress: bool = True,
        objective: Objective | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be 1 or more")
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer, self.transform, self.source = tokenizer, transform, source
        self.device, self.batch_size, self.workers = torch.device(device), batch_size, max(1, workers)
        self.progress = progress
        self.objective = None if objective is None else objective.eval().requires_grad_(False).to(device)
        self._score = score_of(self.objective, self.model)
        self.skipped: list[Skipped] = []
        self.kept: Int[np.ndarray, " images"] = np.zeros(0, np.int64)
        self.truncated = 0

    @property
    def embed_dim(self) -> int:
        return self.model.embed_dim

    @property
    def logit_scale(self) -> float:
        """The factor for cosines: the learned inverse temperature."""
        return float(self.model.logit_scale.exp())

    @property
    def fingerprint(self) -> str:
        """Changes with everything that an embedding depends on: see ``model_fingerprint``."""
        return model_fingerprint(self.model, self.tokenizer, self.transform)

    def _pixels(self, image: Any) -> Tensor | str:
        try:
            return self.transform(decode_image(image))
        except BadImage as error:
            return error.reason

    def _shown(self, batches: Iterable[Any], count: int, what: str) -> Iterable[Any]:
        wanted = self.progress and count >= SHOWN_FROM
        return track(batches, description=what, total=count, transient=True) if wanted else batches

    def _batches(self, images: Sequence[Any]) -> Iterator[list[Tensor | str]]:
        """Decoded batches. The next one is decoded while the model processes this one."""
        with ThreadPoolExecutor(self.workers) as pool:
            starts = range(0, len(images), self.batch_size)
            ahead = [[pool.submit(self._pixels, x) for x in images[: self.batch_size]]]
            for start in starts:
                following = images[start + self.batch_size : start + 2 * self.batch_size]
                ahead.append([pool.submit(self._pixels, x) for x in following])
                yield [future.result() for future in ahead.pop(0)]

    def embed_usable(
        self, images: Sequence[Any]
    ) -> tuple[Float[np.ndarray, "kept embed_dim"], Int[np.ndarray, " kept"], list[Skipped]]:
        """Unit vectors of the images that can be read, their positions, and the skipped images. Does not raise or warn."""
        rows, kept, skipped = self.for_usable(images, lambda pixels, _: [self.model.encode_image(pixels).float().cpu()])
        embeds = torch.cat(rows) if rows else torch.zeros(0, self.embed_dim)
        return embeds.numpy(), kept, skipped

    def for_usable(
        self, images: Sequence[Any], work: Callable[[Tensor, list[int]], list[Any]]
    ) -> tuple[list[Any], Int[np.ndarray, " kept"], list[Skipped]]:
        """What ``work`` returns for batches of the images that can be read, given their pixels and positions, joined; their
        positions, and the skipped images."""
        found: list[Any] = []
        skipped: list[Skipped] = []
        kept: list[int] = []
        position, count = 0, -(-len(images) // self.batch_size)
        for batch in self._shown(self._batches(images), count, "images"):
            good = [x for x in batch if isinstance(x, Tensor)]
            skipped += [Skipped(position + i, x) for i, x in enumerate(batch) if isinstance(x, str)]
            places = [position + i for i, x in enumerate(batch) if isinstance(x, Tensor)]
            position += len(batch)
            kept += places
            if good:
                with torch.inference_mode():
                    found += work(torch.stack(good).to(self.device), places)
        return found, np.asarray(kept, np.int64), skipped

    def check_trained(self, *embeds: str) -> None:
        """Raises ValueError when the model was trained without these of ``image_embeds`` and ``text_embeds``."""
        missing = [name for name in embeds if name not in trained_embeds(self.objective)]
        if missing:
            what = " and ".join(name.replace("_embeds", "s") for name in missing)
            ways = [
                *(["task=classify"] if self._score is not None else []),
                *(["task=caption"] if writer_of(self.objective) is not None else []),
            ]
            raise ValueError(
                f"{self.source}: objective {type(self.objective).__name__} trains no embeddings of {what}; "
                f"use {' or '.join(ways) or 'a model of another objective'}"
            )

    def _all_usable(self, images: Any, work: Callable[[Tensor, list[int]], list[Any]]) -> list[Any]:
        """``for_usable``, with a warning of skipped images. Raises ValueError when nothing is given or can be read."""
        images = as_list(images)
        if not images:
            raise ValueError("no images were given")
        found, self.kept, self.skipped = self.for_usable(images, work)
        if not len(self.kept):
            raise ValueError(f"none of the {len(images)} images can be read: {self.skipped_reasons()}")
        if self.skipped:
            warnings.warn(
                f"{len(self.skipped)} of {len(images)} images skipped: {self.skipped_reasons()}", stacklevel=3
            )
        return found

    def embed_images(self, images: Any) -> Float[np.ndarray, "kept embed_dim"]:
        """Unit vectors, float32, of a list of images, of one image, or of every image in a folder.

        One row for each image that can be read, in order. Raises ValueError when nothing is given or nothing can be read.
        """
        self.check_trained("image_embeds")
        return torch.cat(
            self._all_usable(images, lambda pixels, _: [self.model.encode_image(pixels).float().cpu()])
        ).numpy()

    def skipped_reasons(self) -> str:
        """Such as ``broken 2, missing_file 1``."""
        return occurrences(one.reason for one in self.skipped)

    def embed_texts(self, texts: str | Sequence[str]) -> Float[np.ndarray, "texts embed_dim"]:
        """Unit vectors, float32, one row for each text. Raises ValueError when none is given, or no string."""
        self.check_trained("text_embeds")
        tokens = self._tokens(given_texts(texts))
        with torch.inference_mode():
            return embed_texts(self.model, tokens, self.device).cpu().numpy()

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        before = self.tokenizer.truncated
        tokens = self.tokenizer(texts)
        self.truncated = self.tokenizer.truncated - before
        if self.truncated:
            most = self.tokenizer.context_length
            warnings.warn(f"{self.truncated} of {len(texts)} texts cut at {most} tokens", stacklevel=3)
        return tokens

    def classifier(
        self, labels: Sequence[str], templates: str | Sequence[str]
    ) -> Float[np.ndarray, "labels embed_dim"]:
        """One unit vector for each label: the mean over the templates, as in zero-shot evaluation."""
        prompts = Prompts(labels, load_templates(templates), self._tokens)
        with torch.inference_mode():
            return prompts.weights(self.model, self.device)[prompts.classes.to(self.device)].cpu().numpy()

    def classify(self, images: Any, labels: Sequence[str], templates: str | Sequence[str] = "simple") -> Classification:
        """Probabilities of each label for each image, at the model's own temperature: a softmax over the labels, or for a
        model with a bias, such as SigLIP, the sigmoid of each.

        ``templates`` is ``plain``, ``simple`` ("a photo of a {}."), ``openai_7``, ``openai_80``, a file or a list. Warns of
        labels with the same tokens, and of a single label under a softmax. Raises ValueError without labels, for a label
        that is repeated or not a string, or when no image can be read.
        """
        labels = given_labels(labels)
        bias = self.model.logit_bias
        self._warn_of_labels(labels, softmax=bias is None)
        if self._score is not None:
            return self._classify_by_score(images, labels, templates)
        weights = self.classifier(labels, templates)
        cosines = self.embed_images(images) @ weights.T
        logits = self.logit_scale * cosines + (0.0 if bias is None else float(bias))
        if bias is not None:
            shares = torch.from_numpy(logits).sigmoid().numpy()
        else:
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares = shares / shares.sum(1, keepdims=True)
        return Classification(labels, shares, self.kept, cosines, bias is not None)

    def _classify_by_score(self, images: Any, labels: list[str], templates: str | Sequence[str]) -> Classification:
        """A softmax over the scores of the labels: for log-likelihoods, the probability of each label among these."""
        prompts = Prompts(labels, load_templates(templates), self._tokens)
        answer = answers_of(ZeroShotModel(self.model, self._tokens, self.device, self._score), prompts, alone=False)
        rows = self._all_usable(images, lambda pixels, _: [answer(pixels).logits.float().cpu()])
        scores = torch.cat(rows)
        return Classification(labels, scores.softmax(1).numpy(), self.kept, scores.numpy(), False, by_score=True)

    def caption(self, images: Any, method: Method | None = None, *, most_tokens: int | None = None) -> list[Caption]:
        """A caption for each image that can be read. ``method`` is one of ``objectives.writing.METHODS``, such as
        ``Beam(beams=5)``; the default is greedy. Raises ValueError for a model whose objective writes no captions."""
        return self._all_usable(images, captioner(self, method, most_tokens))

    def _warn_of_labels(self, labels: Sequence[str], softmax: bool) -> None:
        """Warn about labels that make the probabilities misleading."""
        if len(labels) == 1 and softmax:
            told = "cosines" if self._score is None else "scores"
            message = f"{labels[0]!r} is the only label: its probability is always 1; add others, or look at the {told}"
            warnings.warn(message, stacklevel=3)
        before = self.tokenizer.truncated
        tokens = self.tokenizer(labels)
        self.tokenizer.truncated = before
        first: dict[tuple[int, ...], str] = {}
        for label, row, length in zip(labels, tokens.ids.tolist(), tokens.lengths.tolist(), strict=True):
            other = first.setdefault(tuple(row[:length]), label)
            if other != label:
                message = (
                    f"labels {other!r} and {label!r} are the same tokens to this model and get the same probability"
                )
                warnings.warn(message, stacklevel=3)

    def embed_query(self, query: Any) -> Float[np.ndarray, "1 embed_dim"]:
        """The vector of a sentence or of an image. A string that names an image file is an image."""
        file = query_file(query)
        if isinstance(query, str) and file is None:
            if not query.strip():
                raise ValueError("query is empty; give a sentence or an image")
            return self.embed_texts(query)
        return self.embed_images([query if file is None else file])

    def search(self, images: Any, query: Any, top: int = 10, index: Callable[[Any], Index] = ExactIndex) -> list[Hit]:
        """The ``top`` images nearest to a sentence or an image, best first.

        ``images`` is anything that ``embed_images`` takes, or its result ``[images, embed_dim]``, to embed them only once.
        """
        if is_array(images) and images.ndim == 2 and (isinstance(images, torch.Tensor) or images.dtype != np.uint8):
            embeds = images.detach().cpu().numpy() if isinstance(images, torch.Tensor) else images
            kept, items = np.arange(len(embeds)), None
            if embeds.shape[1] != self.embed_dim:
                raise ValueError(f"the embeddings have {embeds.shape[1]} dimensions and the model {self.embed_dim}")
        else:
            items = as_list(images)
            embeds = self.embed_images(items)
            kept = self.kept
        positions, scores = index(embeds).search(self.embed_query(query), top)
        places = [int(kept[i]) for i in positions[0]]
        return [Hit(p, float(s), None if items is None else items[p]) for p, s in zip(places, scores[0], strict=True)]
