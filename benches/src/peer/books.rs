//! The books of netloom's ports after a work, with the kernel's own for the interfaces: no frame may be unaccounted for.
//!
//! ```text
//!  the container sent   =  frames read by netloom                         + the ring's drops, which netloom never saw
//!  frames written by netloom  =  what the container's kernel took         + what it dropped
//! ```

use std::{collections::BTreeMap, thread, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::Peer;
use crate::{
    error::{BenchError, Result},
    process::run,
};

const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What the counters say once no frame moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Frames that the rings of the ends had no room for: sent by a container, never read.
    pub ring_dropped: u64,
    /// Frames dropped by netloom, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What does not add up, in words; empty if all does.
    pub wrong: Vec<String>,
}

struct Row {
    rx_frames: u64,
    tx_frames: u64,
    drops: BTreeMap<String, u64>,
}

impl Peer {
    /// The books of all ends; nothing where the peer is not netloom.
    pub fn books(&self) -> Result<Option<Books>> {
        let Some(instance) = &self.instance else { return Ok(None) };
        let mut books = Books::default();
        for _ in 0..TRIES {
            let rows = parse(&run(instance.netloom(&["ports", "--json"]))?)?;
            books = self.reconciled(&rows)?;
            if books.wrong.is_empty() {
                break;
            }
            // Something may still be on its way, or came between two readings.
            thread::sleep(PAUSE);
        }
        Ok(Some(books))
    }

    fn reconciled(&self, rows: &BTreeMap<String, Row>) -> Result<Books> {
        let mut books = Books::default();
        for row in rows.values() {
            for (reason, frames) in &row.drops {
                *books.dropped.entry(reason.clone()).or_default() += frames;
            }
        }
        for end in self.ends() {
            let name = end.netns.name();
            let Some((_, row)) = rows.iter().find(|(container, _)| !container.is_empty() && name.ends_with(container.as_str())) else {
                continue;
            };
            let link = end.netns.link(&end.device)?;
            books.ring_dropped += link.send_dropped;
            // A frame that the kernel refuses is counted there as dropped or not at all: netloom counts it as refused.
            let taken = link.received_frames + link.receive_dropped;
            if link.sent_frames != row.rx_frames {
                books.wrong.push(format!("{name}: sent {}, read {}", link.sent_frames, row.rx_frames));
            }
            if !(link.received_frames..=taken).contains(&row.tx_frames) {
                books.wrong.push(format!(
                    "{name}: written {}, received {} and dropped {}",
                    row.tx_frames, link.received_frames, link.receive_dropped
                ));
            }
        }
        Ok(books)
    }
}

fn parse(json: &str) -> Result<BTreeMap<String, Row>> {
    let lacks = || BenchError::Answer { program: "netloom ports".into(), answer: json.chars().take(200).collect(), lacks: "ports" };
    let value: Value = serde_json::from_str(json).map_err(|_| lacks())?;
    let row = |port: &Value| {
        let number = |key: &str| port.get(key).and_then(Value::as_u64);
        let drops = port.get("drops").and_then(Value::as_object)?;
        let drops = drops.iter().filter_map(|(reason, frames)| Some((reason.clone(), frames.as_u64()?))).collect();
        let container = port.get("container").and_then(Value::as_str).unwrap_or_default().to_owned();
        Some((container, Row { rx_frames: number("rx_frames")?, tx_frames: number("tx_frames")?, drops }))
    };
    value.as_array().and_then(|ports| ports.iter().map(row).collect()).ok_or_else(lacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_their_drops() {
        let rows = parse(r#"[{"container":"a","rx_frames":4,"tx_frames":5,"drops":{"runt":2}}]"#).unwrap();
        let row = &rows["a"];
        assert_eq!((row.rx_frames, row.tx_frames, row.drops["runt"]), (4, 5, 2));
    }

    #[test]
    fn an_answer_without_counters_is_an_error() {
        assert!(parse(r#"[{"container":"a"}]"#).is_err());
    }
}
