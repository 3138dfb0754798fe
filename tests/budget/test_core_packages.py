"""How many packages `pip install inferd` brings, counted from the metadata of what is installed."""

from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MAX_PACKAGES = 25


def closure(name: str) -> set[str]:
    """Every distribution that installing ``name`` brings here, with the extras that its dependants ask for."""
    seen: set[tuple[str, str]] = set()
    todo = [(name, "")]
    while todo:
        distribution, extra = todo.pop()
        if (distribution, extra) in seen:
            continue
        seen.add((distribution, extra))
        for text in requires(distribution) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return {distribution for distribution, _ in seen}


def test_the_core_install_is_at_most_25_packages_with_inferd_itself():
    packages = closure("inferd")
    assert {"inferd", "fastapi", "pydantic-core", "numpy"} <= packages
    assert len(packages) <= MAX_PACKAGES, sorted(packages)


def test_no_framework_is_in_the_core_install():
    assert closure("inferd").isdisjoint({"onnxruntime", "torch", "scikit-learn", "skops", "scipy", "grpcio"})
