"""OpenAI's own SDK, pointed at a running gateway."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.fleet import Serving


@pytest.fixture(scope="session")
def _sdk(_gateway: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{_gateway.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def sdk(gateway: Serving, _sdk: openai.OpenAI) -> openai.OpenAI:
    return _sdk
