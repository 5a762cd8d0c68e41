//! TCP streams by iperf3, from A to B or, with `-R`, back.

use serde_json::Value;

use super::Done;
use crate::{
    error::{BenchError, Result},
    peer::Peer,
    process::Process,
};

const PORT: u16 = 5201;
const LISTENING: &str = "Server listening";

/// One iperf3 for each list of options, all at once; the sum of what they received.
pub(super) fn streams(peer: &Peer, seconds: u32, options: &[&[&str]]) -> Result<Done> {
    let ports = || (PORT..).zip(options);
    let server = |port| Process::start_until(peer.b.netns.command_line(&format!("iperf3 -s -1 --forceflush -p {port}")), LISTENING);
    let _servers = ports().map(|(port, _)| server(port)).collect::<Result<Vec<_>>>()?;
    let clients = ports().map(|(port, options)| {
        let mut command = peer.a.netns.command_line(&format!("iperf3 -J -c {} -p {port} -t {seconds}", peer.target));
        command.args(*options);
        Process::start_until(command, "{")
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let mut received = Received::default();
    for client in clients {
        let one = parse(&format!("{{{}", client.output()?))?;
        received = Received { bits_per_second: received.bits_per_second + one.bits_per_second, bytes: received.bytes + one.bytes };
    }
    Ok(Done { values: vec![received.bits_per_second / 1e9], amount: received.bytes / 1e9 })
}

/// One stream in megabits, for paths that carry little.
pub(super) fn megabits(peer: &Peer, seconds: u32, options: &[&str]) -> Result<Done> {
    let Done { values, amount } = streams(peer, seconds, &[options])?;
    Ok(Done { values: values.into_iter().map(|gigabits| gigabits * 1e3).collect(), amount })
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Received {
    bits_per_second: f64,
    bytes: f64,
}

/// Of `iperf3 -J`: `end.sum_received`, or what went wrong in `error`.
fn parse(json: &str) -> Result<Received> {
    let lacks = |lacks| BenchError::Answer { program: "iperf3".into(), answer: json.chars().take(200).collect(), lacks };
    let value: Value = serde_json::from_str(json).map_err(|_| lacks("JSON"))?;
    if let Some(error) = value.get("error").and_then(Value::as_str) {
        return Err(BenchError::Command { command: "iperf3".into(), said: error.to_owned() });
    }
    let sum = |field: &str| value.pointer(&format!("/end/sum_received/{field}")).and_then(Value::as_f64);
    match (sum("bits_per_second"), sum("bytes")) {
        (Some(bits_per_second), Some(bytes)) if bytes > 0.0 => Ok(Received { bits_per_second, bytes }),
        _ => Err(lacks("end.sum_received")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_got_counts_not_what_the_sender_sent() {
        let json = r#"{"start":{},"end":{"sum_sent":{"bytes":900,"bits_per_second":7200.0},
            "sum_received":{"start":0,"bytes":800,"bits_per_second":6400.5,"sender":true}}}"#;
        assert_eq!(parse(json).unwrap(), Received { bits_per_second: 6400.5, bytes: 800.0 });
    }

    #[test]
    fn an_error_of_iperf_is_passed_on() {
        let error = parse(r#"{"end":{},"error":"error - unable to connect to server: Connection refused"}"#).unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }

    #[test]
    fn a_run_that_received_nothing_is_no_result() {
        assert!(parse(r#"{"end":{"sum_received":{"bytes":0,"bits_per_second":0}}}"#).is_err());
        assert!(parse("{").is_err());
    }
}
