//! `ps`: the containers that there are.

use super::Context;
use crate::{
    api::Container,
    args::container::PsArgs,
    error::CliError,
    output::{self, Format},
    words::filter::Filter,
};

pub fn ps(args: &PsArgs, context: &Context) -> Result<(), CliError> {
    let format = Format::of::<Container>(&args.list.format)?;
    let last = if args.latest { Some(1) } else { args.last };
    // Whoever asks for a status means it, whatever `ps` shows without being asked.
    let all = args.all || last.is_some() || args.filters.iter().any(|filter| matches!(filter, Filter::Status(_)));
    let mut containers: Vec<Container> = context.client.get(&format!("/v1/containers?all={all}"))?;
    containers.retain(|container| is_wanted(container, &args.filters));
    // The newest come first.
    containers.truncate(last.unwrap_or(usize::MAX));
    output::list(&containers, &format, &args.list)
}

/// As in docker: filters of one key are alternatives, but all labels must be there, and every key must be satisfied.
fn is_wanted(container: &Container, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| {
        let is_label = matches!(filter, Filter::Label(..));
        let kind = std::mem::discriminant(filter);
        let mut alternatives = filters.iter().filter(|other| !is_label && std::mem::discriminant(*other) == kind);
        matches(container, filter) || alternatives.any(|other| matches(container, other))
    })
}

fn matches(container: &Container, filter: &Filter) -> bool {
    match filter {
        Filter::Name(text) => container.name.contains(text),
        Filter::Status(state) => container.state == *state,
        Filter::Network(name) => container.network_mode == *name || container.networks.contains_key(name),
        Filter::Label(key, value) => container.labels.get(key).is_some_and(|has| value.as_ref().is_none_or(|value| has == value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::filter::filter;

    #[test]
    fn one_key_s_filters_are_alternatives_and_labels_are_all_needed() {
        let labels = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let container = Container { name: "web-1".into(), network_mode: "blue".into(), labels: labels.into(), ..Container::default() };
        let table = [
            ("", true),
            ("name=web", true),
            ("name=db name=web", true),
            ("name=db", false),
            ("name=web status=exited", false),
            ("name=web status=exited status=created", true),
            ("network=blue", true),
            ("network=bridge", false),
            ("label=a label=b=2", true),
            ("label=a label=b=3", false),
            ("label=c", false),
        ];
        for (words, wanted) in table {
            let filters: Vec<_> = words.split_whitespace().map(|word| filter(word).expect(word)).collect();
            assert_eq!(is_wanted(&container, &filters), wanted, "for `{words}`");
        }
    }
}
