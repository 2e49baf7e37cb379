"""Writes constants.json: the official formula on small numbers, in exact fractions."""

import json
from fractions import Fraction
from pathlib import Path

DIM, RANK, VOCABULARY, ROWS, STEERS = 5, 2, 7, 3, 2
EPSILON = Fraction(1, 512)
VALUES = ((0, 0), (1, 0), (5, 1), (-5, 1), (2, -3))


def table(rows, columns, step):
    """Numbers that float32 holds exactly: eighths between -2 and 2."""
    return [
        [Fraction((step * (i * columns + j) + i * i) % 33 - 16, 8) for j in range(columns)]
        for i in range(rows)
    ]


def times(a, b):
    return [
        [sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=False)]
        for row in a
    ]


def main():
    hidden, head = table(ROWS, DIM, 7), table(VOCABULARY, DIM, 11)
    first = [table(DIM, RANK, 5 + n) for n in range(STEERS)]
    second = [table(DIM, RANK, 13 + n) for n in range(STEERS)]
    logits = []
    for values in VALUES:
        rows = hidden
        for value, P, Q in zip(values, first, second, strict=True):
            delta = times(times(hidden, P), list(zip(*Q, strict=True)))
            rows = [
                [x + EPSILON * value * d for x, d in zip(row, change, strict=True)]
                for row, change in zip(rows, delta, strict=True)
            ]
        logits.append(times(rows, list(zip(*head, strict=True))))
    found = {
        "epsilon": EPSILON,
        "hidden": hidden,
        "head": head,
        "projector1": first,
        "projector2": second,
        "values": VALUES,
        "logits": logits,
    }
    text = json.dumps(found, default=float)
    Path(__file__).with_name("constants.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
