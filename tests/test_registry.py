"""What the modules of a folder register is found without a list."""

import pytest

from fishertail import registry
from fishertail.data.source import BuiltIn, Source

PACKAGE = {
    "one.py": "from fishertail.data.source import Source\nSOURCE = Source('one', 'first', print)\n",
    "two.py": "from fishertail.data.source import Source\nSOURCE = Source('two', 'second', print)\n",
    "other.py": "nothing = 1\n",
}


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """What a package of these files registers."""

    def made(name: str, files: dict[str, str]) -> dict[str, Source]:
        (tmp_path / name).mkdir()
        for file, text in ({"__init__.py": ""} | files).items():
            (tmp_path / name / file).write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return registry.registered(name, "SOURCE", Source, frozenset({"other"}))

    return made


def test_what_the_modules_of_a_folder_register_is_found_by_name(registered):
    found = registered("some_sources", PACKAGE)
    assert list(found) == ["one", "two"]
    assert registry.module_of("some_sources", "SOURCE", found["two"], frozenset({"other"})) == "two"
    with pytest.raises(ValueError, match="is not registered in some_sources"):
        registry.module_of("some_sources", "SOURCE", BuiltIn("x", 1, "x"), frozenset({"other"}))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("lacking", "", r"three\.py: SOURCE, a Source, expected, found None"),
        ("foreign", "SOURCE = 3", r"three\.py: SOURCE, a Source, expected, found 3"),
        ("doubled", PACKAGE["two.py"], r"two\.py: SOURCE has the name 'two', which another module also has"),
    ],
)
def test_a_module_that_registers_nothing_or_a_name_again_is_named(registered, name, text, fault):
    with pytest.raises(TypeError, match=fault):
        registered(name, PACKAGE | {"three.py": text})
