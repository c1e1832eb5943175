"""LSTM, GRU and RNN as the linear layers that they consist of, so that their weights have rows by rule.

torch computes a recurrent layer in one function, from which no derivative by its inner sums can be had.
"""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

Weights = Sequence[torch.Tensor | None]  # input to hidden, hidden to hidden, and their biases


def lstm(
    inputs: torch.Tensor,
    start: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    bidirectional: bool,
    steps_second: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """torch.lstm of a padded batch."""
    projected = len(weights) % (5 if biases else 3) == 0 and start[0].shape[2] != start[1].shape[2]

    def step(gates, hidden, cell, of_one):
        cell, output = _lstm_gates(gates + F.linear(hidden, of_one[1], of_one[3]), cell)
        return (F.linear(output, of_one[4]) if projected else output), cell

    return _layers(step, inputs, start, weights, biases, layers, bidirectional, steps_second, projected)


def gru(inputs, start, weights, biases, layers, dropout, training, bidirectional, steps_second):
    """torch.gru of a padded batch."""

    def step(gates, hidden, cell, of_one):
        return _gru_gates(gates, F.linear(hidden, of_one[1], of_one[3]), hidden), cell

    return _layers(step, inputs, (start,), weights, biases, layers, bidirectional, steps_second)[:2]


def _rnn(activation: Callable) -> Callable:
    def rnn(inputs, start, weights, biases, layers, dropout, training, bidirectional, steps_second):
        def step(gates, hidden, cell, of_one):
            return activation(gates + F.linear(hidden, of_one[1], of_one[3])), cell

        return _layers(step, inputs, (start,), weights, biases, layers, bidirectional, steps_second)[:2]

    return rnn


def _rnn_cell(activation: Callable) -> Callable:
    def cell(inputs, hidden, w_ih, w_hh, b_ih=None, b_hh=None):
        return activation(F.linear(inputs, w_ih, b_ih) + F.linear(hidden, w_hh, b_hh))

    return cell


def gru_cell(inputs, hidden, w_ih, w_hh, b_ih=None, b_hh=None):
    """torch.gru_cell."""
    return _gru_gates(F.linear(inputs, w_ih, b_ih), F.linear(hidden, w_hh, b_hh), hidden)


def lstm_cell(inputs, start, w_ih, w_hh, b_ih=None, b_hh=None):
    """torch.lstm_cell."""
    cell, output = _lstm_gates(F.linear(inputs, w_ih, b_ih) + F.linear(start[0], w_hh, b_hh), start[1])
    return output, cell


def _lstm_gates(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    let_in, forget, candidate, let_out = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + let_in.sigmoid() * candidate.tanh()
    return cell, let_out.sigmoid() * cell.tanh()


def _gru_gates(of_input: torch.Tensor, of_hidden: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    (reset, update, new), (reset_h, update_h, new_h) = of_input.chunk(3, dim=1), of_hidden.chunk(3, dim=1)
    update = (update + update_h).sigmoid()
    new = (new + (reset + reset_h).sigmoid() * new_h).tanh()
    return new + update * (hidden - new)


def _layers(step, inputs, start, weights, biases, layers, bidirectional, steps_second, projected=False):
    """Run all layers and directions; gives the outputs of the last layer, and the final states."""
    x = inputs.transpose(0, 1) if steps_second else inputs
    directions, each = 1 + bidirectional, 2 + 2 * biases + projected
    finals: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = list(weights[number * each : (number + 1) * each])
            of_one = own[:2] + (own[2:4] if biases else [None, None]) + own[2 + 2 * biases :]
            gates = F.linear(x, of_one[0], of_one[2])
            hidden, cell = start[0][number], start[1][number] if len(start) > 1 else None
            steps = []
            for part in reversed(gates.unbind(0)) if direction else gates.unbind(0):
                hidden, cell = step(part, hidden, cell, of_one)
                steps.append(hidden)
            outputs.append(torch.stack(steps[::-1] if direction else steps))
            finals.append((hidden, cell))
        x = torch.cat(outputs, dim=2)
    states = [torch.stack(parts) for parts in zip(*finals, strict=True) if parts[0] is not None]
    return x.transpose(0, 1) if steps_second else x, *states


def padded(args: tuple) -> bool:
    """Whether a recurrent function is called with a padded batch and without dropout, as it is written here."""
    return len(args) == 9 and isinstance(args[3], bool) and args[0].dim() == 3 and not (args[5] and args[6])


LAYERS: dict[Callable, Callable] = {
    torch.lstm: lstm,
    torch.gru: gru,
    torch.rnn_tanh: _rnn(torch.tanh),
    torch.rnn_relu: _rnn(torch.relu),
}
CELLS: dict[Callable, Callable] = {
    torch.lstm_cell: lstm_cell,
    torch.gru_cell: gru_cell,
    torch.rnn_tanh_cell: _rnn_cell(torch.tanh),
    torch.rnn_relu_cell: _rnn_cell(torch.relu),
}
