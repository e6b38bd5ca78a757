"""Short Python programs: what they fetch, and into which directory.

https://huggingface.co/docs/huggingface_hub/package_reference/file_download
"""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.budget import Budget
from extender.workload.pythonic import LONGEST_PROGRAM, MOST_CALLS, python_fetches

ENV = {"MODEL": "org/llama", "DIR": "/models", "SECRET": None}
Fetched = list[tuple[str | None, str | None]]


def fetched(program: str) -> Fetched:
    """Return repository and ``local_dir`` of each call."""
    read = python_fetches(dedent(program), ENV)
    return [(fetch.repository, fetch.directory) for fetch in read.fetches]


def is_opaque(program: str) -> bool:
    return python_fetches(dedent(program), ENV).opaque


@pytest.mark.parametrize(
    "call",
    [
        "snapshot_download('org/llama', local_dir='/m')",
        "snapshot_download(repo_id='org/llama', local_dir='/m')",
        "huggingface_hub.snapshot_download('org/llama', local_dir='/m')",
        "HfApi().snapshot_download('org/llama', local_dir='/m')",
        "hf_hub_download('org/llama', 'model.gguf', local_dir='/m')",
        "hf_hub_download(repo_id='org/llama', filename='model.gguf', local_dir='/m')",
        "print(snapshot_download('org/llama', local_dir='/m'))",
        "path = snapshot_download('org/llama', local_dir='/m')",
        "x: str = snapshot_download('org/llama', local_dir='/m')",
        "if not exists('/m'): snapshot_download('org/llama', local_dir='/m')",
        "with lock: snapshot_download('org/llama', local_dir='/m')",
        "try:\n  snapshot_download('org/llama', local_dir='/m')\nexcept OSError:\n  pass",
        "while True:\n  snapshot_download('org/llama', local_dir='/m')\n  break",
        "for attempt in range(3):\n  snapshot_download('org/llama', local_dir='/m')",
        "from huggingface_hub import snapshot_download as get; get('org/llama', local_dir='/m')",
    ],
)
def test_a_download_is_seen(call: str) -> None:
    assert fetched(call) == [("org/llama", "/m")]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'/models/llama'", "/models/llama"),
        ("r'/models/llama'", "/models/llama"),
        ("'/models' '/llama'", "/models/llama"),
        ("'/models' + '/llama'", "/models/llama"),
        ("f'/models/{name}'", "/models/llama"),
        ("f'{name!s}'", "llama"),
        ("f'{name!r}'", None),
        ("f'{name:>10}'", None),
        ("os.path.join('/models', name)", "/models/llama"),
        ("Path('/models') / name", "/models/llama"),
        ("Path('/models').joinpath(name)", "/models/llama"),
        ("str(Path('/models', name))", "/models/llama"),
        ("os.environ['DIR']", "/models"),
        ("os.environ.get('DIR')", "/models"),
        ("os.getenv('DIR', '/x')", "/models"),
        ("os.getenv('OTHER', '/x')", "/x"),
        ("os.environ.get('OTHER', '/x')", "/x"),
        ("os.getenv('OTHER')", None),
        ("os.environ['SECRET']", None),
        ("os.environ.get('SECRET', '/x')", None),
        ("os.getenv('DIR') or '/x'", "/models"),
        ("os.getenv('OTHER') or '/x'", "/x"),
        ("os.getenv('SECRET') or '/x'", None),
        ("sys.argv[1] or '/x'", None),
        ("'/models/%s' % name", None),
        ("'/models/{}'.format(name)", None),
        ("sys.argv[1]", None),
        ("unknown", None),
        ("None", ""),
    ],
)
def test_a_directory_is_read_from(expression: str, value: str | None) -> None:
    program = f"name = 'llama'\nsnapshot_download('org/x', local_dir={expression})"
    assert fetched(program) == [("org/x", value)]


def test_the_revision_and_the_cache_are_told() -> None:
    (fetch,) = python_fetches("snapshot_download('a/b', revision='v1', cache_dir='/c')", {}).fetches
    assert (fetch.revision, fetch.cache, fetch.directory) == ("v1", "/c", "")


class TestNames:
    """A name's value is what every way to the call agrees on."""

    @pytest.mark.parametrize(
        ("before", "value"),
        [
            pytest.param("d = '/a'", "/a", id="assigned"),
            pytest.param("d = '/a'\nd = '/b'", "/b", id="assigned again"),
            pytest.param("d = '/a'\nd += '/b'", "/a/b", id="appended"),
            pytest.param("d: str = '/a'", "/a", id="annotated"),
            pytest.param("d = '/a'\nd, e = f()", None, id="unpacked"),
            pytest.param("d = '/a'\nif x: d = '/b'", None, id="changed on one way"),
            pytest.param("d = '/a'\nif x: pass\nelse: d = '/b'", None, id="changed on the other"),
            pytest.param("if x: d = '/a'\nelse: d = '/a'", "/a", id="the same on both"),
            pytest.param("d = '/a'\nif x: e = '/b'", "/a", id="another name"),
            pytest.param("d = '/a'\nwhile x: d += '/b'", None, id="changed in a loop"),
            pytest.param("d = '/a'\nfor x in y: d += '/b'", None, id="changed for each"),
            pytest.param("d = '/a'\ntry: d = f()\nexcept E: pass", None, id="changed in a try"),
            pytest.param("d = '/a'\nwith f() as d: pass", None, id="a context"),
            pytest.param("d = '/a'\nif (d := f()): pass", None, id="a walrus"),
            pytest.param("d = '/a'\nd = f()", None, id="a call's result"),
        ],
    )
    def test_local_dir_is(self, before: str, value: str | None) -> None:
        assert fetched(f"{before}\nsnapshot_download('org/x', local_dir=d)") == [("org/x", value)]

    def test_a_comprehension_hides_an_outer_name(self) -> None:
        program = "r = 'org/x'\n[snapshot_download(r, local_dir='/m') for r in REPOSITORIES]"
        assert fetched(program) == [(None, "/m")]


class TestLoops:
    def test_a_list_is_taken_element_by_element(self) -> None:
        program = """
            for name in ["org/a", "org/b"]:
                snapshot_download(name, local_dir=f"/models/{name}")
        """
        assert fetched(program) == [("org/a", "/models/org/a"), ("org/b", "/models/org/b")]

    def test_a_list_with_a_name(self) -> None:
        program = "R = ('org/a', 'org/b')\nfor r in R: snapshot_download(r)"
        assert fetched(program) == [("org/a", ""), ("org/b", "")]

    def test_pairs(self) -> None:
        program = """
            for repo, path in [("org/a", "/m/a"), ("org/b", "/m/b")]:
                snapshot_download(repo, local_dir=path)
        """
        assert fetched(program) == [("org/a", "/m/a"), ("org/b", "/m/b")]

    def test_an_unknown_list_is_taken_once(self) -> None:
        assert fetched("for r in json.loads(x): snapshot_download(r, local_dir='/m')") == [
            (None, "/m")
        ]

    def test_the_element_is_unknown_after_the_loop(self) -> None:
        assert fetched("for r in ['a/b']: pass\nsnapshot_download(r)") == [(None, "")]


class TestEnvironment:
    def test_a_variable_that_the_program_sets_is_seen_by_later_calls(self) -> None:
        program = "os.environ['HF_HOME'] = '/m/' + 'hf'\nsnapshot_download('org/x')"
        (fetch,) = python_fetches(program, ENV).fetches
        assert fetch.variables["HF_HOME"] == "/m/hf"
        assert fetch.variables["MODEL"] == "org/llama"

    def test_and_by_its_own_reads(self) -> None:
        program = "os.environ['DIR'] = '/new'\nsnapshot_download('a/b', local_dir=os.getenv('DIR'))"
        assert fetched(program) == [("a/b", "/new")]

    def test_setdefault_keeps_what_is_set(self) -> None:
        program = "os.environ.setdefault('DIR', '/x'); os.environ.setdefault('HF_HOME', '/y')"
        (fetch,) = python_fetches(f"{program}\nsnapshot_download('a/b')", ENV).fetches
        assert (fetch.variables["DIR"], fetch.variables["HF_HOME"]) == ("/models", "/y")


class TestTransformers:
    def test_from_pretrained_fetches_a_repository(self) -> None:
        program = "AutoModel.from_pretrained('org/x', cache_dir='/c')"
        (fetch,) = python_fetches(program, ENV).fetches
        assert (fetch.repository, fetch.directory, fetch.cache) == ("org/x", "", "/c")

    @pytest.mark.parametrize(
        "arguments", ["'/models/x'", "'./x'", "'org/x', local_files_only=True"]
    )
    def test_from_pretrained_of_what_is_there_fetches_nothing(self, arguments: str) -> None:
        assert fetched(f"AutoModel.from_pretrained({arguments})") == []

    def test_save_pretrained_writes_a_directory(self) -> None:
        program = "m = AutoModel.from_pretrained('org/x')\nm.save_pretrained('/models/x')"
        assert fetched(program) == [("org/x", ""), (None, "/models/x")]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import requests", id="a module that may fetch"),
        pytest.param("from modelscope import snapshot_download", id="another hub"),
        pytest.param("import subprocess", id="other programs"),
        pytest.param("import os; os.system('hf download a/b')", id="os.system"),
        pytest.param("import os; os.execvp('hf', ['hf'])", id="os.exec"),
        pytest.param("import os; os.rename('/a', '/b')", id="files moved"),
        pytest.param("Path('/a').rename('/b')", id="a path moved"),
        pytest.param("exec(code)", id="exec"),
        pytest.param("def f(d):\n snapshot_download('a/b', local_dir=d)", id="in a function"),
        pytest.param("class A:\n def f(s): snapshot_download('a/b')", id="in a class"),
        pytest.param("list(map(snapshot_download, names))", id="handed on"),
        pytest.param("get = hub.snapshot_download", id="under another name"),
        pytest.param("snapshot_download(**options)", id="arguments from a table"),
        pytest.param("this is no Python", id="no Python"),
        pytest.param("x = 1\0", id="a null byte"),
        pytest.param("#" * (LONGEST_PROGRAM + 1), id="too long"),
    ],
)
def test_what_may_fetch_more_is_opaque(program: str) -> None:
    assert is_opaque(program)


@pytest.mark.parametrize(
    "program",
    [
        "",
        "import os, sys, time, json\nfrom pathlib import Path",
        "from huggingface_hub import snapshot_download\nsnapshot_download('a/b', local_dir='/m')",
        "print('x'.replace('x', 'y'))",
        "open('/m/.done', 'w').write('ok')",
        "def log(x): print(x)",
        "import re; re.compile('x')",
    ],
)
def test_a_program_that_was_read_in_full_is_not_opaque(program: str) -> None:
    assert not is_opaque(program)


class TestBounds:
    @pytest.mark.parametrize(
        "program",
        [
            pytest.param(
                "\n".join(f"{' ' * i}for a{i} in {list('12345678')}:" for i in range(12))
                + f"\n{' ' * 12}pass",
                id="8^12 rounds",
            ),
            pytest.param(
                "\n".join(f"{' ' * i}if a:" for i in range(15))
                + f"\n{' ' * 15}pass"
                + "\nx = f(x)" * 4000
                + "\nfor i in [" + "'a'," * 5000 + "]:\n f(" + "1," * 5000 + ")",
                id="one long statement again and again",
            ),
            pytest.param("x = " + "'a' + " * 10_000 + "'b'", id="a long sum"),
            pytest.param("x = " + "(" * 10_000, id="parentheses"),
            pytest.param("x = " + "-" * 50_000 + "1", id="signs"),
            pytest.param("f(" * 5000 + ")" * 5000, id="calls"),
        ],
    )  # fmt: skip
    def test_what_is_too_deep_or_too_much_is_opaque(self, program: str) -> None:
        assert is_opaque(program)

    @pytest.mark.parametrize("growing", ["x = x + x", "x = f'{x}{x}'", "x = os.path.join(x, x)"])
    def test_a_text_that_grows_without_end_becomes_unknown(self, growing: str) -> None:
        program = "x = 'aaaaaaaa'\n" + f"{growing}\n" * 100 + "snapshot_download(x)"
        assert fetched(program) == [(None, "")]

    def test_programs_of_one_container_share_a_budget(self) -> None:
        budget = Budget(steps=40)
        program = "snapshot_download('a/b')\n" * 4
        assert not python_fetches(program, {}, budget=budget).opaque
        assert python_fetches(program, {}, budget=budget).opaque

    def test_fetches_in_loops_are_counted(self) -> None:
        loop = "for a in {0}:\n for b in {0}:\n  for c in {0}:\n   snapshot_download(a)"
        read = python_fetches(loop.format(["x"] * 50), {})
        assert read.opaque
        assert len(read.fetches) <= MOST_CALLS


PIECES = st.sampled_from(
    [
        *"()[]{}:,.=+'\"\n #*%-",
        *("x", "os.environ", "['A']", ".get('A')", "snapshot_download(", "local_dir=", "for x in "),
        *(
            "if x",
            "else",
            "try",
            "\n ",
            "f'{x}'",
            "lambda x",
            "def f()",
            "import os",
            "with x as x",
        ),
        *("from_pretrained(", "*x", "**x", "x = ", "x := ", "class A", "'a/b'", "Path(", "join("),
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=100))
def test_no_program_is_refused(program: str) -> None:
    read = python_fetches(program, {"A": "b", "B": None})
    assert (
        read.opaque or "snapshot_download" in program or not read.fetches or "pretrained" in program
    )


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_literal_is_itself(repository: str, directory: str) -> None:
    program = f"snapshot_download({repository!r}, local_dir={directory!r})"
    assert [(f.repository, f.directory) for f in python_fetches(program, {}).fetches] == [
        (repository, directory)
    ]
