"""YAML as people read it: no key twice, and `1e-3` is a number."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with two rules of YAML 1.2 that its YAML 1.1 lacks.

    A mapping that repeats a key is an error (there the last one wins in silence), and a number may
    have an exponent without a point (there `1e-3` is a string).

    Reference: https://yaml.org/spec/1.2.2/, sections 3.2.1.3 and 10.2.1.4.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuses duplicates, then constructs the mapping as the base class does."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if repr(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(repr(key))
        return super().construct_mapping(node, deep)


# Matched after the built-in kinds, so that integers stay integers.
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
