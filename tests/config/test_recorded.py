"""The configs of many runs, which differ in little, are read one after the other."""

import random
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from headstart.config import recorded

LEAVES = [0, 0.0, 1, 1.0, True, False, None, "1", "a", "", r"\${b}", [], [1], [1.0], [1, 2], ["a", "b"], {}, {"k": 1}]


def nodes(node: Any) -> Any:
    """A node as plain values and their types, whatever made it."""
    if isinstance(node, DictConfig):
        return {key: nodes(node._get_node(key)) for key in node}
    if isinstance(node, ListConfig):
        return [nodes(node._get_node(place)) for place in range(len(node))]
    return type(node).__name__, type(node._value()).__name__, node._value()


def test_a_config_is_the_same_whatever_was_read_before_it():
    dice = random.Random(0)

    def values(depth: int) -> dict[str, Any]:
        keys = ["a", "b", "c"][: dice.choice([2, 3, 3])]
        dice.random() < 0.2 and keys.reverse()
        return {key: values(depth - 1) if depth and dice.random() < 0.5 else dice.choice(LEAVES) for key in keys}

    base = values(2)
    for _ in range(300):
        one = values(2) if dice.random() < 0.3 else {**base, dice.choice("abc"): dice.choice(LEAVES)}
        found, expected = recorded._created(one), OmegaConf.create(one)
        assert nodes(found) == nodes(expected)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)
        found["a"] = "changed by its owner"
        if dice.random() < 0.3:
            base = one
