"""The words along the singular directions of a steer (the paper's table of its SVD).

python -m experiments.paper.words
python -m experiments.paper.words --styles detox --steer WORK/detox --model gpt2-large

Words that the toxicity scorer finds offensive by themselves are cut to their first letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.paper import setting
from experiments.shared.styles import STYLES
from lmsteer.interpretation.words import directions
from lmsteer.metrics.masking import masked


def main() -> None:
    """Run from the command line."""
    parser = setting.parser(__doc__)
    parser.add_argument("--styles", nargs="+", choices=list(STYLES), default=["sentiment", "detox"])
    setting.steers(parser, "+")
    parser.add_argument("--directions", type=int, default=4)
    parser.add_argument("--words", type=int, default=10)
    args = parser.parse_args()
    names = args.steer or [None] * len(args.styles)
    if len(names) != len(args.styles):
        parser.error(f"one --steer for each of {args.styles}, got {len(names)}")
    pair = setting.load_model(args)
    facts = setting.facts(args)
    name = setting.stem(args, "words")
    lines = [
        f"# Words along a steer's singular directions, on `{facts['model']}`",
        "",
        "`python -m experiments.paper.words`. W = sum of s_i u_i v_iᵀ: what lies along `u` turns a "
        "direction on, what lies along `v` is added. Whole words by the projection of their "
        "embedding (the mean word taken off); signs such that the first list gains at positive "
        "strength. Offensive words are masked. The paper (section 5) reads its GPT-2 large steers "
        "in this way and finds lists that name the style; its own lists are not repeated here.",
    ]
    plain: dict[str, Any] = {"facts": facts, "steers": {}}
    for style, path in zip(args.styles, names, strict=True):
        steer = setting.load_steer(args, style, pair, path)
        found = directions(*pair, steer, count=args.directions, words=args.words)
        plain["steers"][style] = [
            {
                "share": part.share,
                "gains": _shown(part.writes[0]),
                "loses": _shown(part.writes[1]),
                "on": _shown(part.reads[0]),
                "off": _shown(part.reads[1]),
            }
            for part in found
        ]
        lines += ["", f"## {style}, rank {steer.rank}", ""]
        lines += ["| | share of W | gains at + | loses at + | turned on by | turned off by |"]
        lines += ["|---:|---:|---|---|---|---|"]
        for number, row in enumerate(plain["steers"][style], start=1):
            cells = " | ".join(", ".join(row[k]) for k in ("gains", "loses", "on", "off"))
            lines.append(f"| {number} | {row['share']:.2f} | {cells} |")
    setting.keep(name, plain)
    setting.write(name, facts, lines)
    print("\n".join(lines))


def _shown(words: Sequence[tuple[str, float]]) -> list[str]:
    return [masked(word) for word, _ in words]


if __name__ == "__main__":
    main()
