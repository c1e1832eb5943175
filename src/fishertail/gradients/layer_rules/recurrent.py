"""LSTM, GRU and RNN as the linear layers that they consist of, step by step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from fishertail.gradients.layer_rules.decomposition import Decomposition, decomposes

Weights = Sequence[torch.Tensor | None]  # input to hidden, hidden to hidden, their biases, and of the projection
State = tuple[torch.Tensor, torch.Tensor | None]  # hidden, and the cell of an LSTM
Step = Callable[[torch.Tensor, torch.Tensor, Any, Any], tuple[torch.Tensor, Any]]
ACTIVATIONS = {
    torch.rnn_tanh: torch.tanh,
    torch.rnn_relu: torch.relu,
    torch.rnn_tanh_cell: torch.tanh,
    torch.rnn_relu_cell: torch.relu,
}


class Recurrent(Decomposition):
    """A recurrent layer of a padded batch, without dropout between its layers."""

    def applies(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        padded = not kwargs and len(args) == 9 and isinstance(args[3], bool) and args[0].dim() == 3
        return padded and not (args[5] and args[6])


@decomposes(torch.lstm)
class LSTM(Recurrent):
    """An LSTM, whose output may be projected."""

    def run(
        self,
        inputs: torch.Tensor,
        start: Sequence[torch.Tensor],
        weights: Weights,
        biases: bool,
        layers: int,
        dropout: float,
        training: bool,
        bidirectional: bool,
        steps_second: bool,
    ) -> tuple[torch.Tensor, ...]:
        projected = len(weights) % (5 if biases else 3) == 0 and start[0].shape[2] != start[1].shape[2]

        def step(gates: torch.Tensor, hidden: torch.Tensor, cell: Any, own: Any) -> tuple[torch.Tensor, Any]:
            cell, output = _lstm_gates(gates + F.linear(hidden, own[1], own[3]), cell)
            return (F.linear(output, own[4]) if projected else output), cell

        return _unrolled(step, inputs, start, weights, biases, layers, bidirectional, steps_second, projected)


@decomposes(torch.gru)
class GRU(Recurrent):
    """A gated recurrent unit."""

    def run(
        self,
        inputs: torch.Tensor,
        start: torch.Tensor,
        weights: Weights,
        biases: bool,
        layers: int,
        dropout: float,
        training: bool,
        bidirectional: bool,
        steps_second: bool,
    ) -> tuple[torch.Tensor, ...]:
        def step(gates: torch.Tensor, hidden: torch.Tensor, cell: Any, own: Any) -> tuple[torch.Tensor, Any]:
            return _gru_gates(gates, F.linear(hidden, own[1], own[3]), hidden), cell

        return _unrolled(step, inputs, (start,), weights, biases, layers, bidirectional, steps_second)[:2]


@decomposes(torch.rnn_tanh, torch.rnn_relu)
class RNN(Recurrent):
    """h' = activation(W x + U h)."""

    def run(
        self,
        inputs: torch.Tensor,
        start: torch.Tensor,
        weights: Weights,
        biases: bool,
        layers: int,
        dropout: float,
        training: bool,
        bidirectional: bool,
        steps_second: bool,
    ) -> tuple[torch.Tensor, ...]:
        activation = ACTIVATIONS[self.function]

        def step(gates: torch.Tensor, hidden: torch.Tensor, cell: Any, own: Any) -> tuple[torch.Tensor, Any]:
            return activation(gates + F.linear(hidden, own[1], own[3])), cell

        return _unrolled(step, inputs, (start,), weights, biases, layers, bidirectional, steps_second)[:2]


@decomposes(torch.lstm_cell)
class LSTMCell(Decomposition):
    """One step of an LSTM."""

    def run(
        self,
        inputs: torch.Tensor,
        start: Sequence[torch.Tensor],
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor | None = None,
        b_hh: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cell, output = _lstm_gates(F.linear(inputs, w_ih, b_ih) + F.linear(start[0], w_hh, b_hh), start[1])
        return output, cell


@decomposes(torch.gru_cell)
class GRUCell(Decomposition):
    """One step of a gated recurrent unit."""

    def run(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor | None = None,
        b_hh: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return _gru_gates(F.linear(inputs, w_ih, b_ih), F.linear(hidden, w_hh, b_hh), hidden)


@decomposes(torch.rnn_tanh_cell, torch.rnn_relu_cell)
class RNNCell(Decomposition):
    """One step of an RNN."""

    def run(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor | None = None,
        b_hh: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return ACTIVATIONS[self.function](F.linear(inputs, w_ih, b_ih) + F.linear(hidden, w_hh, b_hh))


def _lstm_gates(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    let_in, forget, candidate, let_out = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + let_in.sigmoid() * candidate.tanh()
    return cell, let_out.sigmoid() * cell.tanh()


def _gru_gates(of_input: torch.Tensor, of_hidden: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    (reset, update, new), (reset_h, update_h, new_h) = of_input.chunk(3, dim=1), of_hidden.chunk(3, dim=1)
    update = (update + update_h).sigmoid()
    new = (new + (reset + reset_h).sigmoid() * new_h).tanh()
    return new + update * (hidden - new)


def _unrolled(
    step: Step,
    inputs: torch.Tensor,
    start: Sequence[torch.Tensor],
    weights: Weights,
    biases: bool,
    layers: int,
    bidirectional: bool,
    steps_second: bool,
    projected: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Run all layers and directions, step by step.

    Args:
        step: from the gates' inputs, hidden state, cell and weights of a layer to its next hidden state and cell.
        start: the first hidden states (layers * directions, n, H), and cells of an LSTM.
        steps_second: inputs are (n, steps, ...) and not (steps, n, ...).

    Returns:
        the outputs of the last layer, and the final states.
    """
    x = inputs.transpose(0, 1) if steps_second else inputs
    directions, each = 1 + bidirectional, 2 + 2 * biases + projected
    finals: list[State] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = list(weights[number * each : (number + 1) * each])
            own = own[:2] + (own[2:4] if biases else [None, None]) + own[2 + 2 * biases :]
            assert own[0] is not None
            gates = F.linear(x, own[0], own[2])
            hidden, cell = start[0][number], start[1][number] if len(start) > 1 else None
            steps = []
            for part in reversed(gates.unbind(0)) if direction else gates.unbind(0):
                hidden, cell = step(part, hidden, cell, own)
                steps.append(hidden)
            outputs.append(torch.stack(steps[::-1] if direction else steps))
            finals.append((hidden, cell))
        x = torch.cat(outputs, dim=2)
    states = [
        torch.stack([part for part in parts if part is not None])
        for parts in zip(*finals, strict=True)
        if parts[0] is not None
    ]
    return x.transpose(0, 1) if steps_second else x, *states
