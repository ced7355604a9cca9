// SPDX-License-Identifier: GPL-2.0
// Kernels before 4.19 tracked IPv4 connections in a module of this name, beside nf_conntrack.
// This one does nothing: it lets the bench show such a kernel's module list on a newer kernel.
#include <linux/module.h>

MODULE_DESCRIPTION("stand-in for the IPv4 connection tracker of kernels before 4.19");
MODULE_ALIAS("nf_conntrack-2");
MODULE_LICENSE("GPL");
