//! From the word that somebody typed to the thing it means.

use super::error::{Error, Result};
use crate::words::nearest::nearest;

/// The IDs that a container has beside its name, in hex digits.
pub(crate) const ID_LEN: usize = 64;
/// As many as listings show.
pub(crate) const SHORT_ID_LEN: usize = 12;

/// The short form of an ID.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT_ID_LEN).unwrap_or(id)
}

/// Finds the container that `word` names: by its name, its ID, or a prefix that only one ID has.
///
/// Errors: none such, with the nearest name; several, which it lists.
pub(crate) fn container<'a>(word: &str, all: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<&'a str> {
    let exact = all.clone().find(|(id, name)| *name == word || *id == word);
    if let Some((id, _)) = exact {
        return Ok(id);
    }
    let is_prefix = !word.is_empty() && word.len() < ID_LEN && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lower = word.to_ascii_lowercase();
    let matches: Vec<_> = all.clone().filter(|(id, _)| is_prefix && id.starts_with(&lower)).collect();
    match matches.as_slice() {
        [] => Err(no_such("container", word, all.map(|(_, name)| name))),
        [(id, _)] => Ok(id),
        several => {
            let list: Vec<_> = several.iter().map(|(id, name)| format!("{} ({name})", short(id))).collect();
            Err(Error::conflict(format!("`{word}` is the beginning of {} container IDs", several.len()))
                .hint(format!("which one of {}?", list.join(", "))))
        }
    }
}

/// The error for a `what` that there is none of, with the nearest of the names there are.
pub(crate) fn no_such<'a>(what: &str, word: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::missing(format!("no such {what}: `{word}`"));
    match nearest(word, names) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None if what == "network" => error.hint("`netloom network ls` lists the networks"),
        None => error.hint("`netloom ps -a` lists the containers"),
    }
}

/// Whether `name` may name a container or a network: docker's letters, and one of them is enough.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 128 {
        return Ok(());
    }
    Err(Error::invalid(format!("`{name}` cannot name a {what}"))
        .hint("a name has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or a digit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ab12000000000000000000000000000000000000000000000000000000000001";
    const B: &str = "ab34000000000000000000000000000000000000000000000000000000000002";
    const C: &str = "cd00000000000000000000000000000000000000000000000000000000000003";

    fn find(word: &str) -> Result<&'static str> {
        container(word, [(A, "web"), (B, "database"), (C, "ab")].into_iter())
    }

    #[test]
    fn a_name_an_id_and_a_clear_prefix_lead_to_the_container() {
        for (word, id) in [("web", A), (B, B), ("ab1", A), ("AB3", B), ("c", C)] {
            assert_eq!(find(word).unwrap(), id, "{word}");
        }
    }

    #[test]
    fn a_name_goes_before_a_prefix() {
        assert_eq!(find("ab").unwrap(), C);
    }

    #[test]
    fn a_prefix_of_several_ids_lists_them() {
        let error = container("ab", [(A, "web"), (B, "database")].into_iter()).unwrap_err();
        let hint = error.hint.unwrap();
        assert!(hint.contains("ab1200000000 (web)") && hint.contains("ab3400000000 (database)"), "{hint}");
    }

    #[test]
    fn an_unknown_name_is_told_with_its_nearest() {
        assert_eq!(find("databsae").unwrap_err().hint.as_deref(), Some("did you mean `database`?"));
        assert_eq!(find("nothing-like-it").unwrap_err().hint.as_deref(), Some("`netloom ps -a` lists the containers"));
        assert_eq!(find("").unwrap_err().message, "no such container: ``");
    }

    #[test]
    fn names_have_dockers_letters() {
        for good in ["a", "a1", "web_1", "0.x-y"] {
            check_name("container", good).unwrap();
        }
        for bad in ["", "-a", "a b", "a/b", "ä1", "a:b", &"x".repeat(129)] {
            check_name("container", bad).unwrap_err();
        }
    }
}
