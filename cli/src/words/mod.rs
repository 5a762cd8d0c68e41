//! The words of the command line: each parser takes one word and names what is wrong with it.
//!
//! Nothing here touches the system: a path is not looked at, a name is not resolved.

pub mod container;
pub mod filter;
pub mod mount;
pub mod nearest;
pub mod network;
pub mod publish;
pub mod quantity;

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    #[error("`{word}` is not {wanted}")]
    Not { word: String, wanted: &'static str },
    #[error("`{word}` lacks {missing}")]
    Lacks { word: String, missing: &'static str },
    #[error("the ranges of `{word}` differ in length: {host} host ports for {container} of the container")]
    RangeLengths { word: String, host: usize, container: usize },
    #[error("the range `{word}` runs backwards")]
    Backwards { word: String },
    #[error("`{address}` in `{word}` stands without brackets: write [{address}]")]
    Brackets { word: String, address: String },
    #[error("`{key}` in `{word}` is not one of {keys}")]
    Key { word: String, key: String, keys: &'static str },
    #[error("`{key}` stands twice in `{word}`")]
    Twice { word: String, key: String },
    #[error("`{word}` has host bits set; the network is `{network}`")]
    HostBits { word: String, network: String },
    #[error("the soft limit of `{word}` is above its hard limit")]
    SoftAboveHard { word: String },
}

/// `word` is not what was wanted there.
pub fn not(word: &str, wanted: &'static str) -> WordError {
    WordError::Not { word: word.to_owned(), wanted }
}

/// Two parts of a word, with what the second part is where it is missing.
pub fn split<'a>(word: &'a str, at: char, missing: &'static str) -> Result<(&'a str, &'a str), WordError> {
    word.split_once(at).ok_or_else(|| WordError::Lacks { word: word.to_owned(), missing })
}

/// Tests whether a word is a name as networks, containers and aliases have them.
pub fn is_name(word: &str) -> bool {
    let mut letters = word.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'-'))
}

#[cfg(test)]
pub mod testing {
    use std::fmt::Debug;

    use super::WordError;

    /// Every bad word is refused with exactly this message.
    pub fn refuses<T: Debug>(parse: impl Fn(&str) -> Result<T, WordError>, table: &[(&str, &str)]) {
        for (word, message) in table {
            match parse(word) {
                Ok(value) => panic!("`{word}` was taken as {value:?}"),
                Err(error) => assert_eq!(error.to_string(), *message, "for `{word}`"),
            }
        }
    }

    /// Every good word becomes exactly this value.
    pub fn takes<T: Debug + PartialEq>(parse: impl Fn(&str) -> Result<T, WordError>, table: &[(&str, T)]) {
        for (word, value) in table {
            assert_eq!(parse(word).as_ref(), Ok(value), "for `{word}`");
        }
    }
}
