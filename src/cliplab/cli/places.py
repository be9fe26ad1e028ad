"""Where the configs lie, and where a command writes."""

from pathlib import Path


def config_dir() -> Path:
    """The configs packed in an installed wheel, else the repository's."""
    packaged = Path(__file__).parents[1] / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"


def project_root(script: str | None) -> Path:
    """The folder of run.py for ``python run.py``, wherever it is typed; the working directory for ``cliplab``."""
    return Path(script).resolve().parent if script else Path.cwd()


def choices(folder: Path) -> list[str]:
    """The configs of a group that can be chosen."""
    return sorted(f.stem for f in folder.glob("*.yaml") if not f.stem.startswith("_"))


def groups() -> dict[str, list[str]]:
    """Each group with its choices: ``model/image_encoder`` as it is typed."""
    root = config_dir()
    found = {folder.relative_to(root).as_posix(): choices(folder) for folder in root.rglob("*") if folder.is_dir()}
    return {group: names for group, names in sorted(found.items()) if names}
