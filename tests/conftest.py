"""Fixtures shared by all tests: small real models, each built once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import model_builders
from model_builders import Built

# Nothing here fails because the machine was slow.
settings.register_profile("inferd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("inferd")

Builder = Callable[[Path], Built]


@pytest.fixture(scope="session")
def build(tmp_path_factory) -> Callable[[Builder], Built]:
    """Runs one of the builders of ``model_builders``, the first time it is asked for."""
    done: dict[Builder, Built] = {}

    def run(builder: Builder) -> Built:
        if builder not in done:
            done[builder] = builder(tmp_path_factory.mktemp(builder.__name__))
        return done[builder]

    return run


@pytest.fixture(scope="session")
def iris_onnx() -> Built:
    return model_builders.example("iris-onnx", "iris.onnx")


@pytest.fixture(scope="session")
def iris_skops() -> Built:
    return model_builders.example("iris", "iris.skops")


@pytest.fixture(scope="session")
def digits() -> Built:
    return model_builders.example("digits", "digits.pt2")
