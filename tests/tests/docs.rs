//! Every `console` block of the README and the manual does what it shows. How such a block is written: `netloom_tests::console`.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use netloom_tests::console::{Block, blocks, play};

/// How many transcripts run at the same time.
const AT_ONCE: usize = 3;

#[test]
fn every_console_block_does_what_it_shows() {
    if !netloom_tests::can_run("every_console_block_does_what_it_shows") {
        return;
    }
    let all = every_block();
    assert!(all.iter().any(|(file, _)| file == "README.md"), "the README shows nothing on a console");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((file, block)) = all.get(next.fetch_add(1, Relaxed)) {
                    if std::panic::catch_unwind(|| play(file, block)).is_err() {
                        failures.lock().expect("nothing panics here").push(format!("{file}:{}", block.line));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nothing panics here");
    assert!(failures.is_empty(), "not as shown: {}", failures.join(", "));
}

/// File and block, of README.md and docs/*.md.
fn every_block() -> Vec<(String, Block)> {
    let top = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let manual = std::fs::read_dir(top.join("docs")).into_iter().flatten().filter_map(|entry| entry.ok());
    let mut files: Vec<String> =
        manual.map(|entry| format!("docs/{}", entry.file_name().display())).filter(|name| name.ends_with(".md")).collect();
    files.push("README.md".into());
    files.sort();
    let blocks_of = |file: String| {
        let text = std::fs::read_to_string(top.join(&file)).unwrap_or_else(|why| panic!("{file}: {why}"));
        blocks(&text).into_iter().map(move |block| (file.clone(), block))
    };
    files.into_iter().flat_map(blocks_of).collect()
}
