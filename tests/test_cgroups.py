"""Paths of cgroups as created by systemd, kubelets and container runtimes."""

from __future__ import annotations

import pytest

from ipvsd.kernel import cgroups

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
    pytest.param("/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-terminal.scope",
                 "user@1000.service", "", "", id="a unit of a user's manager"),
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
    pytest.param(f"/system.slice/containerd.service/kubepods-besteffort-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
                 "containerd.service", ID, UID, id="kubelet's driver is systemd, containerd's is not"),
    pytest.param(f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope", ID, "", id="docker"),
    pytest.param(f"/docker/{ID}", "", ID, "", id="docker without systemd"),
    pytest.param(f"/default/{ID}", "", ID, "", id="containerd without systemd"),
    pytest.param(f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", ID, "", id="podman"),
    pytest.param(f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
                 "user@1000.service", "", "", id="podman without root, whose groups the user makes"),
    pytest.param(f"/kubelet/kubepods/besteffort/pod{UID}/{ID}", "", ID, UID, id="kind"),
    pytest.param(
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
        f"cri-containerd-{ID}.scope", ID, UID, id="kind, systemd driver",
    ),
    pytest.param(f"/k3s/kubepods/pod{UID}/{ID}", "", ID, UID, id="k3s in a container"),
    pytest.param(f"/system.slice/k3s.service/kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
                 "k3s.service", ID, UID, id="k3s, with kubelet's driver alone"),
    pytest.param(f"/docker/{OTHER}/kubelet{SLICES}/cri-containerd-{ID}.scope", "", OTHER, "",
                 id="a node that is a container, from outside"),
    pytest.param(f"/libpod_parent/libpod-{ID}", "", ID, "", id="podman without systemd"),
    pytest.param(f"/docker/{ID}x", "", "", "", id="too long for an id"),
    pytest.param(f"/docker/{ID[:12]}", "", "", "", id="too short for an id"),
    pytest.param(f"/docker/{ID.upper()}", "", "", "", id="capitals"),
    pytest.param("/kubepods/podium", "", "", "", id="no UID"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "unit", "container", "pod"), WHERE)
def test_a_path_identifies_the_owner_of_a_process(where: str, unit: str, container: str, pod: str) -> None:
    assert cgroups.identify(where) == (unit, container, pod)


MANAGER = "/user.slice/user-1000.slice/user@1000.service"
DELEGATED = "/system.slice/ci.service"
POD = f"kubepods-pod{UNDERSCORED}.slice"


@pytest.mark.parametrize(
    "where", [MANAGER, f"{MANAGER}/app.slice", DELEGATED, "/user.slice/user-1000.slice/session-3.scope"]
)
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(f"kubepods.slice/{POD}/cri-containerd-{ID}.scope", id="a pod of the systemd driver"),
        pytest.param(f"kubepods/pod{UID}/{ID}", id="a pod of the cgroupfs driver"),
        pytest.param(f"{POD}:cri-containerd:{ID}", id="a pod of a runtime"),
        pytest.param(f"containerd.service/{POD}:cri-containerd:{ID}", id="a runtime"),
        pytest.param(f"docker-{ID}.scope", id="a container"),
        pytest.param(f"docker/{ID}", id="a container without systemd"),
        pytest.param(ID, id="an id"),
        pytest.param("sshd.service", id="a unit"),
        pytest.param("system.slice/sshd.service", id="a unit in a slice"),
    ],
)
def test_cgroups_of_a_user_below_a_unit_do_not_count(where: str, made: str) -> None:
    unit = next(part for part in where.split("/") if part.endswith((".service", ".scope")))
    assert cgroups.identify(f"{where}/{made}") == (unit, "", "")


@pytest.mark.parametrize(
    ("where", "container"),
    [
        pytest.param(f"/docker/{ID}/kubepods/pod{UID}/{OTHER}", ID, id="in a container"),
        pytest.param(f"/lxc.payload.node/kubepods/pod{UID}/{OTHER}", "", id="in a container of LXC"),
        pytest.param(f"/user/alice/0/kubepods/pod{UID}/{OTHER}", "", id="in the groups of a login without systemd"),
        pytest.param(f"/user/alice/{OTHER}", "", id="a group of a login without systemd"),
        pytest.param(f"/kubepods/pod{UID}/{ID}/pod{OTHER[:32]}/{OTHER}", ID, id="in a pod"),
        pytest.param(f"{SLICES}/cri-containerd-{ID}.scope/kubepods/pod{UID}/{OTHER}", ID, id="in a container of a pod"),
    ],
)
def test_cgroups_of_a_container_or_a_login_do_not_count(where: str, container: str) -> None:
    found = cgroups.identify(where)
    assert found.container == container
    assert found.pod in ("", UID if "/kubepods" in where[:10] else "")


@pytest.mark.parametrize(
    ("where", "first", "seen"),
    [
        pytest.param("/system.slice/a.service", "/init.scope", "/system.slice/a.service", id="a machine"),
        pytest.param("/system.slice/a.service", "", "/system.slice/a.service", id="a machine without systemd"),
        pytest.param(f"/docker/{ID}/system.slice/a.service", f"/docker/{ID}/init.scope", "/system.slice/a.service",
                     id="a container in the namespace of its host"),
        pytest.param(f"/docker/{ID}", f"/docker/{ID}", "", id="such a container without systemd"),
        pytest.param(f"/docker/{ID}x/a.service", f"/docker/{ID}", f"/docker/{ID}x/a.service", id="beside it"),
        pytest.param("/system.slice/a.service", f"/docker/{ID}/init.scope", "/system.slice/a.service", id="outside"),
    ],
)  # fmt: skip
def test_paths_begin_at_the_root_of_the_systems_manager(where: str, first: str, seen: str) -> None:
    assert cgroups.relative_path(where, first) == seen


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("0::/system.slice/cron.service\n", "/system.slice/cron.service", id="version 2 alone"),
        pytest.param("0::/\n", "", id="version 2, in the root"),
        pytest.param("", "", id="no groups"),
        pytest.param("2:pids:/user.slice\n1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n",
                     "/system.slice/cron.service", id="both, and systemd uses both"),
        pytest.param("9:name=systemd:/system.slice/a.service\n4:memory:/b\n0::/\n", "/system.slice/a.service",
                     id="both, and version 2 is not used"),
        pytest.param("4:memory:/b\n0::/\n", "", id="nothing that systemd made"),
        pytest.param("1:name=systemd:/\n0::/\n", "", id="everything in the roots"),
        pytest.param("0::/system.slice:x\n", "/system.slice:x", id="a colon in the path"),
    ],
)  # fmt: skip
def test_the_path_is_the_one_that_systemd_made(text: str, path: str) -> None:
    assert cgroups.parse_path(text) == path
