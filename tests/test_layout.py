"""Which file needs which: what may be copied, and runs."""

import ast
import configparser
import re
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT, SCRIPTS

FILES = {path.stem: ast.parse(path.read_bytes()) for path in ROOT.glob("*.py")}
TABLES = {"tables", "sampling", "rules", "rulesearch", "columns", "dates", "csvfile"}
SHARED = {"common", "cli", "images", *TABLES}
NAMES = {"sklearn": "scikit-learn", "PIL": "matplotlib"}  # of packages; matplotlib brings Pillow


def imports(name):
    """The modules that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module.partition(".")[0])
    return modules


def all_imports(name):
    """The same of a file and of the files of the project that it imports."""
    modules = imports(name)
    return modules.union(*(all_imports(own) for own in modules & set(FILES)))


def names(node):
    """The names that a part of a file uses."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def test_common_is_what_a_train_needs_and_no_more():
    unwanted = {"argparse", "json", "pathlib", "signal", "sys", *FILES}
    assert not imports("common") & unwanted
    assert "print" not in names(FILES["common"])


def test_a_file_imports_what_is_copied_with_it():
    allowed = {
        "common": set(),
        "cli": {"common"},
        "columns": {"common", "dates"},
        "dates": set(),
        "csvfile": {"common"},
        "images": {"common", "cli"},
        "rules": {"columns"},
        "rulesearch": {"common", "rules", "columns"},
        "sampling": {"common", "cli", "rules", "columns"},
        "tables": {"common", "cli", "sampling", "rules", "rulesearch", "columns"},
    }
    for name in FILES:
        assert imports(name) & set(FILES) <= allowed.get(name, SHARED), name


def test_heads_and_requirements_name_what_the_scripts_import():
    required = set()
    for script in FILES.keys() - SHARED:
        _, head, _ = (ROOT / f"{script}.py").read_text().split("# ///", 2)
        lines = [line.removeprefix("# ") for line in head.splitlines()[1:]]
        dependencies = tomllib.loads("\n".join(lines))["dependencies"]
        packages = all_imports(script) - set(FILES) - sys.stdlib_module_names
        named = {dependency.partition(">=")[0] for dependency in dependencies}
        assert named == {NAMES.get(package, package) for package in packages}, script
        required.update(dependencies)
    assert required == {*(ROOT / "requirements.txt").read_text().split(), "torchvision"}


def test_the_oldest_versions_and_the_oldest_and_newest_python_are_tested():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    oldest = tox["testenv:oldest"]
    for requirement in (ROOT / "requirements.txt").read_text().split():
        if ">=" in requirement:
            assert requirement.replace(">=", "==") + ".*" in oldest["deps"].split()
    pythons = re.findall(r"py\d+", tox["tox"]["env_list"])
    assert oldest["base_python"] == pythons[0]
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert f"TOXENV: lint,{pythons[0]},{pythons[-1]},oldest\n" in workflow
    for script in FILES.keys() - SHARED:
        first, last = pythons[0][2], pythons[0][3:]
        assert f'# requires-python = ">={first}.{last}"' in (ROOT / f"{script}.py").read_text()


def train_alone(script):
    """The source of a script without its `main` and what only that needs."""
    parts = []
    for node in FILES[script].body:
        is_cli = isinstance(node, ast.Import) and node.names[0].name == "cli"
        is_main = getattr(node, "name", "") == "main" or isinstance(node, ast.If)
        if not (is_cli or is_main):
            parts.append(ast.unparse(node))
    return "\n".join(parts)


@pytest.mark.parametrize("graph", [True, False])
def test_a_train_runs_with_common_alone(graph, tmp_path, monkeypatch):
    source = train_alone("exp_curve_gan")
    common = (ROOT / "common.py").read_text()
    if not graph:  # without its last section, and without the decorator
        common, _ = common.split("# --- A training step as a CUDA graph")
        lines = [line for line in source.splitlines() if "cuda_graph" not in line]
        source = "\n".join(lines)
    for name in FILES:
        monkeypatch.setitem(sys.modules, name, None)  # cannot be imported
    monkeypatch.delitem(sys.modules, "common")
    (tmp_path / "common.py").write_text(common)
    monkeypatch.syspath_prepend(tmp_path)
    curve = {"__name__": "curve"}
    exec(source, curve)
    assert Path(curve["common"].__file__).parent == tmp_path
    training = curve["train"](curve["real_samples"](100), epochs=1, progress=False)
    assert training.samples.shape == (16384, 2)


def test_each_script_is_tested():
    assert {script.__name__ for script in SCRIPTS} | {"dcgan_multigpu"} == FILES.keys() - SHARED
