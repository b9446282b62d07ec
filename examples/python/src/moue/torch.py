# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""A mixture as a module of PyTorch, on the CPU: parameters are shared with optimisers, layers and the balancing loss are
tensors with gradients.

    mixture = moue.torch.Mixture(moue.compile("..."), seed=7)
    trip = mixture.start(tokens)
    for layer in range(mixture.layers):
        x = x + trip(layer, x)          # x [.., width], `tokens` rows in all
    (loss(x) + trip.balance()).backward()
"""

from __future__ import annotations

from typing import Any

import torch

from ._error import Error


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """[.., width] as [rows, width] with dense rows: a view where there is one."""
    tensor = tensor.detach().reshape(-1, tensor.shape[-1])
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] <= 1 else tensor.contiguous()


class _State:
    """What the graph of autograd holds of a trip. Not the link, which holds the graph: such a circle is never freed."""

    def __init__(self, mixture: Mixture, tokens: int, valid: torch.Tensor | None, step: int, seed: int):
        self.mixture, self.tokens = mixture, tokens
        self.values = list(mixture.parameters())
        self.versions = [p._version for p in self.values]
        self.training = torch.is_grad_enabled()
        self.run = mixture.model.start([p.detach() for p in self.values], tokens, self.training)
        self.run.begin(tokens, None if valid is None else valid.detach(), step=step, seed=seed)
        self.ran = 0  # layers forward
        self.due: int | None = None  # on the way back, one past the layer that is due
        self.task = -1  # the call of autograd that the way back belongs to
        self.sums: list[torch.Tensor | None] = []

    def forward(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        y = torch.empty(x.shape, dtype=x.dtype)
        self.run.forward(layer, _rows(x), y.view(-1, x.shape[-1]))
        self.ran = layer + 1
        return y

    def turn(self) -> None:
        """Begins a way back, also a second one over what forward saved."""
        if torch.is_grad_enabled():
            raise Error("moue: torch: create_graph was asked for; gradients have no gradients here, leave it out")
        if any(p._version != before for p, before in zip(self.values, self.versions)):
            raise Error("moue: torch: a weight was changed in place since forward; step the optimiser after backward")
        if self.due is not None:
            self.run.rewind()
        self.due, self.task = self.ran, torch._C._current_graph_task_id()
        self.sums = [torch.empty_like(p, requires_grad=False) if p.requires_grad else None for p in self.values]
        self.run.lend_gradients(self.sums)

    def backward(self, layer: int, dy: torch.Tensor | None) -> torch.Tensor:
        if self.due is None or layer >= self.due or self.task != torch._C._current_graph_task_id():
            self.turn()
        zeros = torch.zeros(self.tokens, self.mixture.width, dtype=self.values[0].dtype)
        while self.due - 1 > layer:  # the loss does not read what came later
            self.due -= 1
            self.run.backward(self.due, zeros, torch.empty_like(zeros))
        dx = torch.empty_like(zeros)
        self.run.backward(layer, zeros if dy is None else _rows(dy), dx)
        self.due = layer
        return dx

    def gradients(self) -> list[torch.Tensor | None]:
        """What has been added up; None for experts that no token reached, which optimisers then leave as they are."""
        while self.due:
            self.backward(self.due - 1, None)
        return [g if g is not None and self.run.live(i) else None for i, g in enumerate(self.sums)]


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: _State, *values: torch.Tensor) -> torch.Tensor:
        ctx.state = state
        return values[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Any) -> Any:
        return None, *ctx.state.gradients()


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: _State, layer: int, x: torch.Tensor, link: torch.Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.state, ctx.layer, ctx.shape = state, layer, x.shape
        return state.forward(layer, x), link.new_empty(0)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor | None, _: Any) -> Any:
        dx = ctx.state.backward(ctx.layer, dy)
        return None, None, dx.view(ctx.shape), dx.new_empty(0)


class _Balance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: _State, link: torch.Tensor) -> torch.Tensor:
        ctx.state = state
        return link.new_tensor(state.run.balance())

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> Any:
        ctx.state.turn()
        ctx.state.run.arm(float(scale))
        return None, scale.new_empty(0)


class Trip:
    """One batch's way through the layers, in order. Calling it runs a layer."""

    def __init__(self, mixture: Mixture, tokens: int, valid: torch.Tensor | None, step: int = 0, seed: int = 0):
        self._state = _State(mixture, tokens, valid, step, seed)
        # Autograd goes back along the link: the balancing loss, the layers in reverse, the weights.
        self._link = _Weights.apply(self._state, *self._state.values)

    def __call__(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """y [.., width] of layer number `layer` from x [.., width]."""
        y, self._link = _Layer.apply(self._state, layer, x, self._link)
        return y

    def balance(self) -> torch.Tensor:
        """The balancing loss of the layers that have run, a scalar. Take it after the last layer, once."""
        return _Balance.apply(self._state, self._link)

    def assignments(self, layer: int) -> tuple[Any, Any, Any]:
        """Where a layer sent its tokens: NumPy views (offsets [tokens + 1], experts, gates)."""
        return self._state.run.assignments(layer)


class Mixture(torch.nn.Module):
    """`model`, as `moue.compile` returns it, with parameters of its own: named as in the model, with _ in place of dots."""

    def __init__(self, model: Any, seed: int = 0):
        super().__init__()
        self.model, self.width, self.layers = model, model.width, model.layers
        for info, (name, values) in zip(model.tensors, model.initialize(seed).items()):
            self.register_parameter(
                name.replace(".", "_"), torch.nn.Parameter(torch.from_numpy(values), requires_grad=info.trained)
            )

    def start(self, tokens: int, valid: torch.Tensor | None = None, step: int = 0, seed: int = 0) -> Trip:
        """A trip for `tokens` rows; `valid` [tokens], bool, is false for padding; noise goes by `step` and `seed`. Without gradients (torch.no_grad) it keeps
        no activations."""
        return Trip(self, tokens, valid, step, seed)
