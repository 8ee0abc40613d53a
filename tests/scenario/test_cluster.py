"""The cluster's face, on both runtimes, over a tiny node."""

import errno

import pytest

from labsim.base.errors import InputError, LustreError
from labsim.base.units import NS_PER_S
from labsim.scenario.cluster import Cluster
from labsim.scenario.control import NodeFault
from tests.scenario.fakes import FAKE

runtimes = pytest.mark.parametrize("runtime", ["sim", pytest.param("live", marks=pytest.mark.live)])


def cluster(runtime, **kwargs):
    return Cluster(runtime=runtime, **({"clients": 2, "oss": 2} | FAKE | kwargs))


@runtimes
def test_commands_run_on_nodes(runtime):
    with cluster(runtime) as c:
        result = c.client(0).run("echo OST0001 hi")
        assert (result.status, result.stdout) == (0, "echo hi")
        both = c.run(c.env.all_of([c.client(n).command("echo MDT0000 x") for n in (0, 1)]))
        assert [r.stdout for r in both.values()] == ["echo x", "echo x"]
        assert c.run(c.snapshots())["mds0"]["echoed"] == 2


@runtimes
def test_a_generator_drives_either(runtime):
    def scenario(c):
        first = yield c.client(0).command("echo OST0000 one")
        yield c.env.timeout(1_000_000)
        second = yield c.client(1).command("echo OST0000 two")
        return first.stdout, second.stdout

    with cluster(runtime) as c:
        assert c.run(scenario(c)) == ("echo one", "echo two")


@runtimes
def test_a_partition_and_its_cure(runtime):
    with cluster(runtime) as c:
        c.run(c.partition(["c0"], ["oss1"]))
        assert c.client(0).run("echo OST0001 x").errno_name == "ETIMEDOUT"
        assert c.client(0).run("echo OST0000 x").status == 0
        assert c.client(1).run("echo OST0001 x").status == 0
        c.run(c.heal())
        assert c.client(0).run("echo OST0001 x").status == 0


@runtimes
def test_a_rule_reaches_a_machine_that_is_powered_on_later(runtime):
    with cluster(runtime) as c:
        c.run(c.node("oss0").kill())
        c.run(c.net(c.rule("mute", src=["oss0"])))
        c.run(c.node("oss0").start())
        assert c.client(0).run("echo OST0000 x").errno_name == "ETIMEDOUT"
        assert c.run(c.node("oss0").snapshot())["rules"] == {"mute": 1}


@runtimes
def test_a_killed_node_answers_nobody_until_it_is_started(runtime):
    with cluster(runtime) as c:
        waiting = c.client(1).command("sleep 5000000000")
        c.run(c.client(1).kill())
        result = c.run(waiting)
        assert (result.status, result.stderr) == (137, "Killed\n")
        with pytest.raises(LustreError, match="c1 is off"):
            c.client(1).run("level")
        c.run(c.node("oss0").kill())
        assert c.client(0).run("echo OST0000 x").errno_name == "ETIMEDOUT"
        c.run(c.node("oss0").start())
        c.run(c.client(1).start())
        assert c.client(1).run("echo OST0000 x").status == 0
        assert c.node("oss0").boots == 2


@runtimes
def test_a_client_is_unmounted_and_mounted(runtime):
    with cluster(runtime, mount=[False]) as c:
        with pytest.raises(LustreError, match="ENODEV"):
            c.client(0).run("level")
        c.run(c.client(0).mount())
        assert c.client(0).run("echo OST0000 x").status == 0
        c.run(c.client(0).umount())
        assert not c.run(c.client(0).snapshot())["mounted"]
        c.run(c.client(0).mount())
        assert c.client(0).run("echo OST0000 x").status == 0
        with pytest.raises(LustreError, match="up already"):
            c.run(c.client(0).mount())


@runtimes
def test_the_parameters_of_a_cluster_are_there_at_every_start(runtime):
    with cluster(runtime, params={"fake.level": "5"}) as c:
        assert [c.node(n).run("level").stdout for n in ("c0", "c1", "oss1")] == ["5", "5", "5"]
        c.run(c.node("oss1").kill())
        c.run(c.node("oss1").start())
        assert c.node("oss1").run("level").stdout == "5"
        assert c.fs.params == (("fake.level", "5"),)


@runtimes
def test_a_crash_takes_the_power(runtime):
    with cluster(runtime) as c:
        assert c.node("oss0").run("crash").status == 137
        assert not c.node("oss0").powered
        c.run(c.node("oss0").start())
        assert c.client(0).run("echo OST0000 x").status == 0


@runtimes
def test_errors_come_back_as_they_are(runtime):
    with cluster(runtime) as c, pytest.raises(InputError, match=r"boom of \{'a': 'b'\}"):
        c.client(0).run("boom", {"a": "b"})


@runtimes
def test_a_defect_stops_the_run(runtime):
    expected = AssertionError if runtime == "sim" else NodeFault
    with pytest.raises(expected, match="a bug"), cluster(runtime) as c:
        c.client(0).run("bug")
    with pytest.raises(expected, match="a bug in the background"), cluster(runtime) as c:
        c.client(0).run("background-bug")
        c.run(c.env.timeout(1_000_000_000))


@runtimes
def test_a_fault_point_is_armed_over_the_same_face(runtime):
    with cluster(runtime) as c:
        c.run(c.client(0).fault(0x123, reaction="delay", value=5))
        c.run(c.client(0).fault(0x123, reaction="off"))
        with pytest.raises(InputError, match="explode"):
            c.run(c.client(0).fault(0x123, reaction="explode"))


def test_unknown_nodes_and_links_are_refused():
    with cluster("sim") as c, pytest.raises(InputError, match="no node 'oss7'"):
        c.node("oss7")
    with pytest.raises(InputError, match="no link 'string'"):
        cluster("sim", link="string")
    with pytest.raises(InputError, match="no runtime"):
        cluster("dream")


def test_a_simulated_disk_forgets_what_was_not_committed():
    with cluster("sim") as c:
        oss = c.node("oss0")
        oss.run("disk put kept sync")
        oss.run("disk put lost")
        assert oss.run("disk get lost").stdout == "here"
        c.run(oss.kill())
        c.run(oss.start())
        assert oss.run("disk get kept").stdout == "here"
        assert oss.run("disk get lost").stdout == "none"


def hash_of(seed):
    with cluster("sim", seed=seed) as c:
        c.run(c.net(c.rule("half", src=["c0"], rate=0.5)))
        for _ in range(10):
            c.client(0).run("echo OST0001 x")
        c.run(c.node("oss0").kill())
        c.run(c.node("oss0").start())
        return c.hash, c.env.now


def test_the_same_seed_gives_the_same_run():
    assert hash_of(1) == hash_of(1)
    assert hash_of(1) != hash_of(2)


def test_latency_and_bandwidth_are_the_links():
    def duration(**kwargs):
        with cluster("sim", **kwargs) as c:
            start = c.env.now
            c.client(0).run("echo OST0000 x")
            return c.env.now - start

    assert duration(latency_ns=50_000_000) > 100_000_000 > duration()
    assert duration(bandwidth=10_000) > duration()


def test_nobody_is_in_a_file_system_that_is_still_being_mounted():
    with Cluster(clients=2, mount=[True, False], record=True) as cluster:
        cluster.run(cluster.node("mds0").kill())
        late = cluster.client(1)
        mounting = late.start()
        cluster.run(cluster.env.timeout(10 * NS_PER_S))
        assert not mounting.triggered
        assert late.run("stat .").errno == errno.ENODEV
        assert late.run("lctl get_param mdc.*.import").status == 0
        cluster.run(cluster.node("mds0").start())
        cluster.run(mounting)
        assert late.run("stat .").status == 0
        cluster.collect()
        assert cluster.archive is not None
        assert [(one.client, one.errno) for one in cluster.archive.calls] == [("c1", 0)]
