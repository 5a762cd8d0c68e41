//! TCP connections on which nothing is said: how they rest, what wakes them, and when they are over.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use super::{
    super::{testkit::*, *},
    tcp::{connected, exchange, heard},
};

#[test]
fn silence_ends_a_flow_when_rfc_5382_allows_and_not_before() {
    let (mut lab, handle) = connected(config(), true);
    lab.pass(Duration::from_secs(2 * 3600 + 4 * 60 - 1));
    assert_eq!(lab.gateway.flows(lab.now).len(), 1);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.state(handle), State::Closed, "the container is told");
    assert!(lab.host().reset && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn a_flow_that_has_slept_goes_on_whoever_speaks_first() {
    for superframes in [true, false] {
        let (mut lab, handle) = connected(config(), superframes);
        for round in 0..3 {
            exchange(&mut lab, handle, 200_000 * round);
            lab.host().outbox.clear();
            lab.pass(Duration::from_secs(20));
            assert_eq!(lab.gateway.flows(lab.now)[0].state, "established");
            lab.socket(handle).send_slice(b"the container").unwrap();
            lab.settle();
            assert_eq!(lab.host().outbox, b"the container");
            lab.pass(Duration::from_secs(20));
            lab.host().inbox.extend(b"the host");
            lab.settle();
            let received = heard(&mut lab, handle);
            assert_eq!(received, b"the host");
            lab.host().outbox.clear();
        }
    }
}

/// Long enough for a flow to give up its buffers.
const NAP: Duration = Duration::from_secs(20);

#[test]
fn a_flow_that_has_slept_ends_as_any_other() {
    let (mut lab, handle) = connected(config(), true);
    lab.pass(NAP);
    lab.socket(handle).abort();
    lab.settle();
    assert!(lab.host().reset && lab.gateway.flows(lab.now).is_empty(), "by the container's RST");

    let (mut lab, handle) = connected(config(), true);
    lab.pass(NAP);
    lab.host().broken = Some(OutsideError::Reset);
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed, "by the host's RST");
    assert!(lab.host().closed && lab.gateway.flows(lab.now).is_empty());

    let (mut lab, handle) = connected(config(), true);
    lab.pass(NAP);
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.host().finished && !lab.host().closed, "by the container's FIN");
    lab.pass(NAP);
    lab.host().inbox.extend(b"last words");
    lab.host().inbox_fin = true;
    lab.settle();
    let received = heard(&mut lab, handle);
    assert_eq!((received.as_slice(), lab.state(handle)), (&b"last words"[..], State::TimeWait));
    assert!(lab.host().closed && !lab.host().reset && lab.gateway.flows(lab.now).is_empty());

    let (mut lab, handle) = connected(config(), true);
    lab.pass(NAP);
    lab.gateway.close_all(lab.now, &mut lab.world);
    lab.settle();
    assert_eq!(lab.state(handle), State::Closed, "with its gateway");
    assert!(lab.host().reset && lab.gateway.next_timer().is_none());
}

#[test]
fn a_container_that_asks_whether_a_sleeping_flow_is_alive_is_answered() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).set_keep_alive(Some(smoltcp::time::Duration::from_secs(30)));
    lab.socket(handle).set_timeout(Some(smoltcp::time::Duration::from_secs(100)));
    lab.pass(Duration::from_secs(1000));
    assert_eq!(lab.state(handle), State::Established);
    exchange(&mut lab, handle, 100_000);
}

#[test]
fn a_flow_with_data_on_its_way_stays_awake() {
    let (mut lab, handle) = connected(config(), true);
    lab.host().room = 0;
    lab.socket(handle).send_slice(b"nobody reads this yet").unwrap();
    lab.pass(NAP);
    lab.host().room = 100;
    lab.settle();
    assert_eq!(lab.host().outbox, b"nobody reads this yet");
}

#[test]
fn frames_lost_before_and_after_a_sleep_are_sent_again() {
    let (mut lab, handle) = connected(config(), true);
    lab.lose = Box::new(|frame| frame.is_multiple_of(5));
    for _ in 0..10 {
        exchange(&mut lab, handle, 150_000);
        lab.host().outbox.clear();
        lab.pass(NAP);
    }
}

#[test]
fn a_connection_that_a_program_closed_and_its_server_never_does_is_not_kept() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).send_slice(b"goodbye").unwrap();
    lab.socket(handle).close();
    lab.settle();
    assert!(lab.host().finished && !lab.host().closed);
    lab.pass(Duration::from_secs(60));
    lab.forget(handle);
    lab.pass(Duration::from_secs(20));
    assert!(lab.host().reset && lab.gateway.flows(lab.now).is_empty() && lab.gateway.next_timer().is_none());
}

#[test]
fn a_program_that_closed_its_end_may_wait_for_its_answer_as_long_as_an_open_connection_may_be_silent() {
    for answer_after in [3600, 7000] {
        let (mut lab, handle) = connected(config(), true);
        lab.socket(handle).close();
        lab.pass(Duration::from_secs(answer_after));
        lab.host().inbox.extend(b"answer");
        lab.settle();
        let received = heard(&mut lab, handle);
        assert_eq!(received, b"answer");
        lab.pass(Duration::from_secs(7400));
        assert_eq!(lab.state(handle), State::FinWait2, "it is not over before its time");
        lab.pass(Duration::from_secs(50));
        assert_eq!(lab.state(handle), State::Closed, "its acknowledgements of what it is asked are no words");
        assert!(lab.host().reset && lab.gateway.flows(lab.now).is_empty());
    }
}

#[test]
fn who_closed_its_end_is_asked_now_and_then() {
    let (mut lab, handle) = connected(config(), true);
    lab.socket(handle).close();
    lab.settle();
    let before = lab.frames;
    lab.pass(Duration::from_secs(3000));
    let asked = (lab.frames - before) / 2;
    assert!((30..=50).contains(&asked), "{asked} questions");
}
