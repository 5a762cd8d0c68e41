//! The word that was meant, among those that there are.

/// The name that a few slips of the finger make `word` of, if there is one.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.chars().count() / 5;
    let near = names.map(|name| (distance(word, name), name)).filter(|(distance, _)| *distance <= allowed);
    near.min().map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (to, above) in b.iter().zip(row.windows(2)) {
            let [diagonal, up] = above else { continue };
            left = (left + 1).min(up + 1).min(diagonal + usize::from(from != *to));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_and_another_word_is_none() {
        let near = |word| nearest(word, ["publish", "ps", "stop"].into_iter());
        assert_eq!((near("pubilsh"), near("pss"), near("top")), (Some("publish"), Some("ps"), Some("stop")));
        assert_eq!((near("pull"), near("images"), near("")), (None, None, None));
    }
}
