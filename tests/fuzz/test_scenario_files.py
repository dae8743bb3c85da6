"""A damaged or hostile scenario file is read or refused with file and line, in bounded time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoslab import share
from chaoslab.errors import ScenarioFileError
from chaoslab.scenario_file import LONGEST, load, parse
from tests.fuzz import EXAMPLES, examples

SHIPPED = share.scenario_file().read_text(encoding="utf-8")
LINES = SHIPPED.splitlines(keepends=True)


def refusal(text: str) -> str:
    """What a file is refused with, or an empty string; each line of it must name file and line."""
    try:
        parse(text, source="s.yml")
    except ScenarioFileError as error:
        said = str(error)
    else:
        return ""
    assert all(re.match(r"s\.yml(:\d+)?: .", line) for line in re.split(r"\n(?=s\.yml)", said)), said
    assert "s.yml:" in said
    return said


def some(count: int) -> range:
    return range(0, count, 1 if EXAMPLES else max(1, count // 20))


def test_the_shipped_file_cut_at_any_line_is_read_or_refused() -> None:
    for cut in some(len(LINES)):
        refusal("".join(LINES[:cut]))
        refusal("".join(LINES[cut:]))


VALUES = ["-1", "'x'", "[1]", "{a: 1}", "~", "true", ".nan", ".inf", "1e999", "9" * 400, "0x" + "f" * 60, "2001-13-45"]


def test_any_value_of_the_shipped_file_may_be_of_another_type() -> None:
    keyed = [place for place, line in enumerate(LINES) if re.search(r": \S", line)]
    for step in some(len(keyed)):
        place, value = keyed[step], VALUES[step % len(VALUES)]
        line = re.sub(r": .*", lambda _, value=value: f": {value}", LINES[place], count=1)
        refusal("".join([*LINES[:place], line, *LINES[place + 1 :]]))


@examples(15)
@given(data=st.data())
def test_characters_may_be_flipped_anywhere(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(LINES) - 1))
    line = LINES[place]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line)))
        what = data.draw(st.sampled_from(list("\t :-{}[]&*!|>'\"%@`#,?\\\n")) | st.characters())
        line = line[:at] + what + line[at + data.draw(st.integers(0, 1)) :]
    refusal("".join([*LINES[:place], line, *LINES[place + 1 :]]))


@examples(40)
@given(
    st.recursive(
        st.sampled_from(
            ["scenarios", "name", "type", "*a", "~", "1", ".inf", "<<", "!!python/name:os.system x", "'\\0'"]
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
            st.lists(st.tuples(inner, inner), max_size=3).map(
                lambda pairs: f"{{{', '.join(f'? {key} : {value}' for key, value in pairs)}}}"
            ),
            inner.map(lambda part: f"&a {part}"),
            inner.map(lambda part: f"!!set {part}"),
        ),
        max_leaves=12,
    )
)
def test_whatever_yaml_can_say_is_read_or_refused(text: str) -> None:
    refusal(text)
    refusal(f"scenarios: {text}")
    refusal(f"scenarios: []\nmonitoring: {{alerts: {text}}}")


def bomb(key: str, *, merge: bool = False) -> str:
    start = "&a0 {x: 1}" if merge else "&a0 [x, x, x, x, x, x, x, x, x]"
    layers = [
        f"    a{n}: &a{n}{' {<<: [' if merge else ' ['}{', '.join([f'*a{n - 1}'] * 9)}{']}' if merge else ']'}\n"
        for n in range(1, 12)
    ]
    return f"{key}:\n    a0: {start}\n" + "".join(layers)


HOSTILE = {
    "a billion laughs": bomb("scenarios"),
    "a billion laughs where anything goes": "scenarios: []\nmonitoring:\n  alerts:\n" + bomb("x")[3:],
    "a billion merged keys": "scenarios: []\nmonitoring:\n  alerts:\n" + bomb("x", merge=True)[3:],
    "itself": "scenarios: &a [*a]",
    "itself where anything goes": "scenarios: []\nmonitoring: {alerts: &a [*a]}",
    "deep": "scenarios: " + "[" * 500,
    "deep and closed": "scenarios: " + "[" * 80 + "]" * 80,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(120)),
    "long number": f"scenarios: {'9' * 5000}",
    "sexagesimal number": f"scenarios: 1{':1' * 3000}",
    "size beyond floats": "scenarios: [{name: A, type: memory_stress, duration: 1, parameters: "
    f"{{memory_size: '{'9' * 400}G'}}}}]",
    "python object": "scenarios: !!python/object/apply:os.system ['touch /tmp/x']",
    "unknown tag": "scenarios: !foo [1]",
    "no such day": "scenarios: 2001-13-45",
    "no such zone": "scenarios: 2001-12-14t21:59:43.10-99:00",
    "tab": "scenarios:\n\t- {name: A}",
    "twice": "scenarios: []\nscenarios: []",
    "key that is a list": "? [a, b]\n: 3",
    "null key": "~: 3\nscenarios: []",
    "NUL": 'scenarios: [{name: "\\0", type: control, duration: 3}]',
    "half a character": 'scenarios: [{name: "\\ud800", type: control, duration: 3}]',
    "two documents": "scenarios: []\n---\nscenarios: []",
    "many wrong keys": "".join(f"k{n}: 1\n" for n in range(3000)),
    "too long": "# " + "x" * LONGEST,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(text: str) -> None:
    assert refusal(text)


def test_of_very_many_faults_the_rest_is_counted() -> None:
    said = refusal(HOSTILE["many wrong keys"]).splitlines()
    assert len(said) == 101
    assert said[-1] == "s.yml: and 2901 more"


def test_hostile_files_take_bounded_time_and_memory(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.yml" for number in range(len(HOSTILE))]
    for file, text in zip(files, HOSTILE.values(), strict=True):
        file.write_text(text, encoding="utf-8")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from chaoslab.errors import ScenarioFileError\n"
        "from chaoslab.scenario_file import load\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        load(Path(name))\n"
        "    except ScenarioFileError:\n        continue\n"
        "    raise SystemExit(f'{name} was read')\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        # Not ru_maxrss: that begins with what the process that starts this one had.
        "peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line)\n"
        "print(used.ru_utime + used.ru_stime, int(peak.split()[1]) // 1024)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, ended.stdout.split())
    assert seconds < 20
    assert megabytes < 300


def test_what_is_no_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yml"
    file.write_bytes(b"scenarios: []\n# caf\xe9\n")
    with pytest.raises(ScenarioFileError, match=r"s\.yml:2: not text in UTF-8"):
        load(file)


def test_a_folder_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFileError, match="cannot be read: it is not a file"):
        load(tmp_path)


def test_a_shared_part_behind_an_alias_is_still_read() -> None:
    text = "scenarios:\n- &a {name: A, type: control, duration: 3}\n- {<<: *a, name: B}\n"
    assert [scenario.name for scenario in parse(text).scenarios] == ["A", "B"]
