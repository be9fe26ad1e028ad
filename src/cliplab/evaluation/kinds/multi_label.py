"""How zero-shot classification of pictures with several labels is shown."""

from cliplab.evaluation.blocks import Block, Cell, Column, Row, Table
from cliplab.evaluation.kind import Details, Kind, Record
from cliplab.evaluation.words import percent


class MultiLabelDetails(Details, total=False):
    """``average_precision`` is that of each class; None for a class without images."""

    class_names: list[str]
    templates: list[str]
    average_precision: list[float | None]


class MultiLabel(Kind):
    name, title, task = "multi_label", "Several labels an image", "zeroshot_classification"
    figures = {"mean_average_precision": "mean average precision"}
    facts = {"labels_per_image": "labels per image", "images": "images", "classes": "classes"}

    def blocks(self, record: Record) -> list[Block]:
        """The average precision of every class, the lowest first."""
        names, values = record.details.get("class_names") or [], record.details.get("average_precision") or []
        known = sorted(((n, v) for n, v in zip(names, values, strict=False) if v is not None), key=lambda pair: pair[1])
        rows = [Row([Cell(name), Cell(percent(value), value)]) for name, value in known]
        columns = [Column("class", False), Column("average precision")]
        return [Table(columns, rows, "Classes", "the lowest first", sortable=True, scrolls=True)] if rows else []


KIND = MultiLabel()
