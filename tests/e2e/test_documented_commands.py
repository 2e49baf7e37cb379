"""What README, docs and CONTRIBUTING tell people to type is there to be typed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_tree import PROGRAM, commands, parse

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").glob("**/README.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELLS = {"", "sh", "bash", "shell", "console", "text"}
OURS = re.compile(r"(^|[\s$(;|&])lmsteer(\.cli)?[\s);]")
OPERATORS = set("|&;()<>")
INLINE = re.compile(r"(?<!`)`(lmsteer [^`]*)`(?!`)")


def blocks(text, languages):
    """The fenced blocks of a page that are in one of some languages."""
    return [block for _, language, block in BLOCK.findall(text) if language in languages]


def shell_commands(script):
    """The simple commands of the lines of a script that run `lmsteer`, each as its words.

    Comments go, lines that end in a backslash are joined, and what pipes, lists, groups, `$(...)`
    and redirections part stands apart; assignments before a command are left out.
    """
    for line in script.replace("\\\n", " ").splitlines():
        if not OURS.search(line) or "[OPTIONS]" in line:
            continue  # a drawing, other programs, output; how a command is used in general
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;()<>")
        lexer.whitespace_split = True
        found = [[]]
        for word in lexer:
            if set(word) <= OPERATORS:
                found.append([])
            else:
                found[-1].append(word)
        for words in found:
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL):
                words.pop(0)
            if words:
                yield words


def ours(script):
    """The commands of a script that run `lmsteer`, as the words after it."""
    for words in shell_commands(script):
        if words[0] == PROGRAM:
            yield words[1:]
        elif "lmsteer.cli" in words:  # python -m lmsteer.cli, accelerate launch -m lmsteer.cli
            yield words[words.index("lmsteer.cli") + 1 :]


def faults(text):
    """What cannot be typed of the commands in the blocks of a page."""
    for script in blocks(text, SHELLS):
        for words in ours(script):
            try:
                parse(words)
            except Exception as error:  # whatever the parser raises is a fault of the page
                yield f"{shlex.join(words)}: {error}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_on_a_page_parses(page):
    assert list(faults(page.read_text())) == []


def test_the_readme_shows_the_commands():
    shown = [
        words[0] for s in blocks((ROOT / "README.md").read_text(), SHELLS) for words in ours(s)
    ]
    assert {name.split()[0] for name, _ in commands()} <= set(shown)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("lmsteer generate a=1 --steer b", "steer"),
        ("lmsteer nothing", "no command"),
        ("lmsteer transfer a \\\n  --out b  # --target c", "target"),
        ("cat a | lmsteer compose b=1 && lmsteer list", "out"),
        ("X=1 python -m lmsteer.cli sweep a --points x", "points"),
        ("echo $(lmsteer show)", "name"),
    ],
)
def test_what_cannot_be_typed_is_found(script, message):
    (fault,) = faults(f"text\n```\n{script}\n```\n")
    assert message in fault


def test_what_can_be_typed_is_no_fault():
    script = (
        "lmsteer generate a=1 \\\n    --prompt 'x; | y' | tee b  # --nonsense\n"
        'ROWS=3 lmsteer train "$(ls | head -1)" --out c; lmsteer list > all.txt\n'
        "$ lmsteer show a\n"
    )
    assert [words[0] for words in ours(script)] == ["generate", "train", "list", "show"]
    assert list(faults(f"```sh\n{script}```\n")) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_named_in_passing_exist_with_their_options(page):
    known = {
        name: {o for p in c.params for o in (*p.opts, *p.secondary_opts)} for name, c in commands()
    }
    groups = {name.split()[0] for name in known if " " in name}
    for text in INLINE.findall(re.sub(BLOCK, "", page.read_text())):
        words = text.split()[1:]
        name = " ".join(words[: 2 if words[0] in groups else 1])
        assert name in known or name in groups, f"{page.name}: {text}"
        for word in words:
            if word.startswith("--"):
                assert word in known[name], f"{page.name}: {text}"


EXAMPLES = {
    name: shlex.split(re.search(r"Example: lmsteer (.*)", command.help)[1])
    for name, command in commands()
}


@pytest.mark.slow
def test_the_examples_of_help_texts_run_as_typed(tmp_path):
    """In one folder, in order; what needs a file or an account of the user's is left out."""
    for name in (name for name in EXAMPLES if name not in ("import", "push")):
        done = subprocess.run(
            [sys.executable, "-m", "lmsteer.cli", *EXAMPLES[name]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (EXAMPLES[name], done.stderr)
