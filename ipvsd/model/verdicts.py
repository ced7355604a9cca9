"""The verdicts on items, with their text in ipvsd(8)."""

from __future__ import annotations

import enum


class ModuleVerdict(enum.Enum):
    """The verdict on a module. The comments are the text of ipvsd(8), in scdoc(5) ('make tables')."""

    # The module is loaded. It is compliant.
    LIVE = "live"
    # The module is part of this kernel. It is compliant. The evidence is modules.builtin, the kernel's build
    # configuration, or a file in /proc that the module provides.
    BUILT_IN = "built_in"
    # The kernel is loading the module.
    LOADING = "loading"
    # The kernel is unloading the module. ipvsd will load it again.
    UNLOADING = "unloading"
    # The module is not loaded, and the module index of the kernel lists it. ipvsd will load it.
    LOADABLE = "loadable"
    # /proc/modules, or a file with evidence about this module, cannot be read. The evidence names the file and the
    # error. ipvsd loads nothing until the file can be read.
    UNREADABLE = "unreadable"
    # The module index of this kernel does not list the module. The remedy names the package to install, or states
    # that the package is unknown. Neither this verdict nor _not_built_ is a problem if the profile requests the
    # module only on kernels that have it.
    ABSENT = "absent"
    # The build configuration of this kernel (/boot/config-RELEASE, /lib/modules/RELEASE/config or /proc/config.gz)
    # does not enable the module.
    NOT_BUILT = "not_built"
    # The kernel no longer has a module with this name, because a newer module replaced it. For example, nf_conntrack
    # replaced nf_conntrack_ipv4 in Linux 4.19. The remedy names the new module.
    MERGED = "merged"
    # The kernel's module tree contains the module's file, or that of a module that it depends on, but modules.dep
    # does not list this file, or lists a different file that is missing. *depmod*(8) has not run since the file was
    # added, moved or compressed.
    INDEX_STALE = "index_stale"
    # The kernel's module tree contains the module's file, but not modules.dep.bin, which is required to find modules.
    # *depmod*(8) has never run.
    NO_INDEX = "no_index"
    # modules.dep lists a file that is missing: that of the module or of a module that it depends on. The tree has no
    # other file of the same module.
    FILE_MISSING = "file_missing"
    # This system's *kmod*(8) was built without support for the file's compression. Its *depmod*(8) also ignores such
    # files.
    COMPRESSION_UNSUPPORTED = "compression_unsupported"
    # The profile requires a newer kernel, regardless of the available modules.
    KERNEL_TOO_OLD = "kernel_too_old"
    # /lib/modules/RELEASE of the running kernel has no modules, for example because the kernel was upgraded and the
    # node has not been rebooted. The evidence names the existing trees.
    MODULE_TREE_MISSING = "module_tree_missing"
    # This kernel has no loadable modules, and this module is not built in.
    NO_MODULE_SUPPORT = "no_module_support"
    # The kernel refused the file, because its vermagic names a different release.
    VERMAGIC_MISMATCH = "vermagic_mismatch"
    # A line in *modprobe.d*(5) or the kernel command line (*modprobe.blacklist=*, *module_blacklist=*) forbids the
    # module. The evidence names the line or the kernel command line. ipvsd does not load it. A blacklist line for a
    # dependency of the module blocks neither the dependency nor the module. *module_blacklist=* blocks both. If the
    # kernel command line contains the word _--_, the kernel ignores its own parameters after it, but libkmod and
    # systemd read them.
    BLACKLISTED = "blacklisted"
    # An _install_ line in *modprobe.d*(5) runs a command instead of loading the module or one of its dependencies.
    # Either the command loads nothing (such as _/bin/true_), or ipvsd ran it and the module is still not live. An
    # _alias_ line that maps the name to a module that does not exist has the same verdict.
    OVERRIDDEN = "overridden"
    # An _options_ line in *modprobe.d*(5) passes a parameter without a value to the module or to one of its
    # dependencies. The kernel refuses this. It happens if there are spaces around _=_.
    INVALID_OPTIONS = "invalid_options"
    # The kernel accepts only modules that are signed with a trusted key (lockdown, _module.sig_enforce=1_, Secure
    # Boot).
    SIGNATURE_REFUSED = "signature_refused"
    # _kernel.modules_disabled_ is 1, or a line sets it at the next boot before the module is loaded. No module can be
    # loaded until the next boot.
    MODULES_DISABLED = "modules_disabled"
    # CAP_SYS_MODULE is missing, or has no effect because ipvsd runs in a user namespace. This happens, for example,
    # in a container.
    CAPABILITY_MISSING = "capability_missing"
    # ipvsd tried to load the module, and the module is not live. The evidence is the reported reason, together with
    # the kernel's own message if its log can be read.
    LOAD_FAILED = "load_failed"


class SysctlVerdict(enum.Enum):
    """The verdict on a sysctl or a module parameter. The comments are the text of ipvsd(8), in scdoc(5)."""

    # The value is compliant.
    COMPLIANT = "compliant"
    # The value is not compliant. With the _enforce_ policy, ipvsd will write it.
    NONCOMPLIANT = "noncompliant"
    # ipvsd wrote the value ten times in succession without an error, but immediately read back a different value each
    # time. The kernel limits or rounds the value. ipvsd retries at each resync.
    NOT_KEPT = "not_kept"
    # Another program changes the value repeatedly. ipvsd writes it only once per resync. The evidence names the
    # program.
    CONTENDED = "contended"
    # Another program changes the value repeatedly, and the policy is _yield_. ipvsd leaves the value to that program.
    YIELDED = "yielded"
    # The module is live, and the kernel accepts this parameter only when the module is loaded.
    NEEDS_MODULE_RELOAD = "needs_module_reload"
    # The write failed, and the evidence contains the error from the kernel. This verdict also applies if /proc/sys is
    # mounted read-only, as in a container. In that case, set the sysctl on the host.
    WRITE_FAILED = "write_failed"
    # The value could not be read.
    UNREADABLE = "unreadable"
    # The sysctl's file is missing, because the module that provides it is not live.
    PENDING = "pending"
    # This kernel does not have the sysctl or the parameter. Its file is missing, although the module that would
    # provide it, if any, is live or built in.
    UNSUPPORTED = "unsupported"
