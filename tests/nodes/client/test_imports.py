"""What makes an import connect anew or leaves it alone: its file, lctl --device, fault points."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_SOME, Armed
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import State
from tests.nodes.client.world import World


@pytest.fixture
def world() -> Any:
    made = World(clients=1, osts=1)
    made.nodes[0].host.params.set("osc.*.idle_timeout", "0")
    yield made
    made.close()


def went(world: World, kind: str = "osc") -> list[str]:
    """The states that the import has come to since it was asked last."""
    imp = (world.nodes[0].oscs if kind == "osc" else world.nodes[0].mdcs)[0].imp
    world.settle()
    found = [event.fields[1] for event in world.cluster.trace.events
             if event.kind == "import.state" and event.fields[0] == imp.name]  # fmt: skip
    seen = world.__dict__.setdefault("seen", {})
    before, seen[kind] = seen.get(kind, 0), len(found)
    return found[before:]


ANEW = ["DISCON", "CONNECTING", "RECOVER", "FULL"]


@pytest.mark.parametrize("kind", ["osc", "mdc"])
def test_writing_a_connection_makes_the_import_go_there(world: World, kind: str) -> None:
    device = (world.nodes[0].oscs if kind == "osc" else world.nodes[0].mdcs)[0]
    c0, instance = world.cluster.client(0), device.imp.connect_data.instance
    nid = world.param(f"{kind}.*.import").partition("current_connection: ")[2].split()[0]
    assert (went(world, kind)[-1], instance) == ("FULL", 1)
    for text, came in (
        (f"{nid}::{instance}", []),
        (f"{nid}::{instance + 1}", ANEW),
        (nid, ANEW),
        (f"{nid}::", ANEW),
        (f"{nid}::x", []),
        ("10.9.9.9@tcp::7", ANEW),
    ):
        said = c0.run(f"lctl set_param -n {kind}.*.import=connection={text}")
        assert (said.status, said.output) == (0, "")
        assert went(world, kind) == came, text
    for text in ("1", "connection="):
        assert c0.run(f"lctl set_param -n {kind}.*.import={text}").status == 22


def test_lctl_switches_an_import_off_and_on(world: World) -> None:
    c0, osc = world.cluster.client(0), world.nodes[0].oscs[0]
    world.make("f", b"kept")
    c0.run("sync")
    went(world)
    said = c0.run(f"lctl --device {osc.name} deactivate")
    assert (said.status, said.output, osc.imp.deactivated) == (0, "", True)
    assert world.param("osc.*.active") == "0\n"
    assert "deactive" in world.param("osc.*.import")
    began = world.env.now
    assert c0.run("cat f").errno_name == "ESHUTDOWN"
    assert world.env.now - began < NS_PER_S
    said = c0.run(f"lctl --device {osc.name} recover")
    assert said.stderr == "error: recover: Invalid argument\n"
    assert c0.run(f"lctl --device {osc.name} activate").status == 0
    assert osc.imp.state is State.FULL, "activate waits for it"
    assert went(world) == ["DISCON", "CONNECTING", "EVICTED", "RECOVER", "FULL"]
    assert c0.run(f"lctl --device {osc.name} activate").status == 0
    assert went(world) == []
    assert c0.run("cat f").stdout == "kept"


def test_lctl_recover_connects_anew(world: World) -> None:
    c0, osc, mdc = world.cluster.client(0), world.nodes[0].oscs[0], world.nodes[0].mdcs[0]
    went(world), went(world, "mdc")
    assert c0.run(f"lctl --device {osc.name} recover").status == 0
    assert c0.run(f"lctl --device {mdc.name} recover {mdc.imp.peer}").status == 0
    assert went(world) == went(world, "mdc") == ANEW
    said = c0.run(f"lctl --device {osc.name} recover 10.9.9.9@tcp")
    assert said.stderr == "error: recover: No such file or directory\n"
    assert c0.run("lctl --device lustre-OST0000-osc recover").errno_name == "ENODEV"
    mds0 = world.cluster.node("mds0")
    assert mds0.run("lctl --device lustre-OST0000-osc-MDT0000 deactivate").status == 0
    assert mds0.run("lctl get_param -n osp.*.active").stdout == "0\n"
    assert mds0.run("lctl --device lustre-OST0000-osc-MDT0000 activate").status == 0


def test_recover_gives_up_after_obd_timeout(world: World) -> None:
    c0, osc = world.cluster.client(0), world.nodes[0].oscs[0]
    world.run(world.cluster.node("oss0").kill())
    began = world.env.now
    said = c0.run(f"lctl --device {osc.name} recover")
    assert said.stderr == "error: recover: Connection timed out\n"
    assert world.env.now - began == 100 * NS_PER_S


def test_a_pinger_that_takes_imports_for_switched_off_leaves_them_alone(world: World) -> None:
    """PTLRPC_IMP_DEACTIVE: no pings, and no attempt after the first."""
    c0, imp = world.cluster.client(0), world.nodes[0].oscs[0].imp
    c0.run("lctl set_param fail_loc=0x50d")
    world.run(world.env.timeout(30 * NS_PER_S))
    world.sent.clear()
    world.run(world.env.timeout(100 * NS_PER_S))
    assert ("c0", "OBD_PING") not in world.sent
    world.run(world.cluster.node("oss0").kill())
    imp.reconnect()
    world.run(world.env.timeout(60 * NS_PER_S))
    assert imp.conn_cnt == 2
    world.cluster.run(world.cluster.node("oss0").start())
    world.run(world.env.timeout(60 * NS_PER_S))
    assert imp.state is not State.FULL
    c0.run("lctl set_param fail_loc=0")
    world.run(world.env.timeout(60 * NS_PER_S))
    assert imp.state is State.FULL


def test_einprogress_is_asked_again_but_not_for_who_must_not_resend(world: World) -> None:
    """After_reply: one second later each time, up to the request's timeout."""
    world.make("f", b"text")
    faults = world.cluster.node("oss0").machine.host.faults
    world.run(world.vfs[0].sync())
    osc = world.nodes[0].oscs[0]
    faults.arm(Armed(0x207, FAIL_SOME, 9, reaction="fail", value=115))
    oi = next(iter(osc.objects.values())).oi
    began = world.env.now
    world.run(osc.setattr(oi, mtime=1))
    assert (world.env.now - began) // NS_PER_S == 1 + 2 + 3 + 4 + 5 + 4 * 6
    faults.arm(Armed(0x20C, FAIL_SOME, 9, reaction="fail", value=115))
    with pytest.raises(LustreError, match="EINPROGRESS"):
        world.run(osc.statfs())


def test_mdts_do_not_reach_one_another_while_their_connects_are_lost() -> None:
    """PTLRPC_DELAY_RECOV: of an osp that leads to an MDT; the light one (lwp) connects."""
    made = World(clients=1, osts=1, mds=2)
    try:
        mds1 = made.cluster.node("mds1")
        mds1.run("lctl set_param fail_loc=0x507")
        made.run(made.cluster.node("mds0").kill())
        made.cluster.run(made.cluster.node("mds0").start())
        made.run(made.env.timeout(120 * NS_PER_S))
        links = mds1.machine.node.targets[0].links
        states = {link.name: link.imp.state for link in links}
        assert states["lustre-MDT0000-osp-MDT0001"] is not State.FULL
        assert states["lustre-MDT0000-lwp-MDT0001"] is State.FULL
        mds1.run("lctl set_param fail_loc=0")
        made.run(made.env.timeout(60 * NS_PER_S))
        assert all(link.imp.state is State.FULL for link in links)
    finally:
        made.close()
