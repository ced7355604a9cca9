"""Paths of control groups as systemd, kubelets and container runtimes make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd import cgroups

ID = "3f4a9b0c" * 8
OTHER = "0123456789abcdef" * 4
UID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
UNDERSCORED = UID.replace("-", "_")
STATIC = "d41d8cd98f00b204e9800998ecf8427e"
SLICES = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice"

# path, unit, container, pod
WHERE = [
    pytest.param("/system.slice/cron.service", "cron.service", "", "", id="a service"),
    pytest.param("/init.scope", "init.scope", "", "", id="systemd itself"),
    pytest.param("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "", "", id="an instance"),
    pytest.param("/system.slice/ssh.service/inner", "ssh.service", "", "", id="a group that a service made"),
    pytest.param("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "", "", id="a login"),
    pytest.param(
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-terminal.scope",
        "user@1000.service", "", "", id="a unit of a user's manager",
    ),
    pytest.param("/system.slice/dev-hugepages.mount", "dev-hugepages.mount", "", "", id="a mount"),
    pytest.param("/_cgroup.service", "cgroup.service", "", "", id="a name that systemd had to change"),
    pytest.param("/user.slice", "", "", "", id="a slice"),
    pytest.param("/", "", "", "", id="the root"),
    pytest.param(f"{SLICES}/cri-containerd-{ID}.scope", f"cri-containerd-{ID}.scope", ID, UID,
                 id="kubelet's systemd driver, containerd"),
    pytest.param(f"{SLICES}/crio-{ID}.scope", f"crio-{ID}.scope", ID, UID, id="kubelet's systemd driver, CRI-O"),
    pytest.param(f"{SLICES}/crio-{ID}.scope/container", f"crio-{ID}.scope", ID, UID, id="CRI-O, delegated"),
    pytest.param(f"{SLICES}/docker-{ID}.scope", f"docker-{ID}.scope", ID, UID, id="kubelet's systemd driver, docker"),
    pytest.param(f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
                 f"cri-containerd-{ID}.scope", ID, UID, id="guaranteed"),
    pytest.param(f"/kubepods/besteffort/pod{UID}/{ID}", "", ID, UID, id="kubelet's cgroupfs driver"),
    pytest.param(f"/kubepods/pod{UID}", "", "", UID, id="a pod, but none of its containers"),
    pytest.param(f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope",
                 f"cri-containerd-{ID}.scope", ID, STATIC, id="a static pod"),
    pytest.param(f"/kubepods/burstable/pod{STATIC}/{ID}", "", ID, STATIC, id="a static pod, cgroupfs driver"),
    pytest.param(
        f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
        "containerd.service", ID, UID, id="kubelet's driver is systemd, containerd's is not",
    ),
    pytest.param(f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope", ID, "", id="docker"),
    pytest.param(f"/docker/{ID}", "", ID, "", id="docker without systemd"),
    pytest.param(f"/default/{ID}", "", ID, "", id="containerd without systemd"),
    pytest.param(f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", ID, "", id="podman"),
    pytest.param(
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        "user@1000.service", ID, "", id="podman without root",
    ),
    pytest.param(f"/docker/{OTHER}/kubelet{SLICES}/cri-containerd-{ID}.scope", "", ID, UID,
                 id="a node that is a container"),
    pytest.param(f"/docker/{ID}x", "", "", "", id="too long for an id"),
    pytest.param(f"/docker/{ID[:12]}", "", "", "", id="too short for an id"),
    pytest.param(f"/docker/{ID.upper()}", "", "", "", id="capitals"),
    pytest.param("/kubepods/podium", "", "", "", id="no UID"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "unit", "container", "pod"), WHERE)
def test_a_path_tells_where_a_process_belongs(where: str, unit: str, container: str, pod: str) -> None:
    found = cgroups.unit(where), cgroups.container(where), cgroups.pod(where)
    assert found == (unit, container, pod)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("0::/system.slice/cron.service\n", "/system.slice/cron.service", id="version 2 alone"),
        pytest.param("0::/\n", "", id="version 2, in the root"),
        pytest.param("", "", id="no groups"),
        pytest.param(
            "2:pids:/user.slice\n1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n",
            "/system.slice/cron.service",
            id="both, and systemd uses both",
        ),
        pytest.param("9:name=systemd:/system.slice/a.service\n4:memory:/b\n0::/\n", "/system.slice/a.service",
                     id="both, and version 2 is not used"),
        pytest.param("4:memory:/b\n0::/\n", "", id="nothing that systemd made"),
        pytest.param("1:name=systemd:/\n0::/\n", "", id="everything in the roots"),
        pytest.param("0::/system.slice:x\n", "/system.slice:x", id="a colon in the path"),
    ],
)  # fmt: skip
def test_the_path_is_the_one_that_systemd_made(text: str, path: str) -> None:
    assert cgroups.path(text) == path


PIECES = st.sampled_from(["/", ":", "0", "::", "\n", "pod", UID, ID, ".scope", ".slice", "_", "name=systemd", "-"])


@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=20).map("".join)))
def test_no_text_raises(text: str) -> None:
    for where in (text, cgroups.path(text)):
        assert cgroups.container(where) == "" or len(cgroups.container(where)) == 64
        assert len(cgroups.pod(where)) in (0, 32, 36)
        assert "/" not in cgroups.unit(where)
