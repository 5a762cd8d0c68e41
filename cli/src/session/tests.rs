//! Sessions against a supervisor that is a thread of the test.

use std::{io::Read, thread};

use netloom_runtime::protocol::Failure;

use super::*;

/// The other end: reads the opening word, then does what the test says.
fn supervisor(script: impl FnOnce(FrameWriter, UnixStream) + Send + 'static) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    thread::spawn(move || {
        let mut header = [0; 5];
        theirs.read_exact(&mut header).expect("a header");
        let mut opening = vec![0; usize::from(header[3]) << 8 | usize::from(header[4])];
        theirs.read_exact(&mut opening).expect("an opening");
        serde_json::from_slice::<Open>(&opening).expect("an opening word");
        script(FrameWriter::new(theirs.try_clone().expect("a clone")), theirs);
    });
    ours
}

fn start() -> Open {
    Open::Start { attach: true, size: None }
}

fn options() -> Options {
    Options { tty: false, stdin: false, detach_keys: DEFAULT_DETACH_KEYS.parse().expect("keys") }
}

#[test]
fn the_exit_code_is_passed_on() {
    for code in [0, 7, 137, 255] {
        let stream = supervisor(move |writer, _| {
            writer.control(&FromSupervisor::Started { pid: 1 }).expect("sent");
            writer.control(&FromSupervisor::Exited { code }).expect("sent");
        });
        let expected = Ended::Exited(u8::try_from(code).expect("small"));
        assert_eq!(hold(stream, &start(), options(), &|_| Ok(())), Ok(expected));
    }
}

#[test]
fn a_failed_start_is_told_with_its_code_and_hint() {
    let failure = Failure { message: "`x` was not found".into(), hint: Some("look".into()), code: 127 };
    let sent = failure.clone();
    let stream = supervisor(move |writer, _| writer.control(&FromSupervisor::Failed { failure: sent }).expect("sent"));
    assert_eq!(hold(stream, &start(), options(), &|_| Ok(())), Err(CliError::from(failure.clone())));
    let sent = failure.clone();
    let stream = supervisor(move |writer, _| writer.control(&FromSupervisor::Failed { failure: sent }).expect("sent"));
    assert_eq!(open_detached(stream, &start()), Err(CliError::from(failure)));
}

#[test]
fn a_supervisor_that_dies_is_an_error_with_125() {
    let error = hold(supervisor(|_, _| ()), &start(), options(), &|_| Ok(())).expect_err("it died");
    assert_eq!((error.message.as_str(), error.exit_code), ("lost the container's supervisor: it ended", 125));
    assert_eq!(open_detached(supervisor(|_, _| ()), &start()).expect_err("it died").exit_code, 125);
}

#[test]
fn a_detached_start_is_over_once_the_command_runs() {
    let stream = supervisor(|writer, mut stream| {
        writer.control(&FromSupervisor::Started { pid: 1 }).expect("sent");
        assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
    });
    assert_eq!(open_detached(stream, &Open::Start { attach: false, size: None }), Ok(()));
}

#[test]
fn a_signal_before_the_command_runs_ends_the_start() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut conductor = conductor(ours, true);
        let error = conductor.run(&inbox([Event::Signal(signal)])).expect_err("it was not started");
        assert_eq!(error.exit_code, code);
        let mut reader = theirs;
        drop(conductor);
        let mut told = String::new();
        reader.read_to_string(&mut told).expect("a word");
        assert!(told.contains(&format!("\"signal\":{}", signal as i32)), "{told}");
    }
}

#[test]
fn a_signal_to_a_command_that_runs_or_to_an_exec_ends_no_session() {
    for (starts, before) in [(true, Some(Event::Started)), (false, None)] {
        let (ours, _theirs) = UnixStream::pair().expect("a socket pair");
        let events = before.into_iter().chain([Event::Signal(Signal::SIGINT), Event::Exited(3)]);
        assert_eq!(conductor(ours, starts).run(&inbox(events)), Ok(Ended::Exited(3)));
    }
}

#[test]
fn a_supervisor_that_says_nothing_is_not_waited_for_without_end() {
    let (ours, _theirs) = UnixStream::pair().expect("a socket pair");
    let mut conductor = conductor(ours, true);
    let (sender, inbox) = channel();
    let error = conductor.next(&inbox, Instant::now()).expect_err("nobody spoke");
    assert!(error.exit_code == 125 && error.message.contains("did not answer") && error.hint.is_some(), "{error:?}");
    conductor.started = true;
    thread::spawn(move || sender.send(Event::Exited(0)));
    assert!(matches!(conductor.next(&inbox, Instant::now()), Ok(Some(Event::Exited(0)))), "one that runs has all the time it wants");
}

fn conductor(stream: UnixStream, starts: bool) -> Conductor<'static> {
    let (writer, (events, _)) = (FrameWriter::new(stream), channel());
    Conductor { writer, options: options(), events, terminal: None, send_signal: &|_| Ok(()), starts, started: false }
}

fn inbox(events: impl IntoIterator<Item = Event>) -> Receiver<Event> {
    let (sender, inbox) = channel();
    events.into_iter().for_each(|event| sender.send(event).expect("it is read"));
    inbox
}
