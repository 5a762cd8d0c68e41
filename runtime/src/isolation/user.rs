//! Who a command runs as: `-u`, looked up in the container's own /etc/passwd and /etc/group (passwd(5), group(5)).

use std::path::PathBuf;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::fault::{Doing, Fault, Result};

/// A user with the groups it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
}

/// Looks up `USER[:GROUP]`, names or numbers; no user is root. Numbers need no entry, as in docker.
pub(crate) fn look_up(user: Option<&str>, passwd: &str, group: &str) -> Result<Identity> {
    let user = user.filter(|user| !user.is_empty()).unwrap_or("0");
    let (user, wanted_group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let by_id = number("user", user)?;
    let accounts: Vec<_> = passwd.lines().filter_map(Account::parse).collect();
    let account = accounts.iter().find(|account| account.name == user || by_id == Some(account.uid));
    let uid = match (account, by_id) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(unknown("user", user, "/etc/passwd")),
    };
    let groups: Vec<_> = group.lines().filter_map(Group::parse).collect();
    let home = account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or("/").into();
    if let Some(wanted) = wanted_group {
        let by_id = number("group", wanted)?;
        let named = groups.iter().find(|group| group.name == wanted).map(|group| group.gid).or(by_id);
        let gid = named.ok_or_else(|| unknown("group", wanted, "/etc/group"))?;
        return Ok(Identity { uid, gid, groups: vec![gid], home });
    }
    let gid = account.map_or(0, |account| account.gid);
    let member = |group: &&Group<'_>| account.is_some_and(|account| group.members.split(',').any(|name| name == account.name));
    let mut all = vec![gid];
    all.extend(groups.iter().filter(member).map(|group| group.gid).filter(|other| *other != gid));
    Ok(Identity { uid, gid, groups: all, home })
}

/// The ID that a word of digits is; none for a name. The highest means "as it is" to the kernel (setresuid(2)).
fn number(what: &str, word: &str) -> Result<Option<u32>> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse().ok().filter(|id| *id != u32::MAX) {
        Some(id) => Ok(Some(id)),
        None => {
            let range = format!("a {what} is a name or a number from 0 to {}", u32::MAX - 1);
            Err(Fault::refused(format!("the {what} `{word}` is out of range"), range))
        }
    }
}

fn unknown(what: &str, name: &str, file: &str) -> Fault {
    Fault::refused(
        format!("the container has no {what} `{name}`"),
        format!("it is looked up in the container's {file}; a number needs no entry"),
    )
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Account<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid, home: fields.nth(1)? })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next()? })
    }
}

impl Identity {
    /// Becomes this user. Groups stay as they are where the user namespace has only one.
    pub(crate) fn assume(&self) -> Result<()> {
        let not_mapped = |what: &str, id: u32| {
            let message = format!("become {what} {id}");
            let hint = "without root, users other than root need ranges in /etc/subuid and /etc/subgid, and newuidmap";
            move |errno: nix::Error| Fault::system(message, errno).with_hint(hint)
        };
        let groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let denied = std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny");
        if !denied {
            setgroups(&groups).map_err(not_mapped("a member of group", self.gid))?;
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setresgid(gid, gid, gid).map_err(not_mapped("group", self.gid))?;
        setresuid(uid, uid, uid).map_err(not_mapped("user", self.uid))
    }
}

/// Becomes root of the user namespace just entered.
pub(crate) fn become_root() -> Result<()> {
    // In a namespace with one user there are no groups to set.
    let _ = setgroups(&[]);
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).doing("become root of the user namespace")?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).doing("become root of the user namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nanna:x:1000:1000::/home/anna:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nanna:x:1000:\nsudo:x:27:bert,anna\ndialout:x:20:annabel\n";

    fn ids(user: Option<&str>) -> (u32, u32, Vec<u32>, String) {
        let found = look_up(user, PASSWD, GROUP).unwrap();
        (found.uid, found.gid, found.groups, found.home.display().to_string())
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        assert_eq!(ids(Some("anna")), (1000, 1000, vec![1000, 27], "/home/anna".to_owned()));
        assert_eq!(ids(Some("1000")), (1000, 1000, vec![1000, 27], "/home/anna".to_owned()));
        assert_eq!(ids(None), (0, 0, vec![0], "/root".to_owned()));
    }

    #[test]
    fn a_group_given_is_the_only_one() {
        assert_eq!(ids(Some("anna:sudo")), (1000, 27, vec![27], "/home/anna".to_owned()));
        assert_eq!(ids(Some("0:77")), (0, 77, vec![77], "/root".to_owned()));
    }

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        assert_eq!(ids(Some("4000")), (4000, 0, vec![0], "/".to_owned()));
        assert!(look_up(Some("nobody"), PASSWD, GROUP).unwrap_err().to_string().contains("`nobody`"));
        for wrong in ["4294967295", "99999999999", "0:4294967296"] {
            assert!(look_up(Some(wrong), PASSWD, GROUP).unwrap_err().to_string().contains("out of range"), "{wrong}");
        }
        assert_eq!(ids(Some("4294967294")).0, 4_294_967_294);
        assert!(look_up(Some("0:none"), PASSWD, GROUP).unwrap_err().to_string().contains("`none`"));
    }
}
