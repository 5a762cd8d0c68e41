//! The word that was meant, among those that there are.

/// The name that a few slips of the finger make `word` of, if there is one.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.chars().count() / 5;
    let near = names.map(|name| (distance(word, name), name)).filter(|(distance, _)| *distance <= allowed);
    near.min().map(|(_, name)| name)
}

/// Insertions, deletions and replacements of characters, and swaps of two neighbours (the optimal string alignment of Damerau and
/// Levenshtein). The words are short.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let at = |up: usize, left: usize| rows.get(i + 1 - up).and_then(|row| row.get(j + 1 - left)).copied().unwrap_or(usize::MAX - 1);
            let kept = at(1, 1) + usize::from(from != to);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            let swap = if swapped { at(2, 2) + 1 } else { kept };
            let beside = row.last().map_or(kept, |left| left + 1);
            row.push(kept.min(swap).min(at(1, 0) + 1).min(beside));
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_and_another_word_is_none() {
        let near = |word| nearest(word, ["publish", "ps", "stop"].into_iter());
        assert_eq!((near("pubilsh"), near("pss"), near("top")), (Some("publish"), Some("ps"), Some("stop")));
        assert_eq!((near("stpo"), near("sp")), (Some("stop"), Some("ps")));
        assert_eq!((near("pull"), near("images"), near("")), (None, None, None));
    }
}
