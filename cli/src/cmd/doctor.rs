//! `doctor`: what this machine offers, and how to mend what is missing.

use netloom_runtime::probe::{self, Finding, Verdict};

use super::Context;
use crate::{
    args::look::DoctorArgs,
    error::CliError,
    output::{self, Format, table::printable},
};

/// Ends with 1 if containers cannot run.
pub fn doctor(args: &DoctorArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Finding>(&args.format)?;
    let findings = probe::all(&context.client.paths.root).map_err(|error| CliError::io("cannot look at this machine", &error))?;
    match &format {
        Format::Table => output::lines(findings.iter().map(|finding| text(finding, context.paint)))?,
        _ => output::all(&findings, &format)?,
    }
    let runs = findings.iter().all(|finding| finding.verdict != Verdict::Bad);
    if runs { Ok(()) } else { Err(CliError::already_told()) }
}

/// A line of the checklist, and below it what to do.
fn text(finding: &Finding, paint: bool) -> String {
    let (mark, colour) = match finding.verdict {
        Verdict::Good => ("ok", "\x1b[32m"),
        Verdict::Limited => ("limited", "\x1b[33m"),
        Verdict::Bad => ("bad", "\x1b[31m"),
    };
    let (colour, reset) = if paint { (colour, "\x1b[0m") } else { ("", "") };
    let hint = finding.hint.as_deref().map(|hint| format!("\n{:9}{:17}hint: {hint}", "", "")).unwrap_or_default();
    format!("{colour}{mark:<8}{reset} {:<16} {}{hint}", finding.name, printable(&finding.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_line_with_its_hint_below() {
        let good = Finding { name: "kernel".into(), verdict: Verdict::Good, detail: "Linux 6.1".into(), hint: None };
        assert_eq!(text(&good, false), "ok       kernel           Linux 6.1");
        let bad = Finding { name: "proc".into(), verdict: Verdict::Bad, detail: "no".into(), hint: Some("do".into()) };
        assert_eq!(text(&bad, false), "bad      proc             no\n                          hint: do");
        assert_eq!(text(&bad, true).lines().next(), Some("\x1b[31mbad     \x1b[0m proc             no"));
    }
}
