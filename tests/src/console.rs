//! Transcripts in the documentation, run as written.
//!
//! A fenced block marked `console` is what a person sees on a terminal, on a fresh host, as an ordinary user:
//!
//! ```text
//! $ netloom run --rm -it sh          a line typed at the user's shell
//! # hostname                         a line typed at a container's shell
//! 3f9a…                              what must appear; … is anything within a line
//! …                                  alone on a line: any number of lines, also none
//! # exit
//! $ cargo run --release -- ps        the same as `netloom ps`
//! ```
//!
//! A command with nothing below it may say what it likes. Every command typed at the user's shell must succeed, unless the next
//! line typed asks for `$?`.

use crate::{
    host::Host,
    netloom::{binary_on, install},
    process::words,
    terminal::Terminal,
    user::Who,
};

/// One line typed, and what must follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub prompt: char,
    pub typed: String,
    pub expected: Vec<String>,
}

/// One `console` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line of the file that it begins on.
    pub line: usize,
    pub steps: Vec<Step>,
}

/// The `console` blocks of a Markdown text.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim() == "```console" => open = Some(Block { line: index + 1, steps: Vec::new() }),
            None => {}
            Some(_) if line.trim() == "```" => blocks.extend(open.take()),
            Some(block) => add_line(block, line),
        }
    }
    blocks
}

fn add_line(block: &mut Block, line: &str) {
    let typed = |prompt| Some((prompt, line.trim_start().strip_prefix(prompt)?.strip_prefix(' ')?));
    if let Some((prompt, typed)) = typed('$').or_else(|| typed('#')) {
        block.steps.push(Step { prompt, typed: typed.into(), expected: Vec::new() });
    } else if let Some(step) = block.steps.last_mut() {
        step.expected.push(line.trim().into());
    }
}

/// Whether `lines` are what `expected` says.
pub fn shows(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.iter().all(|line| line.is_empty()),
        Some((first, rest)) if first == "…" => (0..=lines.len()).any(|skip| shows(rest, &lines[skip..])),
        Some((first, rest)) => lines.split_first().is_some_and(|(line, tail)| line_shows(first, line.trim()) && shows(rest, tail)),
    }
}

fn line_shows(expected: &str, line: &str) -> bool {
    // Columns are as wide as what stands in them, which differs from run to run.
    let (expected, line) =
        (expected.split_whitespace().collect::<Vec<_>>().join(" "), line.split_whitespace().collect::<Vec<_>>().join(" "));
    match expected.split_once('…') {
        None => expected == line,
        Some((head, rest)) => line
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| line_shows_from(rest, &tail[at..]))),
    }
}

fn line_shows_from(expected: &str, line: &str) -> bool {
    match expected.split_once('…') {
        None => expected == line,
        Some((head, rest)) => line
            .strip_prefix(head)
            .is_some_and(|tail| (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| line_shows_from(rest, &tail[at..]))),
    }
}

/// Runs a block on a host of its own. Panics where it shows something else; `file` names it in messages.
#[track_caller]
pub fn play(file: &str, block: &Block) {
    let host = Host::new(Who::User);
    install(&host);
    let shell = words("bash --norc --noprofile --noediting -i");
    let mut session = host.terminal(&shell, &format!("{file}:{}", block.line));
    let bin = binary_on(&host);
    let bin = bin.parent().expect("a binary lies in a directory").display();
    session.expect("$ ");
    // One line, so that the first prompt after it is the first of the transcript.
    session.send(&format!(
        "export PATH={bin}:$PATH TERM=dumb; stty cols 200; cargo() {{ while [ \"$1\" != -- ]; do shift; done; shift; netloom \"$@\"; }}; PS1='$ '\r"
    ));
    session.expect("\n$ ");
    for (index, step) in block.steps.iter().enumerate() {
        let next = block.steps.get(index + 1);
        type_step(&mut session, file, block, step, next.map_or('$', |next| next.prompt));
        let asked = next.is_some_and(|next| next.prompt == '#' || next.typed.contains("$?"));
        if step.prompt == '$' && !asked {
            session.send("echo \"exit=$?\"\r");
            let between = session.expect("\n$ ");
            assert!(between.contains("\nexit=0"), "{file}:{}: `{}` failed: {between}", block.line, step.typed);
        }
    }
    session.send("netloom rm -f $(netloom ps -aq) > /dev/null 2>&1; exit\r");
    session.finish();
}

fn type_step(session: &mut Terminal, file: &str, block: &Block, step: &Step, prompt: char) {
    session.send(&format!("{}\r", step.typed));
    session.expect("\n");
    let seen = session.expect_prompt(prompt);
    let lines: Vec<&str> = seen.lines().collect();
    let wanted = step.expected.is_empty() || shows(&step.expected, &lines);
    assert!(wanted, "{file}:{}: `{}` shows\n{}\nbut the text says\n{}", block.line, step.typed, lines.join("\n"), step.expected.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(Into::into).collect()
    }

    #[test]
    fn a_block_is_what_was_typed_and_what_came() {
        let text = "text\n```console\n$ netloom ps\nID  NAME\n$ netloom run -it sh\n# id -u\n0\n```\n```sh\n$ not this\n```\n";
        let step = |prompt, typed: &str, expected| Step { prompt, typed: typed.into(), expected: lines(expected) };
        let steps = vec![step('$', "netloom ps", "ID  NAME"), step('$', "netloom run -it sh", ""), step('#', "id -u", "0")];
        assert_eq!(blocks(text), vec![Block { line: 2, steps }]);
    }

    #[test]
    fn an_ellipsis_is_anything_within_a_line_or_any_lines() {
        for (expected, seen, agrees) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a\nb", false),
            ("a\n…", "a\nb\nc", true),
            ("…\nc", "a\nb\nc", true),
            ("…\nd", "a\nb\nc", false),
            ("eth0 …/16 scope global", "eth0   172.18.0.2/16 scope global", true),
            ("eth0 …/24 scope global", "eth0   172.18.0.2/16 scope global", false),
            ("…", "", true),
        ] {
            assert_eq!(shows(&lines(expected), &seen.lines().collect::<Vec<_>>()), agrees, "{expected:?} on {seen:?}");
        }
    }
}
