"""How captions that a model wrote are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.evaluation.blocks import Answer, Block, Card, Shelf
from cliplab.evaluation.kind import Details, Kind, Metrics, Record, Samples

EXAMPLES, FURTHEST = 12, 6


class CaptioningDetails(Details, total=False):
    """``beams`` captions were followed at once; 1 is greedy writing."""

    beams: int


def no_captions(objective: str | None) -> str:
    """Why a model with an objective of this class writes no captions, and which do."""
    why = "it has no objective that writes" if objective is None else f"its objective, {objective}, does not write"
    return f"{why} captions; use a model of objective=caption or coca"


def shelves(samples: Samples) -> dict[str, list[int]]:
    """Pictures at even distances, so that they are a fair sample, and those whose captions are least like a reference."""
    images = len(samples["written"])
    shown = min(EXAMPLES, images)
    worst = sorted(range(images), key=lambda i: samples["rouge_l"][i])
    return {
        "Examples": [i * images // shown for i in range(shown)],
        "Least like a reference": [i for i in worst if not samples["exact"][i]][:FURTHEST],
    }


class Captioning(Kind):
    name, title, task, suffix = "captioning", "Captions", "captioning", "_captions"
    figures = {"ROUGE_L": "ROUGE-L", **{f"Bleu_{n}": f"BLEU-{n}" for n in range(1, 5)}, "exact": "word for word"}
    facts = {"CIDEr": "CIDEr-D", "images": "images", "captions": "references", "distinct": "different captions"}
    order = 25

    def say(self, metrics: Metrics) -> str:
        return (
            f"ROUGE-L {metrics['ROUGE_L']:.2%}, BLEU-1 {metrics['Bleu_1']:.2%}, BLEU-4 {metrics['Bleu_4']:.2%}, "
            f"CIDEr-D {metrics['CIDEr']:.3f}, word for word {metrics['exact']:.2%}"
        )

    def blocks(self, record: Record) -> list[Block]:
        """Examples of written captions beside their pictures."""
        samples = record.samples()
        if not {"thumbnail", "written"} <= set(samples):
            return []
        beams = record.details.get("beams", 1)
        how = "written greedily" if beams == 1 else f"the best of {beams} beams"
        small = f"the reference, and below it the caption {how} with its ROUGE-L"
        cards = {
            title: [self.card(record.details, samples, i) for i in rows] for title, rows in shelves(samples).items()
        }
        return [Shelf(title, shown, small) for title, shown in cards.items() if shown]

    def pictured(self, samples: Samples) -> set[int]:
        return {i for rows in shelves(samples).values() for i in rows}

    def card(self, details: Mapping[str, Any], samples: Samples, row: int) -> Card:
        references, share, exact = samples["captions"][row], samples["rouge_l"][row], samples["exact"][row]
        thumbnails: Sequence[bytes | None] = samples.get("thumbnail") or [None] * len(samples["written"])
        written = Answer(samples["written"][row] or "(nothing)", share, f"{share:.2f}", exact)
        note = f"references: {len(references)}" if len(references) > 1 else ""
        return Card(thumbnails[row], references[0], exact, [written], note=note)


KIND = Captioning()
