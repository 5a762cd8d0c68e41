//! The keys that leave a container running: a sequence such as Ctrl-P Ctrl-Q, found in what is typed.
//!
//! Keys that may begin the sequence are held back until the next one tells; nothing is ever lost or sent out of order.

use std::str::FromStr;

use crate::words::{WordError, not};

pub const DEFAULT_DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it has been typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    held: Vec<u8>,
}

impl DetachKeys {
    /// Takes typed bytes. What is to be sent on is added to `out`; true: the sequence is complete, and what follows it is dropped.
    pub fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in typed {
            self.held.push(*byte);
            while !self.keys.starts_with(&self.held) {
                out.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.len() {
                self.held.clear();
                return true;
            }
        }
        false
    }

    /// What is held back when nothing more will be typed.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

impl FromStr for DetachKeys {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        let keys = word.split(',').map(key).collect::<Result<_, _>>()?;
        Ok(Self { keys, held: Vec::new() })
    }
}

/// One key: a letter or sign, or `ctrl-` and one of a-z @ [ \ ] ^ _.
fn key(word: &str) -> Result<u8, WordError> {
    let wanted = "a key: one ASCII character, or ctrl- and one of a-z @ [ \\ ] ^ _";
    match word.strip_prefix("ctrl-").map_or((false, word.as_bytes()), |key| (true, key.as_bytes())) {
        (false, [key]) if key.is_ascii_graphic() => Ok(*key),
        (true, [key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(key & 0x1f),
        _ => Err(not(word, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::testing::refuses;

    fn keys(word: &str) -> DetachKeys {
        word.parse().expect("good keys")
    }

    /// What is sent on, and whether it detached, however the bytes are cut into reads.
    fn typed(word: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
        let run = |chunk: usize| {
            let (mut keys, mut out) = (keys(word), Vec::new());
            let detached = bytes.chunks(chunk).any(|part| keys.feed(part, &mut out));
            if !detached {
                out.extend(keys.finish());
            }
            (out, detached)
        };
        let whole = run(bytes.len().max(1));
        assert_eq!(run(1), whole, "reads of one byte differ");
        whole
    }

    #[test]
    fn the_sequence_detaches_and_is_not_sent() {
        assert_eq!(typed(DEFAULT_DETACH_KEYS, b"ls\r\x10\x11more"), (b"ls\r".to_vec(), true));
        assert_eq!(typed("a,a,b", b"aaab"), (b"a".to_vec(), true));
        assert_eq!(typed("x", b"x"), (Vec::new(), true));
    }

    #[test]
    fn a_broken_off_sequence_is_sent_in_order() {
        assert_eq!(typed(DEFAULT_DETACH_KEYS, b"\x10a\x10\x10b\x11"), (b"\x10a\x10\x10b\x11".to_vec(), false));
        assert_eq!(typed("a,b,a,c", b"ababab"), (b"ababab".to_vec(), false));
    }

    #[test]
    fn the_last_keys_of_all_are_not_lost() {
        assert_eq!(typed(DEFAULT_DETACH_KEYS, b"x\x10"), (b"x\x10".to_vec(), false));
    }

    #[test]
    fn key_words_are_dockers() {
        assert_eq!(keys("ctrl-@,a,ctrl-_"), DetachKeys { keys: vec![0, b'a', 31], held: Vec::new() });
        let wanted = "is not a key: one ASCII character, or ctrl- and one of a-z @ [ \\ ] ^ _";
        refuses(
            |word| word.parse::<DetachKeys>(),
            &[
                ("", &format!("`` {wanted}")),
                ("ctrl-1", &format!("`ctrl-1` {wanted}")),
                ("ab", &format!("`ab` {wanted}")),
                ("ctrl-p,", &format!("`` {wanted}")),
            ],
        );
    }
}
