"""Parameters of notebooks: declared with their types, and anything else is refused before it does anything."""

from __future__ import annotations

import re

import pytest
from IPython.core.interactiveshell import InteractiveShell

from chaoslab import parameters
from chaoslab.errors import UsageError
from chaoslab.parameters import declared, require

CELL = """repeats: int = 3  # runs of each scenario
scale: float = 1.0  # factor
names: list[str] = []  # scenarios
margins: dict[str, float] = {}  # by metric
seed: int = None  # drawn if None
anything = 5  # of no declared type
yes: bool = False  # whether"""


def test_a_line_declares_name_type_default_and_help() -> None:
    found = declared(CELL)
    assert list(found) == ["repeats", "scale", "names", "margins", "seed", "anything", "yes"]
    assert (found["repeats"].type, found["repeats"].default, found["repeats"].help) == (
        "int",
        3,
        "runs of each scenario",
    )
    assert found["margins"].type == "dict[str, float]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("repeats", 5),
        ("scale", 0.5),
        ("scale", 2),
        ("names", ["a"]),
        ("margins", {"mttr_seconds": 1.0}),
        ("seed", None),
        ("seed", 7),
        ("anything", "whatever"),
        ("yes", True),
    ],
)
def test_what_fits_the_type_is_accepted(name: str, value: object) -> None:
    require(declared(CELL), {name: value}, source="n")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("repeats", "five", "n: repeats is 'five'; accepted: int (runs of each scenario)"),
        ("repeats", True, "repeats is True; accepted: int"),
        ("repeats", 3.5, "repeats is 3.5; accepted: int"),
        ("repeats", None, "repeats is None; accepted: int"),
        ("names", "a", "names is 'a'; accepted: list[str] (scenarios); with papermill: -y 'names: [...]'"),
        ("names", [1], "names is [1]; accepted: list[str]"),
        ("yes", "yes", "yes is 'yes'; accepted: bool"),
        ("repeat", 5, "n: there is no parameter 'repeat' (did you mean 'repeats'?); accepted: repeats, scale"),
    ],
)
def test_what_does_not_is_refused_with_what_is_accepted(name: str, value: object, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        require(declared(CELL), {name: value}, source="n")
    assert words in str(refused.value)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        require(declared(CELL), {"repeats": "x", "scale": "y"}, source="n")
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os", "holds `import os`; accepted: name: type = literal"),
        ("a: int = len([])  # x", "the parameter a is no literal"),
        ("a: Path = ''  # x", "the type 'Path' of a parameter is not known; accepted: str, int"),
        ("a: = 3", "is not Python"),
    ],
)
def test_a_cell_that_declares_something_else_is_refused(source: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        declared(source)


class TestCheckInACell:
    """As papermill does it: the parameters cell is executed, then the injected one, then the notebook's own."""

    @pytest.fixture
    def shell(self, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
        shell = InteractiveShell()
        monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
        return shell

    def run(self, shell: InteractiveShell, *cells: str) -> str:
        for cell in cells:
            shell.run_cell(cell, store_history=True).raise_error()
        try:
            parameters.check()
        except UsageError as error:
            return str(error)
        return ""

    def test_what_fits_passes(self, shell: InteractiveShell) -> None:
        assert self.run(shell, CELL, "# Parameters\nrepeats = 5\n") == ""

    def test_an_unknown_name_that_was_injected_is_refused(self, shell: InteractiveShell) -> None:
        assert "no parameter 'repeat' (did you mean 'repeats'?)" in self.run(shell, CELL, "# Parameters\nrepeat = 5\n")

    def test_a_value_of_another_type_is_refused_injected_or_typed(self, shell: InteractiveShell) -> None:
        assert "repeats is 'five'" in self.run(shell, CELL, "# Parameters\nrepeats = 'five'\n")
        assert "scale is 'x'" in self.run(shell, CELL.replace("1.0  # factor", "'x'  # factor"))

    def test_cells_of_the_readers_own_are_no_parameters(self, shell: InteractiveShell) -> None:
        assert self.run(shell, CELL, "scratch = 5", "print('hello')") == ""

    def test_a_cell_that_runs_again_is_what_counts(self, shell: InteractiveShell) -> None:
        assert self.run(shell, CELL, "# Parameters\nrepeat = 5\n", CELL) == ""

    def test_without_a_parameters_cell_nothing_can_be_checked(self, shell: InteractiveShell) -> None:
        assert "run the notebook from its top" in self.run(shell, "x = 1")


def test_outside_a_notebook_it_says_so() -> None:
    with pytest.raises(UsageError, match="there is no notebook here"):
        parameters.check()
