"""A corpus of bad input: each ends with status 2 and one message of rule, value and remedy, and nothing is written."""

import json
import shlex
import time
from itertools import pairwise
from pathlib import Path

import pytest

from headstart import notes
from headstart.cli.main import main
from headstart.record.result import Result
from pictures import tiny, write_folder

LONG = "x" * 300

SETTINGS = [
    ("~seed", "seed cannot be left out"),
    ("~name", "name cannot be left out"),
    ("~features", "features cannot be left out"),
    ("~companions", "companions cannot be left out"),
    ("name=", "name must be the name of one folder"),
    ("name=\"' '\"", "it is empty"),
    ("name=.", "stands for another folder"),
    ("name=..", "stands for another folder"),
    ("name=../..", "it holds / or"),
    ("name=/etc/x", "it holds / or"),
    ("name=a/b", "it holds / or"),
    ("name=runs", "where runs outside of comparisons lie"),
    ("name=\"'a\nb'\"", "characters that cannot be shown"),
    (f"name={LONG}", "it has 300 bytes"),
]
COUNTED = [
    ("trainer.max_epochs=100000000", "less than or equal to 100000, but is 100000000"),
    ("trainer.threads=100000", "trainer.threads must be less than or equal to 1024"),
    ("trainer.num_workers=100000", "trainer.num_workers must be less than or equal to 512"),
    ("augmentation=rand_augment augmentation.num_ops=100000000", "augmentation.num_ops must be less"),
    ("augmentation=light augmentation.views=1000000000", "augmentation.views must be less than or equal to 1000"),
    ("data.size=100000", "data.size must be less than or equal to 4096"),
    ("data.size=1", "data.size must be greater than or equal to 8"),
    ("head=mlp head.num_hidden_layers=100000000", "head.num_hidden_layers must be less"),
    ("head=mlp head.hidden=100000000000", "head.hidden must be less"),
    ("features.budget_gb=1e300", "features.budget_gb must be less"),
    ("features.budget_gb=nan", "features.budget_gb must be a finite number"),
    ("data=synthetic_audio data.seconds=1e9", "data.seconds must be less than or equal to 3600"),
    ("data=synthetic_audio data.seconds=0.0001", "data.seconds must be greater than or equal to 0.01"),
    ("data=synthetic_audio data.clips_per_class=100000000", "data.clips_per_class must be less"),
    ("data=openmoji_names data.max_length=1", "data.max_length must be greater than or equal to 2"),
]
OPTIMIZERS = [
    ("optimizer.lr=0", "optimizer.lr must be greater than 0"),
    ("optimizer.lr=-1", "optimizer.lr must be greater than 0"),
    ("optimizer.lr=inf", "optimizer.lr must be a finite number"),
    ("optimizer.lr=nan", "optimizer.lr must be a finite number"),
    ("optimizer.lr=1e400", "optimizer.lr must be a finite number"),
    ("optimizer.lr=1e300", "AdamW fails (value cannot be converted"),
    ("optimizer.lr=null", "optimizer.lr must be a valid number"),
    ("optimizer.lr=fast", "optimizer.lr must be a valid number, but is 'fast'"),
    ("optimizer.lr=[1]", "optimizer.lr must be a valid number"),
    ("optimizer.lr=true", "optimizer.lr must be a valid number"),
    ("~optimizer.lr", "optimizer.lr must be given"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay must be greater than or equal to 0"),
    ("optimizer.weight_decay=inf", "optimizer.weight_decay must be a finite number"),
    ("optimizer.weight_decay=null", "optimizer.weight_decay must be a valid number"),
    ("+optimizer.maximize=true", "does not go down where the gradient says so"),
    ("+optimizer.capturable=true", "AdamW fails (If capturable=True"),
    ("+optimizer.differentiable=true", "AdamW fails (a leaf Variable"),
    ("+optimizer.betas=3", "optimizer.betas must be 2 values"),
    ("+optimizer.betas=[0.9,2]", "Invalid beta parameter"),
    ("+optimizer.eps=nan", "optimizer.eps must be a finite number"),
    ("+optimizer.fused=3", "optimizer.fused must be a valid boolean"),
    ("+optimizer.amsgrad=3", "optimizer.amsgrad must be a valid boolean"),
    ("optimizer=sgd optimizer.momentum=1.5", "does not slow down where there is no gradient"),
    ("optimizer=sgd +optimizer.dampening=5 optimizer.nesterov=false", "does not go down where the gradient says so"),
    ("optimizer._target_=torch.optim.SparseAdam ~optimizer.weight_decay", "does not support dense gradients"),
    ("optimizer._target_=torch.optim.LBFGS ~optimizer.weight_decay", "LBFGS fails"),
    ("optimizer._target_=torch.optim.Muon", "Muon only supports 2D parameters"),
    ("optimizer._target_=torch.optim.Rprop ~optimizer.weight_decay", "does not follow the rate"),
]
WORDS = [
    ("optimizer=null", "Unknown optimizer 'null'"),
    ("trainer=null", "Unknown trainer 'null'"),
    ("data=null", "Unknown data 'null'"),
    ("logger=3", "Unknown logger '3'"),
    ("'optimizer=[1]'", "must list names of configs: adamw, sgd"),
    ("~trainer", "trainer cannot be left out"),
    ("~optimizer", "optimizer cannot be left out"),
    ("+x=1", "Unknown setting 'x'"),
    ("seed=null", "seed must have a value, but is null"),
    ("seed=[1]", "seed must be a whole number, but is '[1]'"),
    ("seed=1.5", "seed must be a whole number, but is '1.5'"),
    ("seed=1e400", "seed must be a whole number, but is 'inf'"),
    ("seed=-1", "seed must be greater than or equal to 0"),
    ("seed=99999999999999999999", "seed must be less than or equal to"),
    ("trainer=3", "Unknown trainer '3'"),
    ("trainer=default,gpu", "train -m"),
    ("'optimizer.lr=${nope}'", "nope"),
    ("'optimizer.lr=${oc.env:NOT_SET_ANYWHERE}'", "NOT_SET_ANYWHERE"),
    ("'seed=${seed}'", "ecursive"),
    ("'optimizer.lr=${'", "cannot be read"),
    ("seed", "cannot be read"),
    ("seed==", "cannot be read"),
    ("=1", "names no setting"),
    ("''", "cannot be read"),
    ("seed=\udcff", "cannot be read"),
    ("--config-name", "--config-name"),
    ("--config-name=nope", "nope"),
    ("--config-dir=nowhere", "--config-dir must be a folder"),
    ("--config-dir=", "--config-dir must name a folder"),
    ("--cfg", "expected one argument"),
    ("--cfg=everything", "invalid choice: 'everything'"),
    ("--info=nothing", "invalid choice: 'nothing'"),
    ("--resolve", "--resolve and --package go with --cfg"),
    ("--package=trainer", "--resolve and --package go with --cfg"),
    ("--run -m seed=0,1", "--run and -m exclude each other"),
    ("--quiet", "Unknown option '--quiet'"),
    ("--dry-run", "--dry-run is for comparisons: add -m"),
    ("-m seed=range(0,100000000)", "at most 10,000 runs, but seed=range(0,100000000) gives more"),
    ("-m seed=range(0,200) +trainer.patience=range(1,200)", "at most 10,000 runs, but these settings make 39,800"),
    ("-m 'seed=glob(*)'", "gives no value at all"),
    ("-m 'strategy=glob(x*)'", "Unknown strategy 'glob(x*)'"),
    ("-m seed=range(0,0)", "gives no value at all"),
    ("-m seed=range(0,5,0)", "cannot be listed"),
    ("-m 'seed=interval(0,5)'", "must list its values"),
]
NAMES = [
    ("strategy=lora strategy.adapter=null", "strategy=lora must do what its name says"),
    ("strategy=lora ~strategy.adapter", "strategy=lora must do what its name says"),
    ("strategy=l2_sp strategy.regularizer=null", "with strategy.regularizer=null it is fine_tune"),
    ("strategy=l2_sp strategy.regularizer.alpha=0", "strategy.regularizer.alpha must be greater than 0"),
    ("strategy=stochnorm backbone=timm backbone.model=test_vit backbone.weights=none", "but the backbone has none"),
    ("strategy=stochnorm +strategy.thawed_norm=eval", "strategy.thawed_norm=eval keeps them to the moving ones"),
    ("strategy=bias_only +strategy.stochastic_norm=0.5", "but this strategy trains none of them"),
    ("strategy=stochnorm strategy.stochastic_norm=null", "with strategy.stochastic_norm=null it is fine_tune"),
    ("strategy=surgical_auto strategy.layer_rates=null", "with strategy.layer_rates=null it is fine_tune"),
    (
        "strategy=lora +strategy.regularizer._target_=headstart.strategies.regularizers.L2SP",
        "but this strategy trains only adapter there",
    ),
    ("strategy=sam strategy.sam=null", "with strategy.sam=null it is fine_tune"),
    (
        "strategy=feature_extraction strategy.sam=0.05",
        "strategy.sam=0.05 needs something that is tuned in the backbone",
    ),
    ("strategy=sam trainer.accumulate_grad_batches=4", "Use trainer.accumulate_grad_batches=1"),
    ("strategy=cotuning backbone.weights=none", "but its weights are random"),
    ("strategy=delta strategy.regularizer=null", "with strategy.regularizer=null it is fine_tune"),
    ("strategy=delta strategy.regularizer.attention=0", "strategy.regularizer.attention must be greater than"),
    (
        "strategy=bss strategy.regularizer.k=16 trainer.batch_size=16",
        "singular values that a batch of features has, 16",
    ),
    ("strategy=bss strategy.regularizer.k=4096 trainer.batch_size=8192", "(the smaller of batch size, 8192"),
    ("strategy=partial strategy.last_k=null", "with strategy.last_k=null it is fine_tune"),
    ("strategy=partial strategy.last_k=null strategy.groups=['*']", "it is fine_tune"),
    ("strategy=partial strategy.last_k=0", "strategy.last_k must be greater than or equal to 1"),
    ("strategy=bias_only strategy.kinds=null", "with strategy.kinds=null it is fine_tune"),
    ("strategy=norm_only strategy.kinds=[weight,bias,norm,norm_bias]", "it is fine_tune"),
    ("data.size=32 strategy=bias_only strategy.kinds=[bias]", "have only weight, norm, norm_bias"),
    ("strategy=from_scratch strategy.pretrained=true", "with strategy.pretrained=true it is fine_tune"),
    ("strategy=gradual_unfreeze unfreeze=at_start", "with unfreeze=at_start it is fine_tune"),
    ("strategy=lp_ft unfreeze=at_start", "with unfreeze=at_start it is fine_tune"),
    ("strategy=lp_ft unfreeze.epochs=0", "unfreeze.epochs must be greater than or equal to 1"),
    ("strategy=lp_ft unfreeze.warmup_epochs=1e9", "unfreeze.warmup_epochs must be below trainer.max_epochs=10"),
    ("strategy=gradual_unfreeze unfreeze.every=10000", "Every group must thaw before training ends"),
    ("strategy=discriminative strategy.layer_decay=0", "strategy.layer_decay must be greater than or equal to 0.01"),
    ("strategy.backbone_rate=0", "strategy.backbone_rate must be greater"),
    ("strategy=lora strategy.adapter.targets=[]", "strategy.adapter.targets must name some layers"),
    ("strategy=lora strategy.adapter.r=0", "strategy.adapter.r must be greater"),
    ("strategy=lora strategy.adapter=lora", "strategy.adapter must be an instance of Adapter"),
    ("unfreeze=phases unfreeze.phases=[]", "must hold at least one phase"),
    ("unfreeze=phases unfreeze.phases=null", "unfreeze.phases must be a valid list"),
    ("unfreeze=phases unfreeze.phases=[3]", "unfreeze.phases must be a valid dictionary"),
    ("unfreeze=phases 'unfreeze.phases=[{start:0,groups:3}]'", "groups must be a list of names"),
    ("unfreeze=phases 'unfreeze.phases=[{start:0,groups:null}]'", "groups must be a list of names"),
    ("unfreeze=phases 'unfreeze.phases=[{start:0,groups:[tail],rates:3}]'", "rates must be rates by pattern"),
    ("unfreeze=phases 'unfreeze.phases=[{start:0,groups:[tail],rate:inf}]'", "rates must be above 0 (1e-6 to 1000)"),
    ("unfreeze=phases 'unfreeze.phases=[{start:-1}]'", "start must be an epoch from 0"),
    ("unfreeze=phases 'unfreeze.phases=[{begin:0}]'", "has unknown keys"),
    ("data.shifts=[grey,grey]", "data.shifts must name each once, but holds 'grey' more than once"),
    ("data.shifts=[upside_down]", "data.shifts must be"),
    ("data=synthetic_audio data.shifts=[noisy,noisy]", "data.shifts must name each once"),
    ("augmentation=mixup_cutmix augmentation.mixup_alpha=0", "augmentation.mixup_alpha must be greater"),
    ("augmentation=rand_augment augmentation.magnitude=31", "augmentation.magnitude must be less"),
    ("augmentation=light augmentation.min_scale=0", "augmentation.min_scale must be greater"),
]
WEIGHTS = [
    ("backbone.weights=/", "/ must hold one weights file, but holds over 10000 files"),
    ("backbone.weights=", "backbone.weights must not be empty"),
    ("backbone.weights=null", "backbone.weights must be a valid string"),
    ("backbone.weights=/etc/passwd", "The weights file /etc/passwd cannot be read"),
    ("backbone.weights=/dev/zero", "there is no file '/dev/zero'"),
    (f"backbone.weights={LONG}", "File name too long"),
    ("backbone.weights=package:", "takes the name of an installed package"),
    ("backbone.weights=package:../x", "takes the name of an installed package"),
    ("backbone.weights=package:nowhere", "which is not installed"),
    ("backbone.weights=package:headstart", "must hold exactly one weights file"),
    ("backbone.weights=hub backbone=timm backbone.model=resnet18 backbone.weights=hub", "cannot be had from the hub"),
    ("backbone=timm backbone.model=", "backbone.model must not be empty"),
    ("backbone=timm backbone.model=null", "backbone.model must be a valid string"),
    ("backbone=timm", "backbone.model must be given"),
]
GUESSES = [
    ("split.folds=3", "split.folds comes with split=kfold, but split=holdout is chosen: add split=kfold"),
    ("split.column=fold", "split.column comes with split=column or split=kfold"),
    ("split.fold=0,1,2", "split.fold comes with split=kfold"),
    ("data.test_fold=1", "data.test_fold is called split.fold now, and comes with split=kfold"),
    ("data.root=photos", "comes with data=audio_csv, data=audio_folder, data=image_csv or data=image_folder"),
    ("optimizer.momentum=0.9", "optimizer.momentum comes with optimizer=sgd"),
    ("task=multilabel task.class_weights=balanced", "task.class_weights comes with task=multiclass"),
    ("strategy=fine_tune strategy.adapter.r=2", "strategy.adapter comes with strategy=lora or strategy=peft, but"),
    ("task=binary", "Unknown task 'binary'. Did you mean multiclass?"),
    ("split=cross-validation", "Did you mean kfold?"),
    ("strategy=full", "Did you mean fine_tune?"),
    ("strategy=LoRA", "Did you mean lora?"),
    ("backbone=vit", "Did you mean vit_small?"),
    ("data=csv", "Did you mean audio_csv, image_csv or text_csv?"),
    ("data=photos.csv", "Where your own data lie is said by data.root=FOLDER or data.path=TABLE"),
    ("data=/tmp/photos", "Unknown data '/tmp/photos'"),
    ("strategy=[lora,fine_tune]", "train -m and write strategy=lora,fine_tune"),
    ("-m strategy=lora, fine_tune", "there must be no blank after a comma: write strategy=lora,fine_tune"),
    ("strategy = lora", "there must be no blanks around ="),
    ("strategy lora", "write strategy=lora"),
    ("--strategy=lora", "settings are written without dashes, strategy=lora"),
    ("name=my photos", "quotes must keep both together: 'name=my photos'"),
    (
        """unfreeze=phases "unfreeze.phases=[{'start':0}]" """,
        "names before a colon stand without quotes: write 'unfreeze.phases=[{start:0}]'",
    ),
    (
        """'+strategy.x={"lr":1e-3,y:["a"]}'""",
        """names before a colon stand without quotes: write '+strategy.x={lr:1e-3,y:["a"]}'""",
    ),
    ("seeds=0,1,2", "Unknown setting 'seeds'. Here it is called seed."),
    ("lr=1e-3", "Here it is called optimizer.lr"),
    ("epochs=3", "Here it is called trainer.max_epochs"),
    ("trainer.epochs=3", "Here it is called trainer.max_epochs"),
    ("batch_size=8", "Here it is called trainer.batch_size"),
    ("folds=5", "Here it is called split.folds (with split=kfold)"),
    ("+split.folds=3", "split.folds comes with split=kfold, but split=holdout is chosen: add split=kfold"),
    ("strategy=lora strategy.r=4", "Unknown setting 'strategy.r'. Here it is called strategy.adapter.r."),
    ("strategy.r=4", "Here it is called strategy.adapter.r (with strategy=lora or strategy=peft)."),
    ("merge=true", "Here it is called strategy.adapter.merge (with strategy=lora or strategy=peft)"),
    ("head.num_classes=10", "follows from the data"),
    ("data=text_csv data.text_column=a,b", "If it is a list, write 'data.text_column=[a,b]'"),
    ("trainer.monitor=accuracy", "Did you mean val/accuracy"),
    ("trainer.max_epochs=ten", "trainer.max_epochs must be a whole number, but is 'ten'"),
]
KINDS = [
    ("'data.shifts={a: 1}'", "data.shifts: a list and settings by name ({NAME: VALUE}) cannot stand for each other"),
    ("trainer.precision=[1]", "trainer.precision: Cannot convert 'list' to string"),
    ("'name={a: 1}'", "name: Cannot convert 'dict' to string"),
    ("trainer.deterministic=-1", "trainer.deterministic must be true or false, but is -1"),
    ("trainer.reuse_views=1000000", "trainer.reuse_views must be true or false"),
    ("trainer=[]", "trainer=[] must list names of configs: default, gpu, smoke"),
    ("optimizer=[]", "optimizer=[] must list names of configs"),
    ("logger.project=", "logger.project must not be empty"),
    ("data=image_folder data.root=", "data.root must not be empty"),
    ("data=image_folder data.root=/", "data.root must name a folder of class folders, but / is the system's own"),
    ("data=image_folder data.root=/proc/self", "which is the system's own"),
    (
        "data=image_folder data.root=/dev/shm",
        "data.root must name a folder of class folders, but /dev/shm is the system's own",
    ),
    ("data=image_csv data.path=x.csv data.encoding=", "data.encoding must not be empty"),
    ("backbone.weights=none backbone.weights_key=teacher", "backbone.weights=none reads none"),
    (
        "data=openmoji_names backbone=minilm backbone.model=-1",
        "backbone.model=-1 is neither in the local cache nor to be had from the hub",
    ),
    ("data=openmoji_names backbone=minilm data.max_length=2", "it must be at least 3, but is 2"),
    ("data=openmoji_names backbone=minilm backbone.max_length=2", "backbone.max_length must leave room for words"),
    ("optimizer.weight_decay=1e30", "optimizer.weight_decay must be less than or equal to 10000"),
    ("scheduler=one_cycle scheduler.start_divisor=1e30", "scheduler.start_divisor must be less"),
    ("head.l2=1e30", "head.l2 must be less than or equal to 1000000000"),
    ("trainer.patience=1000000000", "trainer.patience must be less than or equal to 100000"),
    ("trainer.max_steps=1000000000000", "trainer.max_steps must be less than or equal to 1000000000"),
    ("trainer.batch_size=1000000000000", "trainer.batch_size must be less than or equal to 1000000000"),
    ("trainer.min_delta=1e30", "trainer.min_delta must be less than or equal to 1000000000"),
]
MACHINE = [
    ("data.size=4096", "A step must fit into memory, but on a batch of 32 examples of 4096 px it takes at least"),
    ("data.size=4096 strategy=feature_extraction", "but on a batch of 64 examples of 4096 px it takes at least"),
    (
        "data=synthetic_audio backbone=spectrogram_efficientnet_lite0 backbone.weights=none backbone.size=4096",
        "A step must fit into memory, but on a batch of 32 examples",
    ),
    ("head=mlp head.hidden=65536 head.num_hidden_layers=100", "A step must fit into memory"),
    ("trainer=gpu", "trainer.accelerator must be one that is here, but gpu asks for GPUs"),
    ("trainer.accelerator=cuda", "trainer.accelerator must be one that is here"),
    ("trainer.accelerator=mps", "trainer.accelerator must be one that is here"),
    ("trainer.accelerator=tpu", "Unknown trainer.accelerator 'tpu'"),
    ("strategy=feature_extraction trainer.accelerator=gpu", "trainer.accelerator must be one that is here"),
    ("-m seed=0,1 trainer.accelerator=gpu", "trainer.accelerator must be one that is here"),
    ("trainer.devices=1000", "trainer.devices must be at most the number of devices here"),
    ("trainer.devices=0", "trainer.devices must be greater than or equal to 1"),
]
PLACES = [
    ("features.root=/etc/passwd", "features.root must be a folder that can be made or written to, but is /etc/passwd"),
    ("features.root=/etc/passwd/x", "/etc/passwd is no folder"),
    ("features.root=", "features.root must name a folder, but is ''"),
    ("hydra.run.dir=/etc/passwd", "/etc/passwd is no folder"),
    ("hydra.run.dir=/etc/passwd/x", "/etc/passwd is no folder"),
    ("hydra.run.dir=/proc/x", "cannot be written"),
    ("hydra.run.dir=", "hydra.run.dir must name a folder"),
    ("hydra.run.dir=\"'~/runs'\"", "write $HOME"),
    (f"hydra.run.dir={LONG}", "File name too long"),
    (f"hydra.run.dir=nowhere/{LONG}", "more than 255 bytes"),
    (f"hydra.run.dir={'x/' * 3000}", "File name too long"),
    ("-m seed=0,1 hydra.sweep.dir=/etc/passwd", "/etc/passwd is no folder"),
    ("-m seed=0,1 hydra.sweep.dir=/proc/x", "cannot be written"),
    ("-m seed=0,1 hydra.sweep.dir=", "hydra.sweep.dir must name a folder"),
    ("-m seed=0,1 name=..", "stands for another folder"),
]


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What every run imports is no part of the time that a case takes."""
    assert main(["plan", "data.size=32", "--json"]) == 0


def said_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said about bad input, having made sure of all that every case must keep."""
    before, began = sorted(Path().rglob("*")), time.process_time()
    assert main(words) == 2
    assert time.process_time() - began < 5
    assert sorted(Path().rglob("*")) == before
    shown, said = capsys.readouterr()
    assert shown == ""
    assert "Traceback" not in said
    assert said.count("headstart: ") == 1
    return said


BAD = [*SETTINGS, *WORDS, *COUNTED, *OPTIMIZERS, *NAMES, *WEIGHTS, *GUESSES, *KINDS, *MACHINE, *PLACES]
QUICK = [pytest.param(*case, marks=[pytest.mark.slow] * (place % 3 == 2)) for place, case in enumerate(BAD)]
"""Two of three; the third is among the slow tests, as its neighbours are of one kind."""


@pytest.mark.parametrize(("line", "expected"), QUICK)
def test_bad_settings_are_refused(
    at_home: Path, pictures: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
):
    words = shlex.split(line)
    assert expected in said_of(["train", *small(pictures, words), *words], capsys)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), per_class=8)


def small(pictures: Path, words: list[str]) -> list[str]:
    """Words for a few pictures and a tiny network, where a case is not about what is read."""
    groups = {word.lstrip("+~").partition("=")[0].partition(".")[0] for word in words if not word.startswith("-")}
    if "data" in groups or any(word.startswith("--") for word in words):
        return []
    backbone, data = tiny(pictures)[:3], tiny(pictures)[3:6]
    return data if "backbone" in groups else [*backbone, *data]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("strategy=discriminative strategy.layer_decay=1.0", "does what strategy=fine_tune does"),
        ("augmentation=light augmentation.min_scale=1 augmentation.flip=0", "does what augmentation=none does"),
        ("trainer.batch_size=100000000", "is far more than the 823 training examples: every epoch is one step"),
        ("trainer.num_workers=512", "trainer.num_workers=512 lets so many processes read data"),
        ("trainer.accumulate_grad_batches=1000", "is more than the 26 batches of an epoch: every epoch is one step"),
    ],
)
def test_numbers_at_which_a_choice_does_nothing_are_noted(
    at_home: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
):
    notes.show().shown.clear()  # each is shown once in the life of a process, and another test may have led to it
    assert main(["train", "-m", "--dry-run", "data.size=32", *line.split()]) == 0
    assert expected in capsys.readouterr().err


COMMANDS = [
    ("store prune nan", "how many gigabytes to keep"),
    ("store prune inf", "how many gigabytes to keep"),
    ("store prune 1e400", "how many gigabytes to keep"),
    ("store prune -1", "how many gigabytes to keep"),
    ("store prune ''", "how many gigabytes to keep"),
    ("store prune --all", "how many gigabytes to keep"),
    ("store prune 1 2", "takes no such words: 1 2"),
    ("store list 3", "takes no such words: 3"),
    ("store sweep", "Unknown action 'sweep'"),
    ("status", "Name a directory"),
    ("status nowhere", "nowhere is not a directory"),
    ("status /etc/passwd", "/etc/passwd is not a directory"),
    ("status .", "must hold a comparison"),
    (f"status {LONG}", "File name too long"),
    ("status --all .", "Unknown option '--all'"),
    ("report", "Name a directory"),
    ("report nowhere", "nowhere is not a directory"),
    ("report .", "holds no run"),
    (f"report {LONG}", "File name too long"),
    ("rerun", "Name a directory"),
    ("rerun nowhere", "nowhere is not a directory"),
    ("rerun .", "must hold a run that has ended"),
    ("rerun . .", "Name one run's directory, not 2"),
    (f"rerun {LONG}", "File name too long"),
    ("plan -m", "headstart plan shows the plan of one run: leave out -m"),
    ("plan -m seed=0,1", "leave out -m"),
    ("plan --cfg job", "leave out --cfg"),
    ("plan --dry-run", "Unknown option '--dry-run'"),
    ("plan seed=0,1", "train -m"),
    ("plan ~seed", "seed cannot be left out"),
    ("plan optimizer=null", "Unknown optimizer 'null'"),
    ("plan strategy=lora strategy.adapter=null", "it is fine_tune"),
    ("-sc", "Say which shell"),
    ("-sc install=tcsh", "Say which shell"),
    ("trian", "Unknown command 'trian'"),
    ("--quiet", "Unknown command '--quiet'"),
    ("\udcff", "Unknown command"),
]


@pytest.mark.parametrize(("line", "expected"), COMMANDS)
def test_bad_words_of_the_other_commands_are_refused(
    at_home: Path, capsys: pytest.CaptureFixture[str], line: str, expected: str
):
    assert expected in said_of(shlex.split(line), capsys)


CONFIGS = {
    "tab": b"seed:\t1\n\t- 2",
    "unclosed": b"trainer: {max_epochs: 3",
    "twice": b"seed: 1\nseed: 2\n",
    "tag": b"seed: !!python/object/apply:os.getcwd []\n",
    "latin1": "name: caf\u00e9\n".encode("latin-1"),
    "nul": b"name: a\x00b\n",
    "list": b"- 1\n- 2\n",
    "number": b"3\n",
    "defaults": b"defaults: 3\n",
    "defaults_of_numbers": b"defaults:\n  - 3\n",
    "defaults_of_none": b"defaults:\n  - optimizer: nothing\n",
    "itself": b"defaults:\n  - itself\n",
    "unknown": b"trainer:\n  max_epoch: 3\n",
    "wrong_type": b"trainer: 3\n",
    "null_group": b"optimizer: null\n",
    "bomb": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n".encode() for m, n in pairwise("abcdefghi")),
    "ring": b"a: &a [*a]\n",
    "deep": b"a: " + b"[" * 5000 + b"]" * 5000,
    "large": b"# " + b"x" * 2_000_000,
    "interpolation": b"seed: ${\n",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_bad_files_in_a_config_dir_are_named(at_home: Path, capsys: pytest.CaptureFixture[str], name: str):
    folder = at_home / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_bytes(CONFIGS[name].replace(b"seed", b"# @package _global_\nseed", 1))
    assert len(said_of(["train", "--config-dir=mine", f"experiment={name}"], capsys)) > 40


def damaged_runs(folder: Path) -> list[Path]:
    """Directories of a run that look completed, each damaged in another way."""
    whole = {
        "schema": 1,
        "status": "completed",
        "run_id": "0123456789ab",
        "metrics": {"test/accuracy": 0.5},
        "data": {"fingerprint": "a" * 64, "split_sha256": "b" * 64},
        "weights": {"source": "none"},
        "environment": {},
        "reading": {},
    }
    made = []
    for number, (change, predictions) in enumerate(
        [
            *(({name: None}, None) for name in ("metrics", "data", "weights", "environment", "reading")),
            ({"data": {}}, None),
            ({"schema": 9}, None),
            ({}, b""),
            ({}, b"PK\x03\x04 and no more"),
        ]
    ):
        place = folder / str(number)
        place.mkdir()
        (place / "result.json").write_text(json.dumps(whole | change))
        (place / "config.yaml").write_text("seed: 0\n")
        if predictions is not None:
            (place / "predictions.npz").write_bytes(predictions)
        made.append(place)
    return made


def test_damaged_runs_are_not_repeated_in_vain(
    at_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("headstart.run.experiment.run", lambda *_: pytest.fail("it was trained"))
    for place in damaged_runs(at_home):
        assert str(place) in said_of(["rerun", str(place), "--check"], capsys)


def test_weights_with_numbers_that_are_none_are_refused(at_home: Path, capsys: pytest.CaptureFixture[str]):
    import timm
    import torch

    state = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    state["conv_stem.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, "damaged.pth")
    words = ["backbone=timm", "backbone.model=test_efficientnet", "backbone.weights=damaged.pth", "data.size=32"]
    assert "some are not; in (1): conv_stem.weight" in said_of(["train", *words], capsys)


def test_a_finished_run_is_told_of_though_its_place_cannot_be_written(
    at_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    told: dict = {"choices": {}, "settings": {}, "overrides": [], "cost": {}}
    done = Result(run_id="x", status="completed", metrics={"test/accuracy": 1.0}, **told)
    monkeypatch.setattr("headstart.record.result.checked", lambda *_: done)
    assert main(["train", "data.size=32", "hydra.run.dir=/proc/x"]) == 0
    assert "Already completed" in capsys.readouterr().out
