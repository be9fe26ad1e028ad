"""Words of the command line that Hydra cannot read, or would read as something that nobody means: say what was meant."""

import itertools
import re
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from cliplab.cli import places
from cliplab.cli.arguments import UsageError
from cliplab.cli.help import settings
from cliplab.cli.suggestions import SEVERAL, listed_choices, nearest_choice
from cliplab.program import command, command_line, hydra_quoted, key_of, shell_quoted

LISTS = ("labels", "run", "ckpt", "pretrained", "images")  # keys that take several things at once
NEVER_REMOVED = ("optimizer.lr",)  # the library would take a value of its own
PARTS = ("model.image_encoder", "model.text_encoder", "data.train", "data.tokenizer", "data.batch_size")
FREE_TEXT = ("note", "where")
OF_THE_VERB = ("task.name", "task.function", "task.builds")
LEFT_OUT = {"logger": "~logger.csv leaves it out; ", "callbacks": "~callbacks.progress leaves that one out; "}
NEVER_EMPTY = ("name", "hydra.run.dir", "hydra.sweep.dir", "paths.run", "paths.logs", "paths.root")
# Names that distributions have in other programs
DISTRIBUTIONS = {
    **dict.fromkeys(("uniform", "quniform", "suggest_float", "float"), "interval({})"),
    **dict.fromkeys(("loguniform", "log_uniform", "qloguniform", "log"), "tag(log,interval({}))"),
    **dict.fromkeys(("randint", "suggest_int", "quantized", "integer"), "int(interval({}))"),
}


def value_of(override: str) -> str:
    return override.partition("=")[2]


def parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def part_of_swept(key: str, overrides: Sequence[str]) -> tuple[str, list[str]] | None:
    """The group with several typed choices that a key may come from, an experiment or the key's own group, and these
    choices; None when there is none."""
    for override in OverridesParser.create().parse_overrides([o for o in overrides if parses(o)]):
        group = override.get_key_element().lstrip("+")
        own = group in places.groups() and key.startswith(f"{group.replace('/', '.')}.")
        if override.is_sweep_override() and (own or group == "experiment"):
            return group, [str(value).strip("'\"") for value in override.sweep_string_iterator()]
    return None


OF_A_SWEEP = ("sweep_name", "launcher", "space")  # sweep=asha stands in the command that repeats one of its jobs


def check_typed(overrides: Sequence[str], *, multirun: bool = False) -> None:
    """Raises UsageError for words that Hydra would read as something nobody means."""
    known = places.groups()
    if multirun:
        _check_values(overrides)
    _check_spaces(overrides, known)
    _check_repeated(overrides)
    _check_sweeps(overrides)
    for number, word in enumerate(overrides):
        after = next(iter(overrides[number + 1 :]), "")
        key, equals, value = word.partition("=")
        bare = key.lstrip("+~")
        alone = "=" not in after or after.startswith("=")
        if equals and not bare:
            raise UsageError(f"{word}: there is no key before =; a setting is typed key=value, without spaces")
        if after.startswith("=") and not equals and bare:
            rest = after[1:] or next(iter(overrides[number + 2 :]), "")
            raise UsageError(f"{word} {after}: leave out the spaces around =; {shell_quoted(f'{word}={rest}')}")
        if equals and not value and after and alone and not after.startswith("~"):
            raise UsageError(f"{word} {after}: leave out the spaces around =; {shell_quoted(f'{word}{after}')}")
        if bare == "sweep_name" and not re.fullmatch(r"\w[\w.-]*", value.strip("'\"")):
            raise UsageError(
                f"{word}: the name of a folder is made of letters, digits, -, _ and dots, as sweep_name=rates"
            )
        group = bare.replace(".", "/")
        if bare in known and not word.startswith("~"):
            _check_choice(word, bare, value, overrides, known[bare])
        if "." in bare and group in known and re.fullmatch(r"\w+", value) and value != "null":
            raise UsageError(f"{word}: a choice is typed with /, values with dots: {group}={value}")
        if word in map("~{}".format, NEVER_REMOVED):
            raise UsageError(f"{word}: without it the library would take its own value; set it instead: {bare}=…")
        if equals and value in ("", "null") and bare in NEVER_EMPTY:
            raise UsageError(f"{word}: its value is missing; {bare}=…")
        if bare == "name" and re.fullmatch(r"['\"]?(/.*|[\[{].*|.*\.\.?/.*|\.\.?)['\"]?", value):
            raise UsageError(f"{word}: this is not a name, which becomes that of a folder in logs/<task>; name=<words>")
        if bare in OF_THE_VERB and not key.startswith("++"):  # a task of one's own is forced
            raise UsageError(
                f"{word}: a task is chosen by its name: task=<choice>, the choices are {listed_choices(known['task'])}"
            )
        if word.startswith("~") and bare:
            _check_removed(word, bare, known)


def _check_choice(word: str, group: str, value: str, overrides: Sequence[str], choices: Sequence[str]) -> None:
    """Raises UsageError for the value of a group that is no choice, or several where one is used."""
    listed = f"the choices are {listed_choices(choices)}"
    several = re.fullmatch(r"\[(.*)\]", value)
    if value.startswith("{"):
        dotted = group.replace("/", ".")
        raise UsageError(
            f"{word}: a group takes the name of a choice; values are set by their keys, {dotted}.<key>=…; {listed}"
        )
    if value == "null" or (several and not several[1].strip()):
        none = f"{group}=none chooses nothing; " if "none" in choices else LEFT_OUT.get(group, "")
        raise UsageError(f"{group}: {value} is not a choice; {none}{listed}")
    if several and "," in several[1] and group not in SEVERAL:
        line = command_line("-m", *(o for o in overrides if o != word), f"{group}={several[1]}")
        raise UsageError(f"{word}: only one choice of {group} is used at a time; to run one job for each: {line}")


def _check_removed(word: str, key: str, known: Mapping[str, Sequence[str]]) -> None:
    """Raises UsageError for the removal of a key that every command reads."""
    at_the_top = "." not in key.replace("/", ".") and key not in ("local", "hydra")
    in_a_group = key.split(".")[0] in ("trainer", "task", "paths")
    if key not in PARTS and not ((at_the_top or in_a_group) and _is_base_key(key)):
        return
    group = key.replace(".", "/") if key.startswith("model.") else key.split(".")[0]
    fix = f"{group}=<choice>" if key in (*known, *PARTS) else f"{key}=null" if "." in key else f"{key}=…"
    raise UsageError(f"{word}: every command reads this key, so it cannot be removed; give it another value: {fix}")


def _check_spaces(overrides: Sequence[str], known: Mapping[str, Sequence[str]]) -> None:
    """Raises UsageError for words behind a setting that only its value can have been meant to hold: ``query=a red car``."""
    choices = {choice for names in known.values() for choice in names}
    for number, word in enumerate(overrides):
        key, equals, value = word.partition("=")
        more = [*itertools.takewhile(lambda after: "=" not in after, overrides[number + 1 :])]
        plain = all(re.fullmatch(r"[^\W_][^=/:~+]*", one) and one not in choices and one not in known for one in more)
        if equals and value and more and plain and key not in known and not any(map(_is_base_key, more)):
            whole = " ".join([value, *more])
            quoted = shell_quoted(f"{key}={whole if whole[0] in '[{(' else hydra_quoted(whole)}")
            raise UsageError(f"{key}: a value with spaces is put in quotes: {quoted}")


def _check_values(overrides: Sequence[str]) -> None:
    """Raises UsageError for a key without a value, with which all jobs of a multirun would fail."""
    for word in overrides:
        if re.fullmatch(r"\+{0,2}[\w./@]+=", word) and key_of(word) not in FREE_TEXT:
            raise UsageError(f"{word}: its value is missing; {word}…, several values with commas between them")


def check_of_a_sweep(overrides: Sequence[str]) -> None:
    """Raises UsageError for settings of a sweep beside a single job, which would not read them."""
    keys = [key_of(word) for word in overrides]
    if any(key in ("resume", "hydra.mode") for key in keys):
        return
    for word, key in zip(overrides, keys, strict=True):
        if key in OF_A_SWEEP or key.startswith(("sweep.", "launcher.")):
            line = command_line("-m", *overrides)
            raise UsageError(f"{word}: only a sweep reads this, which is begun with -m: {line}")


def _check_sweeps(overrides: Sequence[str]) -> None:
    """Raises UsageError for a range without a value, which would start no job."""
    for word in overrides:
        if "=range(" in word and parses(word):
            override = OverridesParser.create().parse_override(word)
            if not any(True for _ in override.sweep_iterator()):
                raise UsageError(f"{word}: this range has no value, so that no job would start")


def _repeated(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The keys that are typed with several values, and these in their order. Hydra takes the last."""
    values: dict[str, list[str]] = {}
    for word in overrides:
        if "=" in word and not word.startswith("~"):
            values.setdefault(key_of(word), []).append(value_of(word))
    return {key: given for key, given in values.items() if len(set(given)) > 1}


def _check_repeated(overrides: Sequence[str]) -> None:
    """Raises UsageError for a key that is typed several times and can hold all of the values, and for two experiments."""
    for key, given in _repeated(overrides).items():
        if key in LISTS:
            listed_values = ",".join(value.removeprefix("[").removesuffix("]") for value in given)
            raise UsageError(
                f"{key}: it is typed {len(given)} times; for all of them: {shell_quoted(f'{key}=[{listed_values}]')}"
            )
        if key == "experiment":
            raise UsageError(f"{key}: a run has one, and {' and '.join(given)} are typed; leave out all but one")


def notes_on_repeated(overrides: Sequence[str]) -> list[str]:
    """A sentence for each key that is typed with several values."""
    repeated = _repeated(overrides).items()
    return [f"{key}: it is typed {len(given)} times; the last value counts, {given[-1]}" for key, given in repeated]


def _is_base_key(key: str) -> bool:
    """Whether the key stands in the base config, or in that of the trainer or the paths."""
    files = {"": "config", "trainer.": "trainer/default", "paths.": "paths/default"}
    found = {s.key for prefix, name in files.items() for s in settings(places.config_dir() / f"{name}.yaml", prefix)}
    return key in found or key in places.groups()


def explain_unreadable(override: str) -> str:
    """Explain a word that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    bare = key.lstrip("+~")
    if not equals:
        return _explain_without_equals(override)
    if key != key.strip() or value.startswith(" "):
        return f"{override!r}: leave out the spaces around =; {shell_quoted(f'{key.strip()}={value.strip()}')}"
    if "\n" in value and not value.startswith(("'", '"')):
        return f"{bare}: {value!r} holds a line break; leave it out, or put the whole text in quotes"
    joined = re.fullmatch(r"(\w+)[.,;](\S+=.+)", value)
    if bare in places.groups() and joined:
        apart = f"{bare}={joined[1]} {bare}.{joined[2].removeprefix(bare + '.')}"
        return f"{bare}: {value} is a choice and a value in one word; type {apart}"
    if not parses(f"{key}=1"):
        group, _, rest = bare.rpartition("/")
        hint = (
            f"; groups are chosen with / and values set with dots: {bare.replace('/', '.')}={value}"
            if group and rest
            else ""
        )
        return f"{bare}: this is not a key{hint or '; a key is names joined by dots, such as data.batch_size'}"
    function = re.fullmatch(r"(\w+)\(.*\)", value)
    for left, right in ("[]", "{}", "()"):
        if value.count(left) > value.count(right) and not function and parses(f"{key}={value}{right}"):
            return f"{bare}: {value} needs a closing {right}; {shell_quoted(f'{override}{right}')}"
    if value.endswith(",") and parses(override[:-1]):
        return f"{bare}: {value} ends in a comma; leave it out: {override[:-1]}"
    if value.startswith("$") and not value.endswith("}"):
        return f"{bare}: {value} needs a closing }}; {shell_quoted(override + '}')}"
    if function and function[1].lower() in DISTRIBUTIONS:
        inner = value[len(function[1]) + 1 : -1].replace(" ", "")
        meant = DISTRIBUTIONS[function[1].lower()].format(",".join(inner.split(",")[:2]))
        return f"{bare}: a search takes {meant}; type -m sweep=tpe {shell_quoted(f'{key}={meant}')}"
    in_quotes = _with_quoted_items(value)
    if in_quotes != value and parses(f"{key}={in_quotes}"):
        return f"{bare}: {value!r} cannot be read; put its texts in quotes: {shell_quoted(f'{key}={in_quotes}')}"
    text = value.strip("'\"") if value[0] in "'\"" else value
    quoted = shell_quoted(f"{key}={hydra_quoted(text)}")
    return f"{bare}: {value!r} cannot be read; put a text with {_special_characters(text)} in quotes: {quoted}"


def _with_quoted_items(value: str) -> str:
    """A flat list with quotes around the items that cannot be read without; another value as it is."""
    if not re.fullmatch(r"\[[^\[\]{}]+\]", value):
        return value
    items = re.findall(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]+)""", value[1:-1])
    return f"[{','.join(item if parses(f'x=[{item}]') else hydra_quoted(item) for item in items)}]"


def _special_characters(text: str) -> str:
    characters = dict.fromkeys(re.findall(r"[^\w/.+*%@?|:$\\ -]|[^\x00-\x7f]", text.replace("\n", "\n")))
    names = {"\n": "a line break", "\t": "a tab", ",": "a comma"}
    return " and ".join(names.get(one, one) for one in characters) or "quotes or spaces"


def _explain_without_equals(word: str) -> str:
    """A word without ``=``: a choice without its group, a key without a value, or ``key:value``."""
    group, _, choice = word.rpartition("/")
    known = places.groups()
    if choice in known.get(group, ()):
        return f"{word}: a choice is typed {group}={choice}"
    owners = [name for name, choices in known.items() if word in choices]
    if owners:
        ways = " or ".join(f"{owner}={word}" for owner in owners[:4])
        return f"{word}: this does not say which group it is a choice of; did you mean {ways}?"
    key, colon, value = word.partition(":")
    if colon and key:
        return f"{word}: a value is set with =; {shell_quoted(f'{key}={value.strip()}')}"
    if word not in known and _is_base_key(word):
        return f"{word}: its value is missing; {word}=…"
    if word in known:
        return f"{word}: its choice is missing; {word}=…, the choices are {listed_choices(known[word])}"
    near = nearest_choice(word, [name for choices in known.values() for name in choices])
    owner = next((name for name, choices in known.items() if near in choices), "")
    hint = f"; did you mean {owner}={near}?" if near else f", as {word}=…" if re.fullmatch(r"[\w.]+", word) else ""
    return f"{word}: a setting is typed key=value{hint or f'; see {command()} --help'}"
