"""From a module to a graph of layers with rules, by symbolic tracing (torch.fx).

torch.fx and not torch.export: a rule speaks of a layer, and fx keeps layers whole, while export
takes them apart into operators. Whatever fx cannot follow (control flow that depends on data) and
whatever is not a layer with a rule, a sum, a concatenation or a known call is refused by name. The
module is traced in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.nn.utils import parametrize

from relaxcert.errors import RelaxcertError, UnsupportedLayer
from relaxcert.lipschitz.graph import Graph
from relaxcert.lipschitz.graph_builder import GraphBuilder
from relaxcert.lipschitz.registry import has_rule, refuse_if_patched
from relaxcert.lipschitz.structure import in_eval_mode, walk

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class _Root(nn.Module):
    """Gives the backbone a name, so that a backbone that is one layer is a leaf too."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, inputs: Any) -> Any:
        return self.backbone(inputs)


class _Tracer(fx.Tracer):
    """Keeps layers that have a rule, and all of torch's own layers, whole; names every use."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.failed: _Call | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, _Root) or type(m) in _CONTAINERS:
            return False
        if has_rule(m) or parametrize.is_parametrized(m):
            return True
        return type(m).__module__.startswith("torch.nn")

    def path_of_module(self, mod: nn.Module) -> str:
        """The path of the call that is under way: fx itself knows one path a module only."""
        inside = self.calls and self.calls[-1].module is mod
        return self.calls[-1].path if inside else super().path_of_module(mod)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self.calls.append(_Call(m, self._path_of_call(m)))
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.calls[-1]
            raise
        finally:
            self.calls.pop()

    def _path_of_call(self, called: nn.Module) -> str:
        """The n-th call of a shared module within one parent is that of its n-th name there."""
        if not self.calls:
            return super().path_of_module(called)
        parent = self.calls[-1]
        children: dict[str, nn.Module | None] = vars(parent.module)["_modules"]
        names = [name for name, child in children.items() if child is called]
        if not names:
            return super().path_of_module(called)
        count = parent.uses[called] = parent.uses.get(called, 0) + 1
        return f"{parent.path}.{names[min(count, len(names)) - 1]}"


@dataclass(eq=False, slots=True)
class _Call:
    """A module whose ``forward`` is being traced, its path, and how often it called others."""

    module: nn.Module
    path: str
    uses: dict[nn.Module, int] = field(default_factory=dict[nn.Module, int])


def trace(backbone: nn.Module) -> Graph:
    """Trace a backbone, (batch, ...) -> (batch, classes).

    Raises:
        UnsupportedLayer: a layer, call or control flow that is not understood; names the place and
            what to do.
    """
    for path, module in walk(backbone):
        refuse_if_patched(module, path)
    tracer = _Tracer()
    try:
        with in_eval_mode(backbone):
            traced = tracer.trace(_Root(backbone))
    except RelaxcertError:
        raise
    # A forward method is anybody's code: whatever it raises, it could not be traced.
    except Exception as error:
        place = "the backbone"
        if tracer.failed is not None:
            place = f"{tracer.failed.path} ({type(tracer.failed.module).__name__})"
        raise UnsupportedLayer(
            f"the forward method of {place} cannot be traced ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}): control flow that "
            "depends on data has no Lipschitz bound; write the backbone with layers, sums and "
            "concatenations only."
        ) from error
    graph = GraphBuilder(backbone).build(traced)
    if len(graph.nodes) < 2:
        raise UnsupportedLayer("the backbone has no layers: give it at least one Linear layer.")
    return graph
