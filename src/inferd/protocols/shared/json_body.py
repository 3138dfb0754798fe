"""Hot: read a JSON body of rows or columns into a request, for the protocols that share these two forms.

Row form ``{"instances": [...]}``: one item per row, an array or, by input name, an object. A model that is not
batchable takes exactly one instance, its whole input. Column form ``{"inputs": {...}}``: whole tensors by input name,
or bare for a model of one input. Both may carry ``outputs`` (names wanted) and ``parameters`` (an object for the
model). Where a protocol has it, a bare array is the row form without its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest
from inferd.core.messages import NO_PARAMETERS, InferenceRequest
from inferd.core.tensors import Signature
from inferd.protocols.shared.json_fast import FastRead, compile_fast
from inferd.protocols.shared.json_inputs import JsonInputs, read_body
from inferd.protocols.shared.json_members import did_you_mean, read_parameters, refuse
from inferd.protocols.shared.json_reply import Form
from inferd.protocols.shared.json_tensors import kind_of, show

MEMBERS = ("instances", "inputs", "outputs", "parameters")
_COLUMNS: Form = "columns"


class JsonBody:
    """The JSON bodies of one model signature, compiled when the version becomes ready. Safe to share between threads.

    ``members`` are those that the protocol knows; ``bare`` says whether an array may stand for its instances.
    """

    def __init__(
        self,
        signature: Signature,
        *,
        batchable: bool,
        nan: NanPolicy,
        select_outputs: tuple[str, ...] = (),
        members: Sequence[str] = MEMBERS,
        bare: bool = False,
    ) -> None:
        self.inputs = JsonInputs(signature, batchable=batchable, nan=nan)
        self._signature = signature
        self._nan: NanPolicy = nan
        self._wanted = select_outputs
        self._members = tuple(members)
        self._forms = tuple(name for name in ("instances", "inputs") if name in members)
        self._bare = bare
        self._row_form: Form = "rows" if batchable else "one"
        self._bare_form: Form = "bare" if batchable else "one"
        single = signature.inputs[0] if batchable and len(signature.inputs) == 1 else None
        self.fast = (compile_fast(single, "instances") if single else None) or _never
        readers: list[tuple[FastRead, Form]] = [(self.fast, self._row_form)]
        if single and bare and (fast_bare := compile_fast(single)):
            readers.append((fast_bare, self._bare_form))
        if single and "inputs" in members and (fast_columns := compile_fast(single, "inputs", single.name)):
            readers.append((fast_columns, _COLUMNS))
        self._readers = tuple(readers)
        self.fast_name = single.name if single else ""

    def read(self, body: bytes) -> tuple[InferenceRequest, Form]:
        """The request, and the form of its answer, by a fast reader or ``orjson``; what does not fit or could be read
        in two ways, the exact reader decides. Raises ``MalformedRequest`` and ``InvalidRequest``."""
        for read, form in self._readers:
            array = read(body)
            if array is not None:
                return InferenceRequest({self.fast_name: array}, wanted=self._wanted), form
        return read_body(body, self._nan, self.build)

    def build(self, tree: Any, exact: bool) -> tuple[InferenceRequest, Form]:
        """The request in a body that was read already; see ``read_body`` for ``exact`` and what it raises."""
        if self._bare and type(tree) is list:
            return InferenceRequest(self.inputs.read_rows(tree, exact), wanted=self._wanted), self._bare_form
        forms = " or ".join(map(repr, self._forms))
        if type(tree) is not dict:
            refuse(f"the body is {kind_of(tree)} where an object with {forms} is expected", "", tree)
        for member in tree:
            if member not in self._members:
                known = f"{did_you_mean(member, self._members)}; known: {', '.join(map(repr, self._members))}"
                refuse(f"unknown member {show(member)}{known}", member, tree[member])
        given = [name for name in self._forms if name in tree]
        if len(given) != 1:
            self._refuse_forms(tree)
        wanted = self._read_wanted(tree["outputs"]) if "outputs" in tree else self._wanted
        parameters = read_parameters(tree["parameters"]) if "parameters" in tree else NO_PARAMETERS
        form: Form = self._row_form if "instances" in tree else "columns"
        inputs = (
            self.inputs.read_rows(tree["instances"], exact)
            if form != "columns"
            else self.inputs.read_columns(tree["inputs"], exact)
        )
        return InferenceRequest(inputs, wanted=wanted, parameters=parameters), form

    def _refuse_forms(self, tree: dict[str, Any]) -> None:
        words = {"instances": "'instances' (rows)", "inputs": "'inputs' (whole tensors)"}
        either = "either " if len(self._forms) > 1 else ""
        raise InvalidRequest(
            f"the body must have {either}{' or '.join(words[name] for name in self._forms)}",
            got=", ".join(tree) or "an empty object",
            expected=", or ".join(self._forms),
        )

    def _read_wanted(self, names: Any) -> tuple[str, ...]:
        known = self._signature.output_names
        if type(names) is not list or not names or len(set(map(show, names))) != len(names):
            refuse("outputs must be an array of different output names", "outputs", names)
        for position, name in enumerate(names):
            if name not in known:
                refuse(
                    f"unknown output {show(name)}{did_you_mean(name, known)}; "
                    f"the model has {', '.join(map(repr, known))}",
                    f"outputs[{position}]",
                    name,
                )
        return tuple(names)


def _never(body: bytes) -> np.ndarray | None:
    """The fast reader of a model that has none."""
