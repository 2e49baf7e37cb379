"""Text of strangers in terminals, JSON, Markdown, YAML, HTML and figures."""

import ast
import io
import json
import re
import unicodedata

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table
from rich.text import Text

from lmsteer import Steer
from lmsteer.cli import display
from lmsteer.generation.records import Generation
from lmsteer.interpretation.html import page
from lmsteer.interpretation.spans import Evidence, Token
from lmsteer.metrics.estimates import Estimate
from lmsteer.research.evaluation.document import markdown as report
from lmsteer.steer.naming import CONTROLS
from lmsteer.steer.steer import Fingerprint
from lmsteer.storage.card import card
from lmsteer.text.escaping import code, json_text, markdown, quoted, visible

anything = st.one_of(
    st.text(st.characters(exclude_categories=[])),
    st.text("[]\\/ab#@=:\x1b\n", max_size=12),
    st.text("`*_|<>&#-+~$![]()\\ \n1.ab", max_size=16),
)
EVIL = "x` | **b** <script>alert(1)</script>\n---\n# y [l](javascript:z) \x1b]0;t\x07\u202e"


@given(anything)
@example("\x1b]0;title\x07 \x9b31m \u2028 \u202e \ud800 \x7f")
def test_what_is_visible_holds_no_control_character(text):
    shown = visible(text)
    assert not CONTROLS.search(shown)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    shown.encode()
    assert visible(shown) == shown
    assert visible(text, keep="\n").count("\n") == text.count("\n")
    if not CONTROLS.search(text):
        assert shown == text


def test_controls_are_spelled_as_python_spells_them():
    assert visible("a\x1b[31m\n\t\r\x00\x9b\u2028\u202e\ud800") == (
        "a\\x1b[31m\\n\\t\\r\\x00\\x9b\\u2028\\u202e\\ud800"
    )


@settings(max_examples=500, deadline=None)
@given(anything, anything, anything)
@example("[bold red", "]x", "\\")
@example("\\", "[/]", "[/bold]")
@example("\\\\", "[link=http://x]", ":smile:")
def test_escaped_text_is_shown_as_it_is_whatever_stands_beside_it(one, two, three):
    line = (
        f"[bold]{display.escape(one)}[/]{display.escape(two)} [0.1] [red]{display.escape(three)}]"
    )
    shown = f"{visible(one)}{visible(two)} [0.1] {visible(three)}]"
    assert Text.from_markup(line, emoji=False).plain == shown


def test_long_runs_of_backslashes_take_no_long_time():
    text = "\\" * 100_000
    assert display.escape(f"{text}x") == f"{text}x"


def test_lines_stay_where_a_text_may_have_them():
    assert display.escape("a\nb\x1b", lines=True) == "a\nb\\x1b"
    assert display.escape("a\nb") == "a\\nb"


def test_a_terminal_is_given_no_order_even_by_what_was_not_escaped():
    console = display.Terminal(file=io.StringIO(), force_terminal=True, emoji=False, width=60)
    table = Table("h\x1b[2J", title="t\x1b]0;x\x07", caption="\x9b1m")
    table.add_row("c\x1b[31m", Text("d\x1b[0m\x07"))
    console.print(table)
    console.print("[bold]a[/] \x1b]52;c;aGk=\x07\u202e :warning:", Text("\x1b[1m\nz"))
    text = console.file.getvalue()
    own = re.sub(r"\x1b\[[0-9;]*m", "", text)  # rich's own colours
    assert not CONTROLS.search(own.replace("\n", ""))
    assert "c\\x1b[31m" in own
    assert ":warning:" in own
    assert text.count("\x1b[") == len(re.findall(r"\x1b\[[0-9;]*m", text))
    rows = [line for line in own.splitlines() if line.startswith(("┃", "│"))]
    assert len({len(row) for row in rows}) == 1  # as wide as they look


values = st.recursive(
    st.one_of(anything, st.integers(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)


@given(values, st.sampled_from([None, 1]), st.booleans())
def test_json_round_trips_and_holds_no_control_character(value, indent, ascii_only):
    text = json_text(value, indent=indent, ascii_only=ascii_only)
    assert json.loads(text) == value
    assert not CONTROLS.search(text.replace("\n", ""))
    assert indent or "\n" not in text
    text.encode()


def test_json_is_readable_where_the_output_has_the_letters(capsys, monkeypatch):
    display.print_json({"이름": "기분\x1b\x9b\u2028"})
    assert capsys.readouterr().out == '{"이름": "기분\\u001b\\u009b\\u2028"}\n'
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", narrow)
    display.print_json({"a": "기"})
    narrow.flush()
    assert narrow.buffer.getvalue() == b'{"a": "\\uae30"}\n'


def test_an_error_of_several_lines_does_not_look_like_several(capsys):
    display.fail("no file '[/bold]'\nerror: all is lost\x1b[2J")
    assert capsys.readouterr().err == ("error: no file '[/bold]'\n  error: all is lost\\x1b[2J\n")


def rendered(text):
    """The plain text and the kinds of token that a reader of Markdown (GitHub's tables) finds."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(text)
    inline = [child for t in tokens if t.type == "inline" for child in t.children]
    plain = "".join(c.content for c in inline if c.type in ("text", "code_inline", "text_special"))
    return plain, {t.type for t in tokens} | {c.type for c in inline}


@settings(max_examples=500, deadline=None)
@given(anything)
@example(EVIL)
@example("1. a")
@example("# a #")
@example("> a")
@example("_a_ a_b_c __init__")
@example("&lt;b&gt;")
def test_markdown_shows_text_as_it_is(text):
    line = visible(" ".join(text.split()))
    for before, after, shown, kinds in (
        ("", "", line, ["paragraph"]),
        ("a ", " b", f"a {line} b", ["paragraph"]),
        ("# ", "", line, ["heading"]),
        ("- ", "", line, ["bullet_list", "list_item", "paragraph"]),
        ("|a|\n|-|\n| ", " |", f"a{line}", ["table", "thead", "tbody", "tr", "th", "td"]),
    ):
        plain, found = rendered(f"{before}{markdown(text)}{after}")
        assert plain.strip() == shown.strip()
        ends = {f"{kind}_{end}" for kind in kinds for end in ("open", "close")}
        assert found <= {"text", "text_special", "inline"} | ends


@settings(max_examples=300, deadline=None)
@given(anything.filter(lambda text: text.strip()))
@example("`` a ` b")
@example("`")
def test_code_shows_text_as_it_is(text):
    plain, found = rendered(f"- {code(text)} x")
    assert plain.removesuffix(" x") == visible(" ".join(text.split()))
    assert "code_inline" in found


@given(anything.filter(lambda text: not re.search("[\ud800-\udfff]", text)))
def test_quoted_text_is_read_by_yaml_json_and_python(text):
    assert json.loads(quoted(text)) == text
    assert ast.literal_eval(quoted(text)) == text
    if "\n" not in quoted(text):
        assert yaml.safe_load(f"a: {quoted(text)}") == {"a": text}


def hostile_steer(**record):
    mark = Fingerprint(sketch=torch.ones(3), model=EVIL)
    name = " ".join(re.sub(CONTROLS, "", EVIL).split()) + " ---"
    return Steer(torch.ones(2, 1), torch.ones(2, 1), name, fingerprint=mark, record=record)


def test_a_card_is_one_whatever_its_names(llama):
    data = dict.fromkeys(("texts", "positive", "negative", "neutral", "tokens"), 1)
    text = card(
        hostile_steer(
            data=data,
            solver=EVIL,
            source=EVIL,
            samples=[{"strength": 1.0, "text": EVIL}, {"strength": 1.0000001, "text": "b"}],
        )
    )
    assert not CONTROLS.search(text.replace("\n", ""))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "lmsteer",
        "tags": ["lm-steer", "steering", "controllable-generation"],
        "pipeline_tag": "text-generation",
    }
    _, found = rendered(body)
    assert not {"html_inline", "html_block", "link_open", "hr", "strong_open"} & found
    assert body.count("\n# ") + body.startswith("# ") == 1
    assert "| +1 | x" in body
    assert "| +1.0000001 | b |" in body
    block = re.search(r"```python\n(.*?)\n```", body, re.S)[1]
    assert EVIL in [n.value for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Constant)]


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("gpt2", 'base_model: "gpt2"'),
        ("null", 'base_model: "null"'),
        ("someone/model", "base_model: someone/model"),
        ("bundled", None),
        ("/home/me/model", None),
        ("a/b\nlicense: mit", None),
        ("../up", None),
    ],
)
def test_a_card_names_a_base_model_that_the_hub_may_know(base, line):
    mark = Fingerprint(sketch=torch.ones(3), model=base)
    front = card(Steer(torch.ones(2, 1), torch.ones(2, 1), fingerprint=mark)).split("---\n")[1]
    found = yaml.safe_load(front)
    assert found.get("base_model") == (base if line else None)
    assert (line in front.splitlines()) if line else ("base_model" not in front)


def test_a_report_shows_names_prompts_and_texts_as_they_are():
    row = {EVIL: Estimate(0.5, 4, 0.4, 0.6)}
    samples = [Generation(EVIL, EVIL, {EVIL: 1.0}, 0, 0)]
    text = report(EVIL, {EVIL: [(EVIL, row)]}, samples, {EVIL: EVIL})
    assert not CONTROLS.search(text.replace("\n", ""))
    _, found = rendered(text)
    assert not {"html_inline", "html_block", "link_open", "hr"} & found
    assert len(re.findall(r"^#", text, re.M)) == 4


def test_a_page_shows_text_as_it_is():
    text = "<b>&\x1b[1m\u202e\n\tx"
    whole = page([Evidence(text, [Token(0, 3, 1.0)], [], 1.0)], EVIL, strength=1.0)
    assert not CONTROLS.search(re.sub(r"[\n\t]", "", whole))
    assert "<script>" not in whole
    assert "<b>" not in whole
    assert "&lt;b&gt;</span>&amp;\\x1b[1m\\u202e\n\tx" in whole


def test_figures_draw_names_as_they_are(tmp_path):
    pytest.importorskip("matplotlib")
    from lmsteer.figures.evaluation import grid_figure, strength_figure, tradeoff_figure
    from lmsteer.figures.interpretation import overlaps_figure

    row = {"a$^$b": Estimate(0.5, 4, 0.4, 0.6), "perplexity": Estimate(30, 9, 20, 40)}
    odd = r"_$\frac{1$ \x1b $ $"
    rows = [(odd, row), ("b", row)]
    tradeoff_figure(tmp_path / "a.png", {odd: rows, "_b": rows}, "a$^$b", odd)
    strength_figure(tmp_path / "b.png", [0, 1e-9], [row, row], list(row), odd)
    grid_figure(tmp_path / "c.png", (odd, odd), ([1.0, 1.0000001], [1.0]), [[row, row]], list(row))
    overlaps_figure(tmp_path / "d.png", torch.eye(2).numpy(), [odd, odd])
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in "abcd")
