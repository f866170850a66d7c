"""What dependencies keep to themselves is used where nothing public will do alone, and each such place says why."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "headstart"
KNOWN = {
    # What torchvision asks torch's compiler for, asked for once it is used and not as torchvision is imported
    "compat.py": {"torch._dynamo.utils"},
    # A config is checked between being composed and being acted on: hydra.main does both at once, in these classes
    "cli/hydra_app.py": {"hydra._internal.callbacks", "hydra._internal.hydra", "hydra._internal.utils", "_actions"},
    # Where each value came from (our files, a stranger's, the command line) is known only while they are put together
    "config/composer.py": {
        "hydra._internal.config_loader_impl",
        "hydra._internal.config_repository",
        "hydra._internal.utils",
        "_apply_overrides_to_config",
        "_find_object_source",
        "_normalize_file_name",
    },
    "config/user_files.py": {
        "hydra._internal.core_plugins",
        "hydra._internal.sources_registry",
        "_normalize_file_name",
    },
    # A value of a config that has not been resolved, and of an override with several: both are checked, not used
    "config/explanation.py": {"_get_node"},
    "config/guard.py": {"_convert_value"},
    # torch leaves a hook there that keeps what was parametrized from being pickled
    "run/plain_module.py": {"_load_state_dict_pre_hooks"},
    # A part's class, which only a config names so; and what a job failed of, which hydra otherwise raises and logs
    "sweep/sweeper.py": {"_target_", "_return_value"},
    "search/search.py": {"_target_", "_return_value"},
    # The same, and how the launcher of Ray starts it, so that two launches at once find it started
    "sweep/resources.py": {"_target_", "hydra_plugins.hydra_ray_launcher._launcher_util"},
    # A process whose first one is gone must end, whatever its threads are waiting for
    "run/rank.py": {"_exit"},
    "system/process.py": {"_exit"},
    # wandb waits for its core without end; a core that has stopped is killed
    "record/wandb.py": {"_connection", "_proc", "_process"},
    # OmegaConf's rules for numbers and texts in YAML, for a reader and a writer five times as fast
    "config/recorded.py": {"omegaconf._utils"},
    # Names that pickles of Python 2 used, for checkpoints as old
    "backbones/checkpoint_file.py": {"_compat_pickle"},
    # from_config of the Auto classes knows no arguments of a model's own, such as a BERT without its pooler
    "backbones/huggingface_files.py": {"_from_config"},
    # Which of those frames hold sound: what the classifiers of transformers ask themselves
    "export/pooled_classifier.py": {"_get_feature_vector_attention_mask"},
    # How many frames a convolutional front end makes of so many samples: every such model has it, under this name
    "backbones/huggingface_audio_model.py": {"_get_feat_extract_output_lengths"},
    # A module's own tensors by slot, so that one can be watched in use
    "backbones/uses.py": {"_buffers"},
    # timm hands its conversion of checkpoints to its own loader alone
    "backbones/timm_create.py": {"_builder"},
    # Batch norms of every dimension
    "training/thaw.py": {"_NormBase"},
    # What torch's optimizers call with fused=True, for one head of many at its own rate
    "training/vector_optim.py": {"_fused_adamw_", "_fused_sgd_"},
    # How often torch's compiler may compile the same code anew: its documentation names the setting so
    "training/compiled.py": {"_dynamo"},
    # Tensors out of what holds them and back, as torch's own graphs and compiler do it
    "training/epoch_graph.py": {"_pytree"},
    # Tensors in whatever a block gives
    "training/sharded.py": {"torch.utils._pytree"},
    # torch's counter of operations passes over fused attention on a CPU
    "training/work.py": {
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    },
}


def own(tree: ast.AST) -> set[str]:
    """Private names that a file gives itself: its functions, classes, attributes and arguments."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    return names


OURS = set().union(*(own(ast.parse(path.read_text(encoding="utf8"))) for path in SOURCE.rglob("*.py")))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def borrowed(path: Path) -> Iterator[str]:
    """Private modules that a file imports from, private names that it imports, and those that it asks others for."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("headstart"):
            if any(map(is_private, node.module.split("."))):
                yield node.module
            else:
                yield from (name.name for name in node.names if is_private(name.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in OURS:
            yield node.attr


def test_private_names_of_dependencies_are_used_in_known_places_alone():
    found = {str(path.relative_to(SOURCE)): set(borrowed(path)) for path in SOURCE.rglob("*.py")}
    assert {place: names for place, names in found.items() if names} == KNOWN
