"""What `--help` prints. Nothing is imported for it; `headstart train --help` is Hydra's, with every config group."""

PROGRAM = """\
headstart compares ways of transfer learning on your data: extract features or fine-tune, and how.

usage: headstart COMMAND [ARGUMENTS]

  train  [KEY=VALUE ...] [-m]      one run, or with -m a comparison
  plan   [KEY=VALUE ...] [--json]  what would train when, at which rate; trains nothing
  advise [KEY=VALUE ...] [--json]  what to try first on this data, measured in minutes
  report DIR... [--open]           tables, figures and a page of evidence
  status DIR                       what of a comparison is done, failed, running, missing
  rerun  RUN_DIR [--check]         the same run again, and whether it gave the same numbers
  export DIR --to FORMAT           a run's model, or a comparison's winner, for other libraries
  predict RUN_DIR INPUT...         labels and scores for new files, texts or tables
  store  [list | prune [GB]]       activations kept from frozen backbones

examples
  headstart train strategy=feature_extraction
  headstart train -m strategy=from_scratch,feature_extraction,fine_tune seed=0,1,2 name=first
  headstart train -m strategy=lp_ft,fine_tune data=image_folder data.root=photos seed=0,1,2
  headstart train -m ... --dry-run         what it would do, and what is done already
  headstart train ... --retry-failed       what failed is tried again
  headstart train -m ... --fresh-seeds     what was selected on val is run anew on seeds that selected nothing
  headstart train --help                   every config group and its choices
  headstart plan strategy=gradual_unfreeze backbone=resnet50

shell completion:  eval "$(headstart -sc install=bash)"     (or zsh, fish)
"""
COMMANDS = {
    "plan": """\
usage: headstart plan [KEY=VALUE ...] [--json]

What would train when and at which rate, with trained parameters and work: depth groups down, epochs across, the rate
as shade. Takes the settings of `headstart train`; reads no weights and trains nothing. A plan that cannot be carried
out is refused, with the model's groups. --json prints all of it for programs.

examples
  headstart plan strategy=gradual_unfreeze backbone=resnet50
  headstart plan strategy=partial strategy.last_k=2 backbone=vit_small
  headstart plan strategy=discriminative strategy.layer_decay=0.7 --json
""",
    "advise": """\
usage: headstart advise [KEY=VALUE ...] [--minutes N] [--json] [--out DIR]

What to try first on this data. Looks at the data (imbalance, copies, labels that the nearest neighbours speak
against, what is cut off), at each backbone's features on at most 2,000 examples of train and val (nearest neighbours,
an exact linear probe in five folds, a learning curve), takes a few real steps of each strategy, and says which backbone
and strategy to begin with, how sure that is, what it costs here, and the command to run next. Test labels are not read.

Takes the settings of `headstart train`. backbone=a,b,c names backbones; else all that read such data and have their
weights here. strategy=a,b names those to compare with the probe (fine_tune,lora,lp_ft).

  --minutes N   about how long it may take (5)
  --json        all of it for programs, on the screen
  --out DIR     where advice.html and advice.json go, else outputs/NAME/advice

examples
  headstart advise data=image_folder data.root=photos
  headstart advise backbone=minilm data=text_csv data.path=reviews.csv data.text_column=text data.label_column=stars
""",
    "report": """\
usage: headstart report DIR... [--out=DIR] [--margin=POINTS] [--open]

The evidence of a comparison: report.html (one file, works offline), tables (csv, md, tex), figures (svg, pdf) and
summary.json, in DIR/report. Every comparison ends with it. Several are reported on together, in report/ beside the
first, or where --out says. --open shows the page in a browser. Contenders that are shown to
differ by less than --margin are practically equal: points of a share (by default 1), or the
measure's own unit.

examples
  headstart report outputs/demo --open
  headstart report outputs/flowers outputs/birds       several data sets, compared across
""",
    "status": """\
usage: headstart status DIR

The grid of a comparison: which runs are done, failed, running (how far, what remains), interrupted or missing, why
those that failed did, and the command that goes on.

example
  headstart status outputs/demo
""",
    "rerun": """\
usage: headstart rerun RUN_DIR [--check]

Does a run again from its directory alone, in RUN_DIR/reruns/1 (2, …), and compares: "identical", or each difference
and what changed in the environment. --check keeps nothing of the repetition. Exit status 0 only if identical.

example
  headstart rerun outputs/demo/85dbb226608b --check
""",
    "export": """\
usage: headstart export DIR --to FORMAT [--out DIR] [--force] [--push NAME] [--soup uniform|greedy]

Writes the model of a run, or of a comparison's winner by val, so that others load it without this program, with a card
(README.md). What was written is loaded as they would, and its outputs on test examples are held against the run's.

  safetensors    plain weights, and ten lines that load them with torch and timm or transformers
  timm           for timm.create_model("local-dir:PATH", pretrained=True), and transformers' image classification
  transformers   for AutoModelForSequenceClassification, AutoModelForAudioClassification and pipelines
  onnx           for onnxruntime (pip install 'headstart[onnx]')
  adapter        the adapter of a run of lora or peft; the other formats have it folded in

It goes to DIR/exports/FORMAT, or where --out says; --force replaces an export that lies there. --push uploads it to
the repository NAME (owner/name) on the hub, made private if it is not there.

--soup averages the weights of a comparison's runs that began from the same pretrained weights and share their split:
of all (uniform), or of those that help on val (greedy). The test sets are scored once, for the mean.

examples
  headstart export outputs/demo --to timm                     the winner of a comparison
  headstart export outputs/demo/85dbb226608b --to timm --out shapes
""",
    "predict": """\
usage: headstart predict RUN_DIR INPUT... [--out FILE] [--top K] [--calibrated] [--interval SHARE] [--ensemble]
                         [--root DIR] [--device NAME] [--batch-size N] [--force]

What a finished run says of new examples. INPUT is a file, a folder (with all below it), a pattern, a table with the
columns of the training data, or - for texts on standard input, one a line. RUN_DIR may be a comparison: the contender
that it selects on val is taken, and of it the best run, or with --ensemble the average of all its runs. Training data
are not needed.

  --out FILE        write answers as .csv, .jsonl or .parquet; --force writes over one that is there
  --top K           the K likeliest classes, not the scores of all
  --calibrated      probabilities at the temperature that was best on val
  --interval SHARE  sets of classes, or intervals of numbers, that hold SHARE of the truth (0.9); calibrated
  --root DIR        where relative paths in a table start; else the table's own folder
  --device NAME     auto (the default), cpu, cuda or mps

Exit status 1 if some input could not be read: the output says which, and why.

examples
  headstart predict outputs/demo photos/ --out answers.csv
  headstart predict outputs/runs/85dbb226608b 'new/**/*.jpg' --top 3
  echo "a lovely film" | headstart predict outputs/reviews -
""",
    "store": """\
usage: headstart store [list | prune [GB]]

Activations of frozen backbones, kept so that no run computes them again. `list` says what is there; `prune` removes
the least recently used until GB gigabytes are left (20 if not given, 0 for none at all). features.budget_gb limits
the store while runs fill it. It lies in ~/.cache/headstart, or where HEADSTART_CACHE says.

examples
  headstart store
  headstart store prune 5
""",
}
"""Of every command but `train`."""
