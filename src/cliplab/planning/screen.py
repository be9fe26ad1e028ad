"""A plan as tables of eighty columns."""

from rich.console import Console
from rich.table import Table

from cliplab.planning.figures import shown
from cliplab.planning.plan import Figures, Plan

COLUMNS = 80


def print_plan(plan: Plan) -> None:
    console = Console(width=COLUMNS)
    console.print(_table(f"Memory of each device, at its peak ({plan.phase})", plan.parts | plan.memory))
    console.print(_table("A step of each device", plan.step))
    console.print(_table("The run", plan.run))
    if plan.helps:
        console.print(_settings(plan.helps))
    if not plan.fits:
        console.print("This batch does not fit.", style="bold red")


def _table(title: str, figures: Figures) -> Table:
    table = Table("figure", "value", "how", title=title, title_justify="left", min_width=60)
    table.columns[1].justify = "right"
    for name, figure in figures.items():
        table.add_row(name, shown(figure), figure.how)
    return table


def _settings(helps: dict[str, Figures]) -> Table:
    table = Table("what to type", "peak", "left", "images/s", "how", title="Other settings", title_justify="left")
    table.columns[0].overflow = "fold"
    for typed, figures in helps.items():
        numbers = [shown(figures[name]) for name in ("peak", "left")]
        table.add_row(typed, *numbers, f"{figures['images'].value:,.0f}", figures["peak"].how)
    return table
