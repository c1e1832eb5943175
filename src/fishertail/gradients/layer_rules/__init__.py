"""How each kind of layer gives its per-sample gradients: one file for each kind, and all of them are found here.

A file in this folder registers its rules when it is imported: `treats` registers the rule of a function of torch,
`decomposes` the simpler functions that one consists of. `register_layer_rule` is for the modules of users.
"""

import importlib
import pkgutil

from fishertail.gradients.layer_rules.module_rules import register_layer_rule

__all__ = ["register_layer_rule"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
