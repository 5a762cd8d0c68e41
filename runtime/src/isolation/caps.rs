//! The capabilities of a container's processes (capabilities(7)).
//!
//! Docker's default set less CAP_MKNOD: a node that could be made is a node that might be opened.

use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};

use crate::{
    fault::{Fault, Result},
    spec::SecuritySpec,
};

const DEFAULT: [Capability; 13] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// The capabilities that `security` asks for: `--privileged` has all, `ALL` is dropped or added before the rest.
///
/// Errors: a name that is no capability.
pub(crate) fn wanted(security: &SecuritySpec) -> Result<CapsHashSet> {
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set: CapsHashSet = match () {
        () if security.privileged || all(&security.cap_add) => caps::all(),
        () if all(&security.cap_drop) => CapsHashSet::new(),
        () => DEFAULT.into_iter().collect(),
    };
    for name in named(&security.cap_add) {
        set.insert(parse(name)?);
    }
    for name in named(&security.cap_drop).filter(|_| !security.privileged) {
        set.remove(&parse(name)?);
    }
    Ok(set)
}

fn named(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"))
}

fn parse(name: &str) -> Result<Capability> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    let hint = "names are as in capabilities(7), such as NET_ADMIN, or ALL";
    Capability::from_str(&full).map_err(|_| Fault::refused(format!("`{name}` is no capability"), hint))
}

/// Takes every capability outside `keep` from the bounding set, so that no program can gain it.
pub(crate) fn bound(keep: &CapsHashSet) -> Result<()> {
    for cap in caps::all().difference(keep) {
        // One that this kernel does not know is one that nobody has.
        if caps::has_cap(None, CapSet::Bounding, *cap).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *cap).map_err(|source| cannot(&source))?;
        }
    }
    Ok(())
}

/// Makes `keep`, as far as the process has it, its effective and permitted set; the inheritable set is empty.
pub(crate) fn limit(keep: &CapsHashSet) -> Result<()> {
    let have = caps::read(None, CapSet::Permitted).map_err(|source| cannot(&source))?;
    let keep = have.intersection(keep).copied().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &keep).map_err(|source| cannot(&source))?;
    }
    caps::clear(None, CapSet::Inheritable).map_err(|source| cannot(&source))
}

fn cannot(source: &caps::errors::CapsError) -> Fault {
    Fault::Refused { message: format!("cannot set the container's capabilities: {source}"), hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(add: &[&str], drop: &[&str], privileged: bool) -> Vec<String> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let security = SecuritySpec { cap_add: owned(add), cap_drop: owned(drop), privileged, ..SecuritySpec::default() };
        let mut names: Vec<_> = wanted(&security).unwrap().into_iter().map(|cap| cap.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn no_container_can_make_device_nodes_by_default() {
        assert!(!names(&[], &[], false).contains(&"CAP_MKNOD".to_owned()));
        assert_eq!(names(&[], &[], false).len(), 13);
    }

    #[test]
    fn all_is_taken_first_and_names_after_it() {
        assert_eq!(names(&["net_admin"], &["ALL"], false), ["CAP_NET_ADMIN"]);
        assert_eq!(names(&["ALL"], &["SYS_ADMIN"], false).len(), caps::all().len() - 1);
        assert_eq!(names(&[], &["CHOWN"], true).len(), caps::all().len());
        let wrong = SecuritySpec { cap_add: vec!["FLY".to_owned()], ..SecuritySpec::default() };
        assert!(wanted(&wrong).unwrap_err().to_string().contains("FLY"));
    }
}
