//! How output is asked for: `--format`, `--json`, `-q`, `--no-trunc`.

use clap::Args;

/// The format of anything that is printed as data.
#[derive(Args, Clone, Debug, Default)]
pub struct FormatArgs {
    /// Print as `table`, as `json`, or each row by a template of JSON keys such as '{{.name}}\t{{json .ports}}'; after `table`
    /// its columns have headers
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    pub json: bool,
}

/// The format of a listing.
#[derive(Args, Clone, Debug, Default)]
pub struct ListArgs {
    #[command(flatten)]
    pub format: FormatArgs,
    /// Print the first column alone
    #[arg(short, long, conflicts_with_all = ["format", "json"], help_heading = "Output")]
    pub quiet: bool,
    /// Shorten nothing
    #[arg(long, help_heading = "Output")]
    pub no_trunc: bool,
}

impl FormatArgs {
    /// The format's words; a table if nothing was said.
    pub fn word(&self) -> &str {
        if self.json { "json" } else { self.format.as_deref().unwrap_or("table") }
    }
}
