//! `--format '{{.key.key}}'`: text with JSON keys in it.
//!
//! There is no language here: a key, or `json` and a key; `\t` and `\n` between. Keys are checked against a sample of the type, so
//! that a wrong one is refused even when there is nothing to print. A key below a map, or a number below an array, may be absent:
//! that prints nothing. After `table`, the template's tabs part columns, which are aligned under headers made of the keys.

use serde_json::Value;

use crate::error::CliError;

/// In a sample, the key of a map that stands for any key.
pub const ANY_KEY: &str = "*";

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key { path: Vec<String>, json: bool },
}

impl Template {
    /// Takes a template apart and checks its keys against `sample`.
    pub fn parse(word: &str, sample: &Value) -> Result<Self, CliError> {
        let mut parts = Vec::new();
        let mut rest = word;
        while let Some((text, behind)) = rest.split_once("{{") {
            if text.contains("}}") {
                return Err(malformed(word, "a `}}` has no `{{`"));
            }
            let (inside, behind) = behind.split_once("}}").ok_or_else(|| malformed(word, "a `{{` has no `}}`"))?;
            parts.push(Part::Text(unescape(text)));
            parts.push(key(word, inside, sample)?);
            rest = behind;
        }
        if rest.contains("}}") {
            return Err(malformed(word, "a `}}` has no `{{`"));
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self { parts })
    }

    /// One row's text. Strings stand without quotes, null is nothing, lists and objects are JSON.
    pub fn render(&self, row: &Value) -> String {
        let text = |part: &Part| match part {
            Part::Text(words) => words.clone(),
            Part::Key { path, json } => printed(row, path, *json),
        };
        self.parts.iter().map(text).collect()
    }

    /// One row's text, parted at the template's own tabs: one in a value parts nothing.
    pub fn cells(&self, row: &Value) -> Vec<String> {
        self.columns(|path, json| printed(row, path, json))
    }

    /// The headers of such columns: the last name of each key.
    pub fn headers(&self) -> Vec<String> {
        self.columns(|path, _| {
            let name = path.iter().rfind(|name| name.parse::<usize>().is_err());
            name.map_or_else(|| "JSON".to_owned(), |name| name.replace('_', " ").to_uppercase())
        })
    }

    fn columns(&self, text: impl Fn(&[String], bool) -> String) -> Vec<String> {
        let (mut columns, mut column) = (Vec::new(), String::new());
        for part in &self.parts {
            match part {
                Part::Key { path, json } => column.push_str(&text(path, *json)),
                Part::Text(words) => {
                    for (at, piece) in words.split('\t').enumerate() {
                        if at > 0 {
                            columns.push(std::mem::take(&mut column));
                        }
                        column.push_str(piece);
                    }
                }
            }
        }
        columns.push(column);
        columns
    }
}

fn printed(row: &Value, path: &[String], json: bool) -> String {
    match (follow(row, path), json) {
        (Some(value), true) => value.to_string(),
        (None, true) => "null".to_owned(),
        (Some(Value::String(words)), false) => words.clone(),
        (Some(Value::Null) | None, false) => String::new(),
        (Some(value), false) => value.to_string(),
    }
}

fn key(word: &str, inside: &str, sample: &Value) -> Result<Part, CliError> {
    let inside = inside.trim();
    let (json, path) = match inside.strip_prefix("json").filter(|path| path.starts_with([' ', '.'])) {
        Some(path) => (true, path.trim()),
        None => (false, inside),
    };
    let names = path.strip_prefix('.').filter(|names| !names.contains(char::is_whitespace));
    let names = names.ok_or_else(|| malformed(word, &format!("`{{{{{inside}}}}}` is not {{{{.key}}}} or {{{{json .key}}}}")))?;
    let path: Vec<String> = if names.is_empty() { Vec::new() } else { names.split('.').map(str::to_owned).collect() };
    check(&path, sample)?;
    Ok(Part::Key { path, json })
}

fn check(path: &[String], sample: &Value) -> Result<(), CliError> {
    let mut at = sample;
    for (depth, name) in path.iter().enumerate() {
        let above = path.get(..depth).unwrap_or_default().join(".");
        at = match at {
            Value::Object(keys) => match keys.get(name).or_else(|| keys.get(ANY_KEY)) {
                Some(below) => below,
                None => return Err(unknown(&above, name, keys.keys())),
            },
            Value::Array(items) if name.parse::<usize>().is_ok() => items.first().unwrap_or(&Value::Null),
            Value::Array(_) => {
                return Err(CliError::usage(format!("`--format`: `.{above}` is a list, so `{name}` is not a key of it"))
                    .with_hint(format!("take one item, {{{{.{above}.0}}}}, or all of them, {{{{json .{above}}}}}")));
            }
            _ => return Err(CliError::usage(format!("`--format`: `.{above}` has no keys, so `{name}` is not one of them"))),
        };
    }
    Ok(())
}

fn unknown<'a>(above: &str, name: &str, keys: impl Iterator<Item = &'a String>) -> CliError {
    let place = if above.is_empty() { String::new() } else { format!(" below `.{above}`") };
    let keys = keys.map(String::as_str).collect::<Vec<_>>().join(", ");
    CliError::usage(format!("`--format`: unknown key `{name}`{place}")).with_hint(format!("the keys are {keys}"))
}

fn malformed(word: &str, why: &str) -> CliError {
    CliError::usage(format!("`--format`: in `{word}` {why}")).with_hint("templates look like '{{.name}}\\t{{json .}}'")
}

fn follow<'a>(row: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(row, |at, name| match at {
        Value::Object(keys) => keys.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "name": "", "pid": 1, "labels": { "*": "" },
            "networks": { "*": { "ip_address": "", "aliases": [""] } },
            "ports": [{ "host_port": 0, "protocol": "" }],
        })
    }

    fn row() -> Value {
        json!({
            "name": "web", "pid": null, "labels": { "tier": "front" },
            "networks": { "bridge": { "ip_address": "172.17.0.2", "aliases": ["a", "b"] } },
            "ports": [{ "host_port": 8080, "protocol": "tcp" }, { "host_port": 53, "protocol": "udp" }],
        })
    }

    #[test]
    fn keys_text_and_escapes_are_printed() {
        let table = [
            ("{{.name}}", "web"),
            ("{{ .name }}", "web"),
            ("<{{.name}}>\\t{{.labels.tier}}\\n", "<web>\tfront\n"),
            ("{{.networks.bridge.ip_address}}", "172.17.0.2"),
            ("{{.networks.other.ip_address}}|{{.labels.none}}", "|"),
            ("{{.networks.bridge.aliases}} {{.networks.bridge.aliases.1}}", "[\"a\",\"b\"] b"),
            ("{{.ports.0.host_port}} {{.ports.9.host_port}}", "8080 "),
            ("{{.pid}}", ""),
            ("{{json .pid}} {{json .name}} {{json .labels}}", "null \"web\" {\"tier\":\"front\"}"),
            ("{{json .networks.other}}", "null"),
        ];
        for (word, expected) in table {
            let template = Template::parse(word, &sample()).unwrap_or_else(|error| panic!("`{word}`: {error:?}"));
            assert_eq!(template.render(&row()), expected, "for `{word}`");
        }
        let all = Template::parse("{{json .}}", &sample()).expect("a template").render(&row());
        assert_eq!(serde_json::from_str::<Value>(&all).expect("JSON"), row());
    }

    #[test]
    fn tabs_of_the_template_part_columns_under_the_keys_names() {
        let word = "{{.name}}\\t{{.networks.bridge.ip_address}}/{{.ports.0}}\t{{json .}}";
        let template = Template::parse(word, &sample()).expect("a template");
        assert_eq!(template.headers(), ["NAME", "IP ADDRESS/PORTS", "JSON"]);
        let row = json!({ "name": "a\tb", "ports": [1] });
        assert_eq!(template.cells(&row), ["a\tb".to_owned(), "/1".to_owned(), row.to_string()]);
    }

    #[test]
    fn wrong_keys_exit_2_and_name_the_right_ones() {
        let table = [
            ("{{.nam}}", "`--format`: unknown key `nam`", Some("the keys are name, pid, labels, networks, ports")),
            ("{{.networks.bridge.ip}}", "`--format`: unknown key `ip` below `.networks.bridge`", Some("the keys are ip_address, aliases")),
            ("{{.pid.x}}", "`--format`: `.pid` has no keys, so `x` is not one of them", None),
            (
                "{{.ports.host_port}}",
                "`--format`: `.ports` is a list, so `host_port` is not a key of it",
                Some("take one item, {{.ports.0}}, or all of them, {{json .ports}}"),
            ),
            ("{{.ports.0.port}}", "`--format`: unknown key `port` below `.ports.0`", Some("the keys are host_port, protocol")),
        ];
        for (word, message, hint) in table {
            let error = Template::parse(word, &sample()).expect_err(word);
            let sort = |text: &str| {
                let mut words: Vec<_> = text.split([' ', ',']).map(str::to_owned).collect();
                words.sort();
                words
            };
            assert_eq!((error.message.as_str(), error.exit_code), (message, 2), "for `{word}`");
            assert_eq!(error.hint.as_deref().map(sort), hint.map(sort), "for `{word}`");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for (word, why) in [
            ("{{.name", "a `{{` has no `}}`"),
            ("x }} {{.name}}", "a `}}` has no `{{`"),
            ("{{.name}} }}", "a `}}` has no `{{`"),
            ("{{name}}", "`{{name}}` is not {{.key}} or {{json .key}}"),
            ("{{range .ports}}", "`{{range .ports}}` is not {{.key}} or {{json .key}}"),
            ("{{.a b}}", "`{{.a b}}` is not {{.key}} or {{json .key}}"),
        ] {
            let error = Template::parse(word, &sample()).expect_err(word);
            assert!(error.message.ends_with(why) && error.exit_code == 2, "for `{word}`: {}", error.message);
        }
    }
}
