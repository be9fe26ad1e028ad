"""The folder of the configs, their groups and choices, and the folder in which a command writes."""

from pathlib import Path


def config_dir() -> Path:
    """The configs in an installed wheel, or else those of the repository."""
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def project_root(script: str | None) -> Path:
    """The folder of run.py for ``python run.py``, typed in any folder; the working directory for ``cliplab``."""
    return Path(script).resolve().parent if script else Path.cwd()


def choices(folder: Path) -> list[str]:
    """The choices of a group."""
    return sorted(f.stem for f in folder.glob("*.yaml") if not f.stem.startswith("_"))


def groups() -> dict[str, list[str]]:
    """Each group, named as it is typed (``model/image_encoder``), with its choices."""
    root = config_dir()
    found = {folder.relative_to(root).as_posix(): choices(folder) for folder in root.rglob("*") if folder.is_dir()}
    return {group: names for group, names in sorted(found.items()) if names}
