//! The system calls of a container's processes (seccomp(2)), as docker's default profile has them.
//!
//! Two filters, because one has a single answer for what it does not allow. The first allows what is listed and answers ENOSYS to the
//! rest: a call that nobody here has heard of, and clone3, whose flags lie in memory where no filter can read them (the C library then
//! uses clone). The second, asked first, answers EPERM to calls that are known and refused.

use std::collections::BTreeMap;

use caps::{Capability, CapsHashSet};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::syscalls::{ALLOWED, ALLOWED_OF_THIS_MACHINE, KNOWN, KNOWN_OF_THIS_MACHINE};
use crate::fault::{Fault, Result};

/// The calls that a capability brings, as in docker's profile.
const BY_CAPABILITY: &[(Capability, &[c_long])] = &[
    (Capability::CAP_BPF, &[libc::SYS_bpf]),
    (Capability::CAP_DAC_READ_SEARCH, &[libc::SYS_open_by_handle_at]),
    (Capability::CAP_PERFMON, &[libc::SYS_perf_event_open]),
    (
        Capability::CAP_SYS_ADMIN,
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_pivot_root,
            libc::SYS_quotactl,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    (Capability::CAP_SYS_BOOT, &[libc::SYS_reboot]),
    (Capability::CAP_SYS_CHROOT, &[libc::SYS_chroot]),
    (Capability::CAP_SYS_MODULE, &[libc::SYS_delete_module, libc::SYS_finit_module, libc::SYS_init_module]),
    (Capability::CAP_SYS_NICE, &[libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy]),
    (Capability::CAP_SYS_PACCT, &[libc::SYS_acct]),
    (Capability::CAP_SYS_PTRACE, &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    (Capability::CAP_SYS_TIME, &[libc::SYS_clock_settime, libc::SYS_settimeofday]),
    (Capability::CAP_SYS_TTY_CONFIG, &[libc::SYS_vhangup]),
    (Capability::CAP_SYSLOG, &[libc::SYS_syslog]),
];

/// Every flag of clone(2) that makes a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// The personalities that change nothing of what the kernel protects (personality(2)), and the query.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The two filters, ready to be installed in this order.
#[derive(Debug)]
pub(crate) struct Filters([BpfProgram; 2]);

impl Filters {
    /// For a process with these capabilities in its bounding set.
    ///
    /// Errors: a machine that the filter compiler does not know.
    pub(crate) fn new(capabilities: &CapsHashSet) -> Result<Self> {
        let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| cannot(&error))?;
        let compile = |rules: Rules, otherwise, then| {
            let filter = SeccompFilter::new(rules, otherwise, then, machine).map_err(|error| cannot(&error))?;
            BpfProgram::try_from(filter).map_err(|error| cannot(&error))
        };
        let brought: Vec<c_long> =
            BY_CAPABILITY.iter().filter(|(cap, _)| capabilities.contains(cap)).flat_map(|(_, calls)| calls.iter().copied()).collect();
        let allowed = compile(allowed(&brought)?, SeccompAction::Errno(libc::ENOSYS as u32), SeccompAction::Allow)?;
        let refused = compile(refused(&brought)?, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
        Ok(Self([allowed, refused]))
    }

    /// Installs them for the calling thread, which has CAP_SYS_ADMIN or no_new_privs.
    pub(crate) fn install(&self) -> Result<()> {
        self.0.iter().try_for_each(|filter| apply_filter(filter).map_err(|error| cannot(&error)))
    }
}

fn allowed(brought: &[c_long]) -> Result<Rules> {
    let lists = ALLOWED.iter().chain(ALLOWED_OF_THIS_MACHINE).chain(brought);
    let mut rules: Rules = lists.map(|call| (*call, Vec::new())).collect();
    if !brought.contains(&libc::SYS_clone) {
        rules.insert(libc::SYS_clone, vec![rule(clone_flags(), SeccompCmpOp::MaskedEq(NAMESPACES), 0)?]);
    }
    let personalities = PERSONALITIES.iter().map(|value| rule(0, SeccompCmpOp::Eq, *value));
    rules.insert(libc::SYS_personality, personalities.collect::<Result<_>>()?);
    rules.insert(libc::SYS_socket, vec![rule(0, SeccompCmpOp::Ne, libc::AF_VSOCK as u64)?]);
    Ok(rules)
}

/// What the first filter does not allow and a program should hear of as forbidden.
fn refused(brought: &[c_long]) -> Result<Rules> {
    let by_argument = [libc::SYS_clone, libc::SYS_personality, libc::SYS_socket];
    let known = KNOWN.iter().chain(KNOWN_OF_THIS_MACHINE).filter(|call| !brought.contains(call) && !by_argument.contains(call));
    let mut rules: Rules = known.map(|call| (*call, Vec::new())).collect();
    if !brought.contains(&libc::SYS_clone) {
        // Any of the flags, one rule for each.
        let bits = (0..64).map(|bit| 1 << bit).filter(|bit| NAMESPACES & bit != 0);
        let flags = bits.map(|bit| rule(clone_flags(), SeccompCmpOp::MaskedEq(bit), bit));
        rules.insert(libc::SYS_clone, flags.collect::<Result<_>>()?);
    }
    rules.insert(libc::SYS_socket, vec![rule(0, SeccompCmpOp::Eq, libc::AF_VSOCK as u64)?]);
    Ok(rules)
}

/// Which argument of clone(2) holds the flags.
const fn clone_flags() -> u8 {
    if cfg!(target_arch = "s390x") { 1 } else { 0 }
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(|error| cannot(&error))?;
    SeccompRule::new(vec![condition]).map_err(|error| cannot(&error))
}

fn cannot(error: &dyn std::error::Error) -> Fault {
    Fault::refused(
        format!("cannot filter the container's system calls: {error}"),
        "--security-opt seccomp=unconfined runs it without a filter",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_brings_its_calls_and_nothing_else() {
        let none = refused(&[]).unwrap();
        assert!([libc::SYS_mount, libc::SYS_unshare, libc::SYS_clone, libc::SYS_keyctl].iter().all(|call| none.contains_key(call)));
        let admin: Vec<_> =
            BY_CAPABILITY.iter().filter(|(cap, _)| *cap == Capability::CAP_SYS_ADMIN).flat_map(|(_, calls)| calls.to_vec()).collect();
        let some = refused(&admin).unwrap();
        assert!(!some.contains_key(&libc::SYS_mount) && !some.contains_key(&libc::SYS_clone) && some.contains_key(&libc::SYS_keyctl));
    }

    #[test]
    fn no_call_is_both_allowed_and_refused() {
        let known: Vec<_> = KNOWN.iter().chain(KNOWN_OF_THIS_MACHINE).collect();
        assert!(!ALLOWED.iter().chain(ALLOWED_OF_THIS_MACHINE).any(|call| known.contains(&call)));
    }

    #[test]
    fn both_filters_fit_the_kernels_limit() {
        let filters = Filters::new(&caps::all()).unwrap();
        assert!(filters.0.iter().all(|program| program.len() < 4096));
    }
}
