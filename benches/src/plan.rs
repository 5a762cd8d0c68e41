//! Who runs after whom, and the samples that come of it.
//!
//! A ratio is taken from two measurements that ran back to back, so that a machine whose speed drifts drifts for both. One turn of
//! the subject stands between two peers and makes a pair with each; every other round runs backwards, so that nobody always goes first.
//!
//! ```text
//!  round 1:  p1 S p2 · p3 S p4        round 2:  p4 S p3 · p2 S p1
//! ```

use crate::{error::Result, work::Sample};

/// One contender in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Subject,
    /// By its place among the peers.
    Peer(usize),
}

/// The order of one round: groups of up to two peers around the subject.
#[must_use]
pub fn round(number: usize, peers: usize) -> Vec<Vec<Who>> {
    let places: Vec<usize> = (0..peers).collect();
    let mut groups: Vec<Vec<Who>> = places
        .chunks(2)
        .map(|pair| {
            let mut group: Vec<Who> = pair.iter().map(|&place| Who::Peer(place)).collect();
            group.insert(1, Who::Subject);
            group
        })
        .collect();
    if groups.is_empty() {
        groups.push(vec![Who::Subject]);
    }
    if number % 2 == 1 {
        groups.reverse();
        groups.iter_mut().for_each(|group| group.reverse());
    }
    groups
}

/// What all rounds of one work gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub subject: Vec<Sample>,
    pub peers: Vec<TakenOf>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TakenOf {
    pub samples: Vec<Sample>,
    /// The subject's sample and the peer's, of one group.
    pub pairs: Vec<(Sample, Sample)>,
}

/// Runs all rounds. `measure` gives no sample where a contender cannot do the work or failed at it.
pub fn take(rounds: usize, peers: usize, mut measure: impl FnMut(usize, Who) -> Result<Option<Sample>>) -> Result<Taken> {
    let mut taken = Taken { subject: Vec::new(), peers: vec![TakenOf::default(); peers] };
    for number in 0..rounds {
        for group in round(number, peers) {
            let mut subject = None;
            let mut others = Vec::new();
            for who in group {
                let sample = measure(number, who)?;
                match who {
                    Who::Subject => subject = sample,
                    Who::Peer(place) => others.extend(sample.map(|sample| (place, sample))),
                }
            }
            for (place, sample) in others {
                let Some(peer) = taken.peers.get_mut(place) else { continue };
                peer.samples.push(sample.clone());
                peer.pairs.extend(subject.clone().map(|subject| (subject, sample)));
            }
            taken.subject.extend(subject);
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f64) -> Sample {
        Sample { values: vec![value], ..Sample::default() }
    }

    #[test]
    fn every_peer_runs_right_beside_the_subject() {
        for peers in 0..6 {
            for number in 0..2 {
                let groups = round(number, peers);
                assert!(groups.iter().all(|group| group.iter().filter(|&&who| who == Who::Subject).count() == 1));
                let beside =
                    |group: &[Who], place| group.windows(2).any(|two| two.contains(&Who::Subject) && two.contains(&Who::Peer(place)));
                assert!((0..peers).all(|place| groups.iter().filter(|group| beside(group, place)).count() == 1), "{groups:?}");
            }
        }
    }

    #[test]
    fn every_other_round_runs_backwards() {
        let forwards: Vec<Who> = round(0, 3).concat();
        let mut backwards: Vec<Who> = round(1, 3).concat();
        backwards.reverse();
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn a_pair_is_made_within_a_group_and_not_across() {
        // The subject counts its turns; a peer returns its place.
        let mut turns = 0.0;
        let taken = take(2, 3, |_, who| {
            Ok(Some(sample(match who {
                Who::Peer(place) => place as f64 * 10.0,
                Who::Subject => {
                    turns += 1.0;
                    turns
                }
            })))
        })
        .unwrap();
        let subjects = |place: usize| taken.peers[place].pairs.iter().map(|(subject, _)| subject.values[0]).collect::<Vec<_>>();
        assert_eq!((subjects(0), subjects(1), subjects(2)), (vec![1.0, 4.0], vec![1.0, 4.0], vec![2.0, 3.0]));
        assert_eq!(taken.subject.len(), 4);
    }

    #[test]
    fn a_sample_that_is_missing_leaves_no_pair() {
        let taken = take(4, 1, |number, who| Ok((who == Who::Subject || number > 0).then(|| sample(1.0)))).unwrap();
        assert_eq!((taken.subject.len(), taken.peers[0].samples.len(), taken.peers[0].pairs.len()), (4, 3, 3));
    }
}
