//! The names that a port may ask for, and the addresses behind them.

use std::{collections::HashMap, net::IpAddr};

/// A table of names, made whole and shared; a change makes a new table. Single labels and dotted names are keys alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    forward: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

impl Names {
    /// Takes `(name, addresses)` pairs. Case and a final dot do not matter; a name given twice has the addresses of both, and
    /// an address under several names is called by the first.
    pub fn new<N, A>(entries: impl IntoIterator<Item = (N, A)>) -> Self
    where
        N: AsRef<str>,
        A: IntoIterator<Item = IpAddr>,
    {
        let mut names = Self::default();
        for (name, addresses) in entries {
            let name = Self::key(name.as_ref());
            for address in addresses {
                names.reverse.entry(address).or_insert_with(|| name.clone());
                let known = names.forward.entry(name.clone()).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        names
    }

    /// The addresses of a name, both families; `None` if nobody has it.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.forward.get(&Self::key(name)).map(Vec::as_slice)
    }

    /// The name of an address, lower case, without a final dot.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.reverse.get(&address).map(String::as_str)
    }

    fn key(name: &str) -> String {
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_the_final_dot_do_not_matter() {
        let web: IpAddr = [10, 0, 0, 2].into();
        let db: IpAddr = [10, 0, 0, 3].into();
        let names = Names::new([("Web", vec![web]), ("web.blue.", vec![web]), ("db", vec![db]), ("WEB", vec![db, web])]);
        assert_eq!(names.addresses("wEB."), Some([web, db].as_slice()));
        assert_eq!(names.addresses("web.blue"), Some([web].as_slice()));
        assert_eq!(names.addresses("cache"), None);
        assert_eq!(names.name(web), Some("web"));
        assert_eq!(names.name([10, 0, 0, 9].into()), None);
    }
}
