"""The options of labelled texts, which `options` hands on with all others."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

Data = Annotated[
    str,
    Argument(
        help="The labelled texts: a JSONL, CSV or TSV file, - for standard input, hf:NAME for "
        "a data set of the Hub, or bundled:sentiment."
    ),
]
TextColumn = Annotated[str, Option("--text-column", help="The column of the text.")]
PromptColumn = Annotated[
    str | None,
    Option("--prompt-column", help="The column of the prompt, which is read and not learned from."),
]
Positive = Annotated[
    str | None,
    Option("--positive", help="The class that stands for +1, where labels are classes."),
]
Negative = Annotated[
    str | None,
    Option("--negative", help="The class that stands for -1, where labels are classes."),
]
Format = Annotated[
    str | None,
    Option(
        "--format",
        help="The format of the data: jsonl, csv or tsv.  [default: by the file's name]",
    ),
]
Split = Annotated[str, Option("--split", help="The split of a data set of the Hub.")]
Label = Annotated[
    list[str],
    Option(
        "--label",
        help="The column of the label. train takes it several times: then one steer per column is "
        "learned, all together, each in its own folder below --out.",
    ),
]
Scale = Annotated[
    tuple[float, float] | None,
    Option("--scale", help="The lowest and the highest label, such as --scale 1 5."),
]
