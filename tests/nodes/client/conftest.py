from __future__ import annotations

import pytest

from tests.nodes.client.world import World


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()
