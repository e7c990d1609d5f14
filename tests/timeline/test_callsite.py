"""The place of something in the source: file, line, and the function that it is in."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from itkit.timeline import callsite

SOURCE = '''"""A module."""

FIRST = 3


def plain(a,
          b):
    return a, \\
        b


@decorated
@twice
def after():
    x = [
        call()
        for _ in range(3)
    ]

    def inner():
        return lambda: 5

    return inner


class Kind:
    attribute = 5

    async def method(self):
        pass
'''
MARKED = """
def work():
    mark(
        mark(1),
    )
    mark()
    [mark(n) for n in range(2)]
    try:
        raise ValueError(
            mark(),
            mark(),
        )
    except ValueError:
        pass
    for _ in range(1):
        mark()
    yield

def last(): yield from work()
for _ in last(): mark()
"""
EXPECTED = {
    1: "", 3: "", 6: "plain", 8: "plain", 9: "plain", 12: "after", 15: "after", 17: "after",
    21: "inner", 23: "after", 27: "", 29: "method", 30: "method",
}  # fmt: skip


@pytest.mark.parametrize("line", EXPECTED)
def test_the_function_of_a_line(line, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(SOURCE)

    assert callsite.site({"__file__": str(file)}, line).function == EXPECTED[line]


@pytest.mark.parametrize("text", ["{% if %}", "\0", "def broken(:"])
def test_what_is_no_python_has_no_functions(text, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(text)

    assert str(callsite.site({"__file__": str(file)}, 1)) == f"{file}:1"


def test_a_module_without_a_file_is_shown_by_its_name():
    assert str(callsite.site({"__name__": "made.up"}, 3)) == "<made.up>:3"


def test_a_warning_of_the_compiler_is_not_told_again(tmp_path, recwarn):
    file = tmp_path / "module.py"
    file.write_text('def f():\n    return "\\d"\n')

    assert callsite.site({"__file__": str(file)}, 2).function == "f"
    assert not recwarn.list


def test_many_threads_at_once(tmp_path):
    files = [tmp_path / f"module_{number}.py" for number in range(64)]
    for file in files:
        file.write_text(SOURCE * 20)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda file: callsite.site({"__file__": str(file)}, 6), files))
    finally:
        sys.setswitchinterval(interval)
    assert {site.function for site in found} == {"plain"}


def test_the_first_frame_outside_of_libraries_is_the_users():
    def call():
        return callsite.outside_of_libraries(sys._getframe())

    frames = list(map(lambda _: call(), [1]))  # noqa: C417 - through C
    assert frames[0].f_code.co_name == "call"


def test_a_spot_is_found_later_on_the_line_where_the_frame_was():
    code = compile(MARKED, "module.py", "exec")
    seen = []

    def mark(value=None):
        frame = sys._getframe(1)
        seen.append((frame.f_lineno, callsite.spot(frame), frame))
        return value

    exec(code, {"mark": mark, "__file__": "module.py"})

    lines = [line for line, _, _ in seen]
    assert lines == [4, 3, 6, 7, 7, 10, 11, 16, 20]
    assert [
        callsite.site({}, spot).line for _, spot, _ in seen
    ] == lines  # the frames are elsewhere


def test_a_spot_of_what_stands_for_a_frame_is_its_line():
    submitter = callsite.Submitter(sys._getframe())

    assert callsite.spot(submitter) == submitter.f_lineno
    assert callsite.site({}, callsite.spot(submitter)).line == submitter.f_lineno


def test_a_path_is_shown_from_where_the_command_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    for path in (tmp_path / "shop/views.py", tmp_path / "shop/../shop/views.py"):
        assert str(callsite.CallSite(str(path), 3, "view")) == "shop/views.py:3 in view"
    assert str(callsite.CallSite("/elsewhere/a.py", 3, "")) == "/elsewhere/a.py:3"
