"""Shell scripts: which programs they would run, with which words, where.

POSIX.1-2024, Shell Command Language:
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html
"""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.workload.budget import Budget
from extender.workload.shell import LONGEST_SCRIPT, ShellCommand, run

ENV = {"DIR": "/models", "NAME": "llama", "TWO": "a b", "EMPTY": "", "SECRET": None}
Words = list[list[str | None]]


def ran(script: str, **options: Any) -> tuple[ShellCommand, ...]:
    return run(dedent(script), ENV, **options).commands


def words(script: str, **options: Any) -> Words:
    return [list(command.words) for command in ran(script, **options)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("a b  c", ["a", "b", "c"], id="blanks"),
        pytest.param("a 'b  c'", ["a", "b  c"], id="single quotes"),
        pytest.param("a '$NAME `x` \\'", ["a", "$NAME `x` \\"], id="nothing in single quotes"),
        pytest.param('a "b  c"', ["a", "b  c"], id="double quotes"),
        pytest.param('a "\\$x \\" \\\\ \\`"', ["a", '$x " \\ `'], id="escapes in double quotes"),
        pytest.param('a "\\n"', ["a", "\\n"], id="other backslashes in double quotes stay"),
        pytest.param("a b\\ c", ["a", "b c"], id="an escaped blank"),
        pytest.param("a 'b'\"c\"d", ["a", "bcd"], id="quotes that touch"),
        pytest.param("a '' \"\"", ["a", "", ""], id="empty words"),
        pytest.param("a $'b\\tc\\'d'", ["a", "b\tc'd"], id="ANSI-C quotes"),
        pytest.param("a --x \\\n  --y", ["a", "--x", "--y"], id="line continuation"),
        pytest.param("a ab\\\ncd", ["a", "abcd"], id="line continuation within a word"),
        pytest.param('a "b\\\nc"', ["a", "bc"], id="line continuation within quotes"),
        pytest.param("a b # c", ["a", "b"], id="a comment"),
        pytest.param("a b#c '#d'", ["a", "b#c", "#d"], id="a hash that is no comment"),
        pytest.param("a > out 2>&1 < in b", ["a", "b"], id="redirections are no words"),
        pytest.param("a 2 > out", ["a", "2"], id="a number that is a word"),
        pytest.param("a $NAME", ["a", "llama"], id="a variable"),
        pytest.param("a ${NAME}s", ["a", "llamas"], id="a variable in braces"),
        pytest.param("a $DIR/$NAME", ["a", "/models/llama"], id="variables that touch"),
        pytest.param("a $TWO", ["a", "a", "b"], id="an unquoted value is split"),
        pytest.param('a "$TWO"', ["a", "a b"], id="a quoted value is not"),
        pytest.param("a x$TWO", ["a", "xa", "b"], id="split in the middle of a word"),
        pytest.param("a $EMPTY b", ["a", "b"], id="an unquoted empty value is no word"),
        pytest.param('a "$EMPTY" b', ["a", "", "b"], id="a quoted empty value is one"),
        pytest.param("a $SECRET", ["a", None], id="an unknown value"),
        pytest.param("a /x/$SECRET/y", ["a", None], id="an unknown value in a word"),
        pytest.param("a $UNSET", ["a", None], id="an unset variable may come from the image"),
        pytest.param("a ~/x", ["a", None], id="a home directory that is not known"),
        pytest.param("a '~/x'", ["a", "~/x"], id="a quoted tilde"),
        pytest.param("a $", ["a", "$"], id="a lone dollar"),
        pytest.param("a {b,c}", ["a", None], id="braces are several words, or one"),
        pytest.param("a $DIR/{1..3}", ["a", None], id="a range in braces"),
        pytest.param("a '{b,c}' {}", ["a", "{b,c}", "{}"], id="braces that are none"),
    ],
)
def test_words(script: str, expected: list[str | None]) -> None:
    assert words(script) == [expected]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        pytest.param("${NAME:-x}", "llama", id="default not needed"),
        pytest.param("${UNSET:-/models}", "/models", id="default of an unset variable"),
        pytest.param("${UNSET-/models}", "/models", id="default without colon"),
        pytest.param("${EMPTY:-/models}", "/models", id="default of an empty variable"),
        pytest.param("${EMPTY-/models}", "", id="empty counts as set without colon"),
        pytest.param("${SECRET:-/models}", None, id="default of an unknown variable"),
        pytest.param("${UNSET:-$DIR/x}", "/models/x", id="a variable in the default"),
        pytest.param("${UNSET:-${OTHER:-x}}", "x", id="a default in the default"),
        pytest.param('${UNSET:-"/a b"}', "/a b", id="quotes in the default"),
        pytest.param("${UNSET:-a}/${NAME}", "a/llama", id="two in a row"),
        pytest.param("${NAME:+yes}", "yes", id="alternative"),
        pytest.param("${UNSET:+yes}", "", id="no alternative"),
        pytest.param("${NAME:?missing}", "llama", id="required"),
        pytest.param("${DIR#/}", "models", id="prefix"),
        pytest.param("${DIR##*/}", "models", id="longest prefix"),
        pytest.param("${NAME%ma}", "lla", id="suffix"),
        pytest.param("${DIR%/*}", "", id="suffix pattern"),
        pytest.param("${NAME/l/L}", "Llama", id="first replaced"),
        pytest.param("${NAME//l/-}", "--ama", id="all replaced"),
        pytest.param("${NAME^^}", "LLAMA", id="upper case"),
        pytest.param("${#NAME}", "5", id="length"),
        pytest.param("${NAME[@]:1:2}", None, id="what we do not compute is unknown"),
        pytest.param("$((1 + 2))", None, id="arithmetic is unknown"),
    ],
)
def test_parameters(expression: str, value: str | None) -> None:
    assert words(f'a "{expression}"') == [["a", value]]


def test_single_quotes_in_a_default_are_quotes_unless_double_quotes_surround_them() -> None:
    assert words("a ${UNSET:-'x'}") == [["a", "x"]]
    assert words("""a "${UNSET:-'x'}" """) == [["a", "'x'"]]


def test_a_default_that_is_assigned_stays() -> None:
    assert words(': "${X:=/models}"; a "$X"')[-1] == ["a", "/models"]


class TestSubstitution:
    """A command's output is unknown, but for a few that only turn text around."""

    @pytest.mark.parametrize(
        ("script", "value"),
        [
            ("$(cat /etc/model)", None),
            ("`cat /etc/model`", None),
            ("/models/$(curl -s http://x)", None),
            ("$(echo $NAME)", "llama"),
            ("`echo $NAME`", "llama"),
            ('$(basename "/x/$NAME/")', "llama"),
            ("$(dirname /x/llama)", "/x"),
            ("$(echo a > file)", None),
            ("$(echo a; echo b)", None),
            ("$(pwd)", "/work"),
            ("$(echo $(echo x))", "x"),
            ('$(echo ")")', ")"),
        ],
    )
    def test_output(self, script: str, value: str | None) -> None:
        assert words(f'a "{script}"', directory="/work")[-1] == ["a", value]

    def test_its_commands_are_run(self) -> None:
        assert words("x=$(curl http://h | jq .)") == [["curl", "http://h"], ["jq", "."]]

    def test_what_it_sets_stays_inside(self) -> None:
        assert words("x=1; y=$(x=2; date); a $x")[-1] == ["a", "1"]


class TestVariables:
    def test_an_assignment_holds_from_then_on(self) -> None:
        assert words("X=1; a $X; X=2; a $X") == [["a", "1"], ["a", "2"]]

    def test_an_assignment_before_a_command_is_for_that_command_alone(self) -> None:
        (first, second) = ran("HF_HOME=/x a; b")
        assert first.variables["HF_HOME"] == "/x"
        assert "HF_HOME" not in second.variables

    @pytest.mark.parametrize("word", ["export", "readonly", "declare -x", "local", "typeset"])
    def test_declarations_set(self, word: str) -> None:
        assert words(f"{word} X=/m/$NAME; a $X") == [["a", "/m/llama"]]

    def test_an_appended_value(self) -> None:
        assert words("X=/m; X+=/n; a $X") == [["a", "/m/n"]]

    def test_an_assigned_value_is_not_split(self) -> None:
        assert words('X=$TWO; a "$X"') == [["a", "a b"]]

    @pytest.mark.parametrize("script", ["unset X", "read X", "X=$(date)", "X=$SECRET", "X=$((1))"])
    def test_a_variable_may_become_unknown(self, script: str) -> None:
        assert words(f"X=1; {script}; a $X")[-1] == ["a", None]

    def test_arrays(self) -> None:
        script = 'X=(one "two three"); X+=(four); a "${X[@]}"; a "${X[1]}"; a "${#X}"'
        assert words(script)[:2] == [["a", "one", "two three", "four"], ["a", "two three"]]

    def test_associative_arrays(self) -> None:
        script = """
            declare -A M=([llama]=/m/l [qwen]=/m/q)
            for k in "${!M[@]}"; do a "$k" "${M[$k]}"; done
        """
        assert words(script) == [["a", "llama", "/m/l"], ["a", "qwen", "/m/q"]]

    def test_the_scripts_own_arguments(self) -> None:
        script = 'a $1 "$2"; b "$@"; shift; c "$@"; set -- x; d $1 "$3"'
        assert words(script, arguments=["one", "two", None]) == [
            ["a", "one", "two"],
            ["b", "one", "two", None],
            ["c", "two", None],
            ["d", "x", ""],
        ]

    def test_the_variables_at_the_end_are_told(self) -> None:
        assert run("X=/m; export Y=$X/n", {}).variables == {"X": "/m", "Y": "/m/n"}


class TestLists:
    @pytest.mark.parametrize(
        "script",
        ["a; b", "a\nb", "a && b", "a || b", "a | b", "a & b", "a |& b", "a\n\n\n;b", "! a && b"],
    )
    def test_both_commands_are_seen(self, script: str) -> None:
        assert words(script) == [["a"], ["b"]]

    def test_an_operator_may_end_a_line(self) -> None:
        assert words("a &&\n b ||\n\n c |\n d") == [["a"], ["b"], ["c"], ["d"]]

    def test_set_e_is_no_program(self) -> None:
        assert words("set -euo pipefail; set -x; a") == [["a"]]

    def test_what_follows_exit_is_not_run(self) -> None:
        assert words("a; exit 0; b") == [["a"]]

    def test_what_follows_an_exit_that_may_not_be_taken_is_run(self) -> None:
        assert words("[ -f x ] && exit 0; a")[-1] == ["a"]
        assert words("a || exit 1; b") == [["a"], ["b"]]
        assert words("if [ -f x ]; then exit 0; fi; a")[-1] == ["a"]

    def test_what_follows_an_exit_on_every_way_is_not_run(self) -> None:
        assert words("if a; then exit 0; else exit 1; fi; b") == [["a"]]

    def test_a_value_from_a_side_that_may_not_run_is_unknown(self) -> None:
        assert words("X=1; [ -n x ] && X=2; a $X")[-1] == ["a", None]
        assert words("X=1; b || X=2; a $X")[-1] == ["a", None]

    def test_a_value_from_a_side_that_must_have_run_is_known(self) -> None:
        assert words("b && X=2 && a $X")[-1] == ["a", "2"]


class TestDirectory:
    @pytest.mark.parametrize(
        ("script", "directory"),
        [
            ("cd /models; a", "/models"),
            ("cd /models && a", "/models"),
            ("cd /models || exit 1; a", "/models"),
            ("mkdir -p /m && cd /m && a", "/m"),
            ("cd /models; cd x; a", "/models/x"),
            ("cd /models/x; cd ..; a", "/models"),
            ("cd x; a", "/start/x"),
            ("cd $DIR/$NAME; a", "/models/llama"),
            ("cd -- /models; a", "/models"),
            ("cd $SECRET; a", None),
            ("cd; a", None),
            ("cd /x; cd -; a", None),
            ("pushd /models; a", "/models"),
            ("pushd /models; popd; a", None),
            ("(cd /models); a", "/start"),
            ("(cd /models; a)", "/models"),
            ("x=$(cd /models; pwd); a", "/start"),
            ("cd /models | a", "/start"),
            ("[ -d /m ] && cd /m; a", None),
            ("if b; then cd /m; fi; a", None),
            ("f() { cd /models; }; f; a", "/models"),
        ],
    )
    def test_commands_run_in(self, script: str, directory: str | None) -> None:
        assert ran(script, directory="/start")[-1].directory == directory

    def test_an_unknown_directory_stays_unknown(self) -> None:
        assert ran("cd x; a")[-1].directory is None


class TestBranches:
    def test_if_takes_every_way(self) -> None:
        script = "if a; then b; elif c; then d; else e; fi; f"
        assert words(script) == [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]

    def test_what_all_ways_agree_on_is_known(self) -> None:
        script = "if a; then X=1 Y=2; else X=1 Y=3; fi; b $X $Y"
        assert words(script)[-1] == ["b", "1", None]

    def test_the_guard_of_a_download(self) -> None:
        script = 'if [ ! -f "$DIR/config.json" ]; then a "$DIR"; fi'
        assert words(script) == [["[", "!", "-f", "/models/config.json", "]"], ["a", "/models"]]

    def test_double_brackets_are_one_command(self) -> None:
        script = "if [[ ! -d /x && ( -z $A || $B < 3 ) ]]; then a; fi"
        assert words(script)[1:] == [["a"]]

    def test_double_brackets_may_go_on_after_an_operator(self) -> None:
        assert words("if [[ -d /x &&\n -f /y ]]; then a; fi")[1:] == [["a"]]

    def test_arithmetic_conditions_are_skipped(self) -> None:
        assert words("if (( x > 3 )); then a; fi") == [["a"]]

    def test_case_takes_the_way_of_a_known_value(self) -> None:
        script = "case $NAME in qwen) a;; llama|other) b;; *) c;; esac"
        assert words(script) == [["b"]]

    def test_case_takes_every_way_of_an_unknown_value(self) -> None:
        script = "case $SECRET in x) a;; (y) b;; *) c;; esac"
        assert words(script) == [["a"], ["b"], ["c"]]

    @pytest.mark.parametrize("pattern", ["l*", "ll?ma", "[a-z]lama"])
    def test_case_takes_a_pattern_that_may_match(self, pattern: str) -> None:
        assert words(f"case $NAME in {pattern}) a;; *) b;; esac") == [["a"], ["b"]]


class TestLoops:
    def test_for_takes_each_word(self) -> None:
        script = "for m in one $TWO 'c d'; do x \"$m\"; done"
        assert words(script) == [["x", "one"], ["x", "a"], ["x", "b"], ["x", "c d"]]

    def test_for_over_lines(self) -> None:
        assert words('L="\n one\n two\n"\nfor m in $L\ndo\n x $m\ndone') == [
            ["x", "one"],
            ["x", "two"],
        ]

    def test_for_over_an_unknown_list_is_taken_once(self) -> None:
        assert words("for m in $(ls); do x $m; done")[-1] == ["x", None]

    def test_for_over_the_scripts_arguments(self) -> None:
        script = 'for m; do x $m; done; for m in "$@"; do y $m; done'
        assert words(script, arguments=["1", "2"]) == [
            ["x", "1"],
            ["x", "2"],
            ["y", "1"],
            ["y", "2"],
        ]

    def test_c_style_for_is_taken_once(self) -> None:
        assert words("for ((i=0; i<3; i++)); do x $i; done") == [["x", None]]

    def test_loops_in_loops(self) -> None:
        script = "for a in 1 2; do for b in x y; do c $a$b; done; done"
        assert [w[1] for w in words(script)] == ["1x", "1y", "2x", "2y"]

    def test_while_runs_its_condition_and_its_body(self) -> None:
        assert words("while true; do a; done") == [["true"], ["a"]]
        assert words("until curl http://h; do sleep 1; done; b") == [
            ["curl", "http://h"], ["sleep", "1"], ["b"],
        ]  # fmt: skip

    def test_what_a_while_loop_sets_is_unknown_after_it(self) -> None:
        assert words("X=1; while b; do X=2; done; a $X")[-1] == ["a", None]

    def test_while_read_takes_each_line_of_a_here_document(self) -> None:
        script = """
            while IFS= read -r m; do
              x "$m"
            done <<EOF
            one
            $NAME

            EOF
        """
        assert words(script) == [["x", "one"], ["x", "llama"]]

    def test_while_read_cuts_lines_into_several_variables(self) -> None:
        script = "while read -r repo dir; do x $repo $dir; done <<EOF\na/b /m/b\nc\nEOF\n"
        assert words(script) == [["x", "a/b", "/m/b"], ["x", "c"]]

    def test_while_read_with_another_separator_is_unknown(self) -> None:
        script = "while IFS=, read repo dir; do x $repo $dir; done <<EOF\na/b,/m/b\nEOF\n"
        assert words(script) == [["x", None, None]]

    def test_while_read_of_a_pipe_is_unknown(self) -> None:
        assert words("cat /list | while read m; do x $m; done") == [["cat", "/list"], ["x", None]]


class TestFunctions:
    @pytest.mark.parametrize("head", ["f()", "f ()", "function f", "function f()", "f()\n"])
    def test_a_function_runs_where_it_is_called(self, head: str) -> None:
        script = f"{head} {{ a $1 $NAME; }}; b; f x; NAME=y; f z"
        assert words(script) == [["b"], ["a", "x", "llama"], ["a", "z", "y"]]

    def test_a_function_that_is_never_called_does_not_run(self) -> None:
        assert words("f() { a; }; b") == [["b"]]

    def test_return_ends_the_function_alone(self) -> None:
        assert words("f() { a; return; b; }; f; c") == [["a"], ["c"]]

    def test_its_arguments_are_gone_after_it(self) -> None:
        assert words("f() { a $1; }; f x; b $1", arguments=["y"]) == [["a", "x"], ["b", "y"]]

    def test_a_function_may_call_another(self) -> None:
        assert words("f() { g $1; }; g() { a $1; }; f x") == [["a", "x"]]


class TestGroups:
    def test_what_a_subshell_sets_stays_inside(self) -> None:
        assert words("X=1; (X=2; a $X); b $X") == [["a", "2"], ["b", "1"]]

    def test_an_exit_of_a_subshell_ends_it_alone(self) -> None:
        assert words("(exit 1); a") == [["a"]]

    def test_what_a_group_sets_holds(self) -> None:
        assert words("X=1; { X=2; }; b $X") == [["b", "2"]]


class TestInputAndOutput:
    def test_a_here_document_is_the_input_of_its_command(self) -> None:
        (command,) = ran("python3 - <<EOF\nprint('$NAME \\$x \\\"')\nEOF\n")
        assert command.stdin == "print('llama $x \\\"')\n"

    @pytest.mark.parametrize("delimiter", ["'EOF'", '"EOF"', "\\EOF"])
    def test_a_quoted_delimiter_keeps_the_text_as_it_is(self, delimiter: str) -> None:
        (command,) = ran(f"python3 <<{delimiter}\n$NAME `x` \\n\nEOF\n")
        assert command.stdin == "$NAME `x` \\n\n"

    def test_tabs_in_front_are_taken_off_where_asked(self) -> None:
        (command,) = ran("a <<-EOF\n\tx\n\tEOF\n")
        assert command.stdin == "x\n"

    def test_commands_after_a_here_document_are_read(self) -> None:
        assert words("a <<EOF && b\nx; y\nEOF\nc") == [["a"], ["b"], ["c"]]

    def test_two_here_documents_on_a_line(self) -> None:
        first, second = ran("a <<X; b <<Y\n1\nX\n2\nY\n")
        assert (first.stdin, second.stdin) == ("1\n", "2\n")

    def test_an_open_here_document_reads_to_the_end(self) -> None:
        (command,) = ran("a <<EOF\nx\n")
        assert command.stdin == "x\n"

    def test_a_here_string(self) -> None:
        (command,) = ran('a <<< "$NAME"')
        assert command.stdin == "llama"

    @pytest.mark.parametrize(
        ("redirection", "output"),
        [
            ("> /x", "/x"), (">> /x", "/x"), ("1> /x", "/x"), (">$DIR/x", "/models/x"),
            ("> $SECRET", None), ("", ""), ("2> /dev/null", ""), ("2>&1", ""), ("< /x", ""),
            ("> /x 2>&1", "/x"), ("> /x 2>/dev/null", "/x"),
        ],
    )  # fmt: skip
    def test_output_goes_to(self, redirection: str, output: str | None) -> None:
        assert ran(f"a {redirection}")[0].output == output


class TestBounds:
    """However a script is written, reading it takes a bounded number of steps and never raises."""

    DEEP = 10_000

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param("x=" + "${a:-" * DEEP + "}" * DEEP, id="defaults"),
            pytest.param("x=" + "$(" * DEEP + ")" * DEEP, id="substitutions"),
            pytest.param('x="' + '$("' * DEEP, id="quotes"),
            pytest.param("( " * DEEP, id="subshells"),
            pytest.param("{ " * DEEP, id="braces"),
            pytest.param("if a; then " * DEEP + "fi;" * DEEP, id="ifs"),
            pytest.param("for x in 1 2 3; do " * DEEP, id="loops"),
            pytest.param("case $x in *) " * DEEP, id="cases"),
            pytest.param("for x in 1 2 3 4 5 6 7 8 9; do " * 39 + "a;" + "done;" * 39, id="9^39"),
            pytest.param("f() { f; f; }; f", id="recursion"),
            pytest.param("f() { " + "if a; then " * 30 + "f;" + "fi;" * 30 + "}; f", id="calls"),
            pytest.param("a=(1 2)\n" + "a=(${a[@]} ${a[@]})\n" * 1000, id="doubling an array"),
            pytest.param("set -- 1 2\n" + 'set -- "$@" "$@"\n' * 1000, id="doubling arguments"),
            pytest.param(
                "".join(f"a{i}=1\n" for i in range(5000)) + "a\n" * 5000, id="variables x commands"
            ),
            pytest.param(
                f"for i in {'x ' * 3000}; do a=$(b # {'c' * 50_000}\n); done", id="parsing again"
            ),
            pytest.param(
                f"for i in {'x ' * 3000}; do a <<'E'\n{'c' * 50_000}\nE\ndone", id="one long input"
            ),
        ],
    )  # fmt: skip
    def test_what_is_too_deep_or_too_much_is_left_out_and_said(self, script: str) -> None:
        done = run(script, {})
        assert not done.complete
        assert len(done.commands) <= 10_000
        held = sum(len(command.variables) + len(command.words) for command in done.commands)
        assert held <= 250_000

    @staticmethod
    def ample() -> Budget:
        """Return what takes no part in where reading ends."""
        return Budget(steps=10_000, characters=1_000_000)

    @pytest.mark.parametrize(
        "script",
        ["a\n" * 5000, "a " * 50_000, "a '" + "x" * 60_000 + "'", "#" * 100_000, " \\\n" * 80_000],
        ids=["commands", "words", "a word", "a comment", "lines"],
    )  # fmt: skip
    def test_what_is_only_long_is_read_to_its_end(self, script: str) -> None:
        assert run(script, {}, budget=self.ample()).complete

    def test_a_value_that_grows_without_end_becomes_unknown(self) -> None:
        doubled = "X=xxxxxxxx\n" + "X=$X$X\n" * 1000
        done = run(f"{doubled}a $X", {}, budget=self.ample())
        assert [command.words for command in done.commands] == [("a", None)]

    def test_arithmetic_is_skipped_however_deep(self) -> None:
        assert words("(" * self.DEEP + "x" + ")" * self.DEEP + "; a") == [["a"]]

    def test_a_script_that_no_object_holds_is_not_read(self) -> None:
        done = run("a;" * (LONGEST_SCRIPT // 2 + 1), {})
        assert (done.commands, done.complete) == ((), False)

    def test_what_came_before_the_end_of_the_reading_is_kept(self) -> None:
        done = run("a; b\n" + "(" * 100 + "c", {})
        assert [command.words for command in done.commands] == [("a",), ("b",)]

    def test_scripts_that_run_one_another_share_a_budget(self) -> None:
        budget = Budget(steps=10)
        assert run("a;" * 6, {}, budget=budget).complete
        assert not run("a;" * 6, {}, budget=budget).complete


PIECES = st.sampled_from(
    [
        *"$(){}[]<>|&;'\"`\\\n# =!*~-a",
        *(
            "<<E\n",
            "E\n",
            "if ",
            "then ",
            "fi ",
            "else ",
            "for x in ",
            "do ",
            "done ",
            "case x in ",
        ),
        *(
            "esac ",
            ";;",
            "while read a ",
            "f() ",
            "${a:-",
            "$((",
            "[[ ",
            "]] ",
            "=(",
            "cd ",
            "exit ",
        ),
        *("shift ", "set -- ", "export ", "unset ", "$@", "${!a", "+=", "2>", "{a,", "sh -c "),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200))
def test_no_script_is_refused(script: str) -> None:
    done = run(script, {"a": "1 2", "b": None}, arguments=["x", None])
    assert all(command.words for command in done.commands)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_any_text_in_single_quotes_is_itself(texts: list[str]) -> None:
    quoted = ["'" + text.replace("'", "'\\''") + "'" for text in texts]
    assert [list(c.words) for c in run("a " + " ".join(quoted), {}).commands] == [["a", *texts]]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_value_in_double_quotes_is_itself(value: str) -> None:
    (command,) = run('a "$X"', {"X": value}).commands
    assert command.words == ("a", value)
