//! The plot: for each work a bar of netloom's advantage over a peer, on a logarithmic axis, with its quartiles.
//!
//! Written by hand: a bar, a line and some words need no library. Colours are set by CSS, for light and for dark.

use std::fmt::Write;

use super::{Against, Figure};

const WIDTH: f64 = 1000.0;
/// Where the bars begin: left of it are the works and peers.
const LEFT: f64 = 570.0;
const RIGHT: f64 = 70.0;
const ROW: f64 = 22.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 30.0;
/// The axis: advantages beyond are drawn at its end.
const SMALLEST: f64 = 0.5;
const LARGEST: f64 = 32.0;
const TICKS: [f64; 7] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.s{fill:#59636e}.g{stroke:#d1d9e0}.o{stroke:#59636e}\
.m{fill:#1a7f37}.x{fill:#bc4c00}.i{fill:#8c959f}.n{fill:#0969da}.q{stroke:#1f2328;stroke-width:1.5}.b{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.s{fill:#9198a1}.g{stroke:#3d444d}.o{stroke:#9198a1}\
.m{fill:#3fb950}.x{fill:#db6d28}.i{fill:#656c76}.n{fill:#4493f8}.q{stroke:#f0f6fc}.b{fill:#0d1117}}";

/// Rows with a peer; an advantage is the ratio, or where less is better its inverse.
pub(super) fn plot(figures: &[Figure]) -> String {
    let rows: Vec<(&Figure, &Against)> = figures.iter().filter_map(|figure| Some((figure, figure.against.as_ref()?))).collect();
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"netloom's advantage over its \
         peers\">\n<style>{STYLE}</style>\n<rect class=\"b\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"20\" font-weight=\"bold\">netloom's advantage over its peers (more is better)</text>\n"
    );
    axis(&mut svg, height);
    for (place, (figure, against)) in rows.iter().enumerate() {
        bar(&mut svg, TOP + ROW * place as f64, figure, against);
    }
    legend(&mut svg, height - 8.0);
    svg.push_str("</svg>\n");
    svg
}

fn x(advantage: f64) -> f64 {
    let part = |value: f64| (value / SMALLEST).ln() / (LARGEST / SMALLEST).ln();
    LEFT + (WIDTH - LEFT - RIGHT) * part(advantage.clamp(SMALLEST, LARGEST))
}

fn axis(svg: &mut String, height: f64) {
    for tick in TICKS {
        let (at, class, bottom) = (x(tick), if tick == 1.0 { "o" } else { "g" }, height - BOTTOM);
        let _ = writeln!(svg, "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ = writeln!(svg, "<text class=\"s\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}×</text>", TOP - 6.0);
    }
}

fn bar(svg: &mut String, top: f64, figure: &Figure, against: &Against) {
    let advantage = |ratio: f64| if figure.more_is_better { ratio } else { 1.0 / ratio };
    let (median, low, high) = (advantage(against.ratio), advantage(against.quartiles.0), advantage(against.quartiles.1));
    let (from, to) = (x(1.0).min(x(median)), x(1.0).max(x(median)));
    let class = match (against.conclusive, figure.verdict.as_deref()) {
        (false, _) => "i",
        (true, Some("met")) => "m",
        (true, Some("missed")) => "x",
        (true, _) => "n",
    };
    let (middle, text) = (top + ROW / 2.0, top + ROW / 2.0 + 4.0);
    let who = figure.subject.strip_prefix("netloom-").map(|variant| format!("{variant}: ")).unwrap_or_default();
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{who}{}</text>", LEFT - 118.0, escaped(&figure.title));
    let _ = writeln!(svg, "<text class=\"s\" x=\"{}\" y=\"{text}\">{}</text>", LEFT - 110.0, escaped(&against.peer));
    let (y, thick, width) = (top + 4.0, ROW - 8.0, (to - from).max(1.0));
    let _ = writeln!(svg, "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{thick}\" rx=\"2\"/>");
    let _ = writeln!(svg, "<line class=\"q\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>", x(low), x(high));
    let end = to.max(x(low)).max(x(high)) + 6.0;
    let _ = writeln!(svg, "<text x=\"{end:.1}\" y=\"{text}\">{median:.2}×</text>");
}

fn legend(svg: &mut String, y: f64) {
    let words = [("m", "target met"), ("x", "target missed"), ("n", "no target"), ("i", "inconclusive")];
    for (place, (class, words)) in words.into_iter().enumerate() {
        let at = 12.0 + 120.0 * place as f64;
        let _ = writeln!(svg, "<rect class=\"{class}\" x=\"{at}\" y=\"{}\" width=\"10\" height=\"10\" rx=\"2\"/>", y - 9.0);
        let _ = writeln!(svg, "<text class=\"s\" x=\"{}\" y=\"{y}\">{words}</text>", at + 15.0);
    }
    let _ =
        writeln!(svg, "<text class=\"s\" x=\"{}\" y=\"{y}\" text-anchor=\"end\">line: the middle half of the pairs</text>", WIDTH - 12.0);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_is_logarithmic_and_holds_what_is_beyond_its_ends() {
        let step = x(2.0) - x(1.0);
        assert!((x(16.0) - x(8.0) - step).abs() < 1e-9);
        assert_eq!((x(1000.0), x(0.0)), (x(LARGEST), x(SMALLEST)));
    }

    #[test]
    fn words_cannot_break_out_of_the_picture() {
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
