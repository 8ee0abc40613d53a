"""What an MGS writes into its logs: byte-exact records, skipped settings, crashes."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.nodes.mgs import fsdb
from labsim.nodes.mgs.configs import Configs
from labsim.nodes.mgs.nidtbl import NidTable
from labsim.runtime.sim import environment
from labsim.storage.osd_mem import OsdMem
from labsim.wire.config_log import Command
from labsim.wire.constants import (
    LCFG_ADD_CONN,
    LCFG_ADD_MDC,
    LCFG_ADD_UUID,
    LCFG_ATTACH,
    LCFG_LOV_ADD_OBD,
    LCFG_MARKER,
    LCFG_MOUNTOPT,
    LCFG_PARAM,
    LCFG_SET_PARAM,
    LCFG_SETUP,
    LDD_F_NO_PRIMNODE,
    LDD_F_SV_TYPE_MDT,
    LDD_F_SV_TYPE_OST,
)
from labsim.wire.mgs import MgsNidtblEntry, MgsTargetInfo


class Clock:
    def seconds(self) -> int:
        return 1_577_836_800


class Bench:
    """Logs on a disk in memory; `run` drives a call to its end."""

    def __init__(self) -> None:
        self.env: Any = environment()
        self.osd = OsdMem(self.env)
        self.configs = self.opened()

    def opened(self) -> Configs:
        configs = Configs(self.env, self.osd, Clock(), 0x020C0000)  # type: ignore[arg-type]
        self.run(configs.open())
        return configs

    def run(self, steps: Any) -> Any:
        return self.env.run(self.env.process(steps))

    def register(self, kind: str, index: int, nid: str = "10.0.2.1@tcp") -> list[str]:
        return self.run(self.configs.register(info(kind, index, nid)))

    def commands(self, log: str) -> list[Command]:
        found: list[Command] = self.run(self.configs.commands(log))
        return found


def info(kind: str, index: int, nid: str, fsname: str = "lustre") -> MgsTargetInfo:
    name = f"{fsname}-{kind}{index:04x}"
    flags = LDD_F_SV_TYPE_MDT if kind == "MDT" else LDD_F_SV_TYPE_OST
    return MgsTargetInfo(
        stripe_index=index, flags=flags, nid_count=1, fsname=fsname, svname=name,
        uuid=f"{name}_UUID", nids=(int(Nid.parse(nid)),) + (0,) * 31,
    )  # fmt: skip


def words(command: Command) -> list[str]:
    return [command.text(n) for n in range(len(command.bufs))]


def test_the_log_of_clients_is_lustres() -> None:
    b = Bench()
    b.register("OST", 3)
    b.register("MDT", 0, "10.0.1.1@tcp")
    commands = [one for one in b.commands("lustre-client") if one.command != LCFG_MARKER]
    told = [(one.command, words(one)) for one in commands if one.command != LCFG_SETUP]
    ost, mdt = "lustre-OST0003", "lustre-MDT0000"
    assert told == [
        (LCFG_ATTACH, ["lustre-clilov", "lov", "lustre-clilov_UUID"]),
        (LCFG_ATTACH, ["lustre-clilmv", "lmv", "lustre-clilmv_UUID"]),
        (LCFG_ADD_UUID, ["", "10.0.2.1@tcp"]),
        (LCFG_ATTACH, [f"{ost}-osc", "osc", "lustre-clilov_UUID"]),
        (LCFG_LOV_ADD_OBD, ["lustre-clilov", f"{ost}_UUID", "3", "1"]),
        (LCFG_ADD_UUID, ["", "10.0.1.1@tcp"]),
        (LCFG_ATTACH, [f"{mdt}-mdc", "mdc", "lustre-clilmv_UUID"]),
        (LCFG_ADD_MDC, ["lustre-clilmv", f"{mdt}_UUID", "0", "1", f"{mdt}-mdc_UUID"]),
        (LCFG_MOUNTOPT, ["", "lustre-client", "lustre-clilov", "lustre-clilmv"]),
    ]
    setups = [one for one in commands if one.command == LCFG_SETUP]
    assert [len(one.bufs[1]) for one in setups[:2]] == [88, 88], "lov_desc and lmv_desc"
    assert words(setups[2]) == [f"{ost}-osc", f"{ost}_UUID", "10.0.2.1@tcp"]


def test_every_section_stands_between_its_markers() -> None:
    b = Bench()
    b.register("OST", 0)
    markers = [c.marker for c in b.commands("lustre-client") if c.command == LCFG_MARKER]
    assert [(m.flags, m.comment) for m in markers] == [
        (1, "lov setup"), (2, "lov setup"), (1, "lmv setup"), (2, "lmv setup"), (1, "add osc"),
        (2, "add osc"),
    ]  # fmt: skip
    assert all(a.step == z.step for a, z in zip(markers[::2], markers[1::2], strict=True))
    assert markers[-1].tgtname == "lustre-OST0000"
    assert markers[-1].createtime == 1_577_836_800


@pytest.mark.parametrize("order", [("MDT", "OST"), ("OST", "MDT")])
def test_an_mdt_knows_every_ost_whoever_came_first(order: tuple[str, str]) -> None:
    b = Bench()
    for kind in order:
        b.register(kind, 0)
    b.register("OST", 1)
    added = [words(c) for c in b.commands("lustre-MDT0000") if c.command == LCFG_LOV_ADD_OBD]
    lov = "lustre-MDT0000-mdtlov"
    assert added == [[lov, f"lustre-OST000{n}_UUID", str(n), "1"] for n in (0, 1)]


def with_partner(kind: str, index: int, nid: str, params: str) -> MgsTargetInfo:
    return info(kind, index, nid).replace(params=params)


def test_failover_nodes_follow_the_setup_and_an_mdt_learns_them_from_the_clients() -> None:
    b = Bench()
    params = "failover.node=10.0.2.2@tcp,10.9.2.2@tcp:10.0.2.3@tcp sys.timeout=40"
    b.run(b.configs.register(with_partner("OST", 0, "10.0.2.1@tcp", params)))
    partner = "failover.node=10.0.1.2@tcp"
    b.run(b.configs.register(with_partner("MDT", 0, "10.0.1.1@tcp", partner)))
    kinds = (LCFG_ADD_UUID, LCFG_SETUP, LCFG_ADD_CONN, LCFG_LOV_ADD_OBD)
    for log, device in (("client", "osc"), ("MDT0000", "osc-MDT0000")):
        told = [one for one in b.commands(f"lustre-{log}") if "10.0.2." in str(one.bufs)]
        assert [one.command for one in told if one.command in kinds] == [
            LCFG_ADD_UUID, LCFG_SETUP, LCFG_ADD_UUID, LCFG_ADD_UUID, LCFG_ADD_CONN, LCFG_ADD_UUID,
            LCFG_ADD_CONN,
        ]  # fmt: skip
        conns = [words(one) for one in told if one.command == LCFG_ADD_CONN]
        name = f"lustre-OST0000-{device}"
        assert conns == [[name, "10.0.2.2@tcp"], [name, "10.0.2.3@tcp"]]
        nids = [str(Nid(one.nid)) for one in told if one.command == LCFG_ADD_UUID]
        assert nids == ["10.0.2.1@tcp", "10.0.2.2@tcp", "10.9.2.2@tcp", "10.0.2.3@tcp"]
    (mdc,) = [one for one in b.commands("lustre-client") if words(one)[0] == "lustre-MDT0000-mdc"
              and one.command == LCFG_ADD_CONN]  # fmt: skip
    assert words(mdc)[1] == "10.0.1.2@tcp"


def test_a_target_comes_from_its_own_node_first() -> None:
    b = Bench()
    told = with_partner("OST", 0, "10.0.2.2@tcp", "failover.node=10.0.2.2@tcp")
    with pytest.raises(LustreError) as raised:
        b.run(b.configs.register(told))
    assert raised.value.name == "EADDRNOTAVAIL"
    service = told.replace(flags=told.flags | LDD_F_NO_PRIMNODE)
    assert b.run(b.configs.register(service)), "mkfs --servicenode knows no first node"
    assert b.run(b.configs.register(told)) == [], "later it may come from anywhere"
    with pytest.raises(LustreError) as raised:
        b.run(b.configs.register(with_partner("OST", 1, "10.0.2.1@tcp", "failover.node=nobody")))
    assert raised.value.name == "EINVAL"


def test_who_is_known_changes_nothing() -> None:
    b = Bench()
    assert b.register("OST", 0) == ["lustre-OST0000", "lustre-client"]
    assert b.register("OST", 0) == []


def test_what_is_no_target_is_refused() -> None:
    b = Bench()
    good = info("OST", 0, "10.0.2.1@tcp")
    for bad in (
        good.replace(svname="lustre-OST0001"), good.replace(fsname=""), good.replace(flags=0),
        good.replace(nid_count=0), good.replace(nid_count=33),
    ):  # fmt: skip
        with pytest.raises(LustreError):
            b.run(b.configs.register(bad))
    assert not b.configs.logs


def test_a_setting_replaces_the_one_before() -> None:
    b = Bench()
    for value in ("1", "2", "3"):
        b.run(b.configs.set_param("osc.*.active", value))
    b.run(b.configs.set_param("timeout", "40"))
    assert b.run(b.configs.settings("params")) == [("osc.*.active", "3"), ("timeout", "40")]
    commands = b.commands("params")
    assert sum(c.command == LCFG_SET_PARAM for c in commands) == 4
    flags = [c.marker.flags for c in commands if c.command == LCFG_MARKER]
    assert flags == [5, 6, 5, 6, 1, 2, 1, 2]


def test_conf_param_goes_where_the_device_is() -> None:
    b = Bench()
    b.register("MDT", 0)
    b.register("OST", 0)

    def said(where: str, name: str) -> dict[str, str]:
        before = {log: len(b.commands(log)) for log in b.configs.logs}
        logs = b.run(b.configs.conf_param(where, name, "1"))
        new = {log: b.commands(log)[before[log] :] for log in logs}
        return {
            log: c.text(0) for log, found in new.items() for c in found if c.command == LCFG_PARAM
        }

    ost, mdt = "lustre-OST0000", "lustre-MDT0000"
    assert said(ost, "osc.active") == {
        "lustre-client": f"{ost}-osc",
        mdt: f"{ost}-osc-MDT0000",
    }
    assert said(mdt, "mdd.x") == {mdt: mdt}
    assert said(mdt, "lov.stripesize") == {mdt: f"{mdt}-mdtlov"}
    assert said("lustre", "llite.lazystatfs") == {"lustre-client": "lustre"}
    assert said("lustre", "sys.timeout") == dict.fromkeys(("lustre-client", mdt, ost), "lustre")
    for where, name in (("lustre-OST0009", "osc.x"), ("other", "llite.x"), (ost, "mdt.x")):
        with pytest.raises(LustreError):
            said(where, name)


def test_the_logs_outlive_a_power_cut() -> None:
    b = Bench()
    b.register("MDT", 0)
    b.register("OST", 0)
    b.run(b.configs.set_param("timeout", "40"))
    before = {log: b.commands(log) for log in b.configs.logs}
    step = b.configs.step
    b.osd.crash()
    b.configs = b.opened()
    assert {log: b.commands(log) for log in b.configs.logs} == before
    assert b.configs.step == step


def test_a_full_disk_leaves_the_logs_as_they_were() -> None:
    b = Bench()
    b.register("MDT", 0)
    before = b.commands("lustre-client")
    b.osd.space.max_files = b.osd.space.files
    with pytest.raises(LustreError):
        b.register("OST", 0)
    assert b.commands("lustre-client") == before
    assert "lustre-OST0000" not in b.configs.logs


def test_the_recover_table_comes_in_pieces() -> None:
    table = NidTable()
    for index in range(5):
        table.update(info("OST", index, "10.0.2.1@tcp"))
    table.update(info("OST", 1, "10.0.2.9@tcp").replace(instance=2))
    data, last = table.read(0, 70)
    assert (len(data), last) == (64, 5)
    seen = MgsNidtblEntry.unpack(data)
    assert (seen.version, seen.index, seen.type, seen.nid_count) == (3, 0, LDD_F_SV_TYPE_OST, 1)
    data, last = table.read(last + 1, 4096)
    assert (len(data), last) == (96, 8)
    assert table.read(last + 1, 4096) == (b"", 8)
    assert MgsNidtblEntry.unpack(data, 64).instance == 2
    assert fsdb.client_log("a") == "a-client"
