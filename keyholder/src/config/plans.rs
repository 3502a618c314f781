//! Plans in the configuration: `[[plans]]`, a list of tables with `name`, `features` and, of one of them, `default = true`.
//!
//! Reads them with their lines, and judges them. What a plan opens to whom is decided elsewhere.

use std::collections::BTreeSet;

use domain::plan::{Plan, Plans, PlansError};
use toml::{Spanned, de::DeValue};

use super::{gather::Gathered, resolve::Resolver};

/// One entry of the list, its names still as they were written.
pub(super) struct Entry {
    place: String,
    name: Option<String>,
    features: Vec<(String, String)>,
    is_default: bool,
}

/// Reads the list. `place` says where something stands in the file.
pub(super) fn read<'v>(
    entries: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
    place: impl Fn(usize, &str) -> String,
    gathered: &mut Gathered,
) {
    for entry in entries {
        let at = place(entry.span().start, "plans");
        let DeValue::Table(members) = entry.get_ref() else {
            gathered.fault(at, "must be a list of tables: [[plans]]");
            continue;
        };
        let mut read = Entry { place: at, name: None, features: Vec::new(), is_default: false };
        for (key, value) in members {
            let name = key.get_ref().as_ref();
            let at = place(key.span().start, &format!("plans.{name}"));
            match (name, value.get_ref()) {
                ("name", DeValue::String(text)) => read.name = Some(text.to_string()),
                ("default", DeValue::Boolean(is_default)) => read.is_default = *is_default,
                ("features", DeValue::Array(features)) => {
                    for feature in features {
                        match feature.get_ref() {
                            DeValue::String(text) => {
                                read.features.push((place(feature.span().start, "plans.features"), text.to_string()));
                            }
                            _ => gathered.fault(at.clone(), "must be a list of texts"),
                        }
                    }
                }
                ("name", _) => gathered.fault(at, "must be text"),
                ("default", _) => gathered.fault(at, "must be true or false"),
                ("features", _) => gathered.fault(at, "must be a list of texts"),
                _ => gathered.fault(at, "is not a setting; a plan has name, features and default"),
            }
        }
        gathered.plans.push(read);
    }
}

impl Resolver {
    pub(super) fn plans(&mut self) -> Plans {
        let entries = std::mem::take(&mut self.gathered.plans);
        let (mut plans, before) = (Vec::new(), self.gathered.faults.len());
        for entry in &entries {
            let mut features = BTreeSet::new();
            for (place, name) in &entry.features {
                match name.parse() {
                    Ok(name) if features.contains(&name) => {
                        self.gathered.fault(place, format!("{name} is given twice"));
                    }
                    Ok(name) => _ = features.insert(name),
                    Err(wrong) => self.gathered.fault(place, format!("{name:?}: {wrong}")),
                }
            }
            match entry.name.as_deref().map(|name| (name, name.parse())) {
                Some((_, Ok(name))) => plans.push(Plan { name, features, is_default: entry.is_default }),
                Some((text, Err(wrong))) => self.gathered.fault(&entry.place, format!("{text:?}: {wrong}")),
                None => self.gathered.fault(&entry.place, "a plan needs `name` (it has name, features and default)"),
            }
        }
        if self.gathered.faults.len() > before {
            return Plans::default();
        }
        Plans::new(plans).unwrap_or_else(|wrong| {
            let of = |name: &str| entries.iter().rfind(|entry| entry.name.as_deref() == Some(name));
            let place = match &wrong {
                PlansError::Twice(name) => of(name.as_str()).map_or("plans", |entry| &entry.place),
                PlansError::Default | PlansError::TooMany => "plans",
            };
            self.gathered.fault(place, wrong.to_string());
            Plans::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{SourceFile, Sources, gather::gather};

    fn resolved(text: &str) -> (Plans, Vec<String>) {
        let file = SourceFile { path: PathBuf::from("keyholder.toml"), text: text.to_owned() };
        let sources = Sources { file: Some(file), ..Sources::default() };
        let mut from = Resolver { gathered: gather(&sources), secrets: Vec::new() };
        let plans = from.plans();
        (plans, from.gathered.faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn plans_are_read_in_their_order_and_one_is_the_default() {
        let text = "[[plans]]\nname = \"FREE\"\ndefault = true\n[[plans]]\nname = \"PRO\"\nfeatures = [\"content-sync\", \"sso\"]\n";
        let (plans, faults) = resolved(text);
        assert_eq!(faults, Vec::<String>::new());
        let names: Vec<_> = plans.iter().map(|plan| (plan.name.as_str(), plan.features.len())).collect();
        assert_eq!(names, [("FREE", 0), ("PRO", 2)]);
        assert_eq!(plans.default_plan().unwrap().name.as_str(), "FREE");
        assert_eq!(resolved("").0, Plans::default());
    }

    #[test]
    fn what_is_wrong_with_plans_is_told_with_its_line() {
        for (text, expected) in [
            ("plans = 1", "keyholder.toml:1: plans: must be a list of tables: [[plans]]"),
            ("plans = [1]", "keyholder.toml:1: plans: must be a list of tables: [[plans]]"),
            (
                "[[plans]]\ndefault = true",
                "keyholder.toml:1: plans: a plan needs `name` (it has name, features and default)",
            ),
            (
                "[[plans]]\nname = \"A\"\nprice = 1",
                "keyholder.toml:3: plans.price: is not a setting; a plan has name, features and default",
            ),
            ("[[plans]]\nname = \"A\"\ndefault = 1", "keyholder.toml:3: plans.default: must be true or false"),
            ("[[plans]]\nname = \"A\"\nfeatures = [1]", "keyholder.toml:3: plans.features: must be a list of texts"),
            (
                "[[plans]]\nname = \"A:b\"\ndefault = true",
                "keyholder.toml:1: plans: \"A:b\": a plan's name is a letter",
            ),
            (
                "[[plans]]\nname = \"A\"\ndefault = true\nfeatures = [\"B\"]",
                "keyholder.toml:4: plans.features: \"B\": a feature's name",
            ),
            (
                "[[plans]]\nname = \"A\"\ndefault = true\nfeatures = [\"b\", \"b\"]",
                "keyholder.toml:4: plans.features: b is given twice",
            ),
            (
                "[[plans]]\nname = \"A\"\ndefault = true\n[[plans]]\nname = \"a\"",
                "keyholder.toml:4: plans: there are two plans of the name a",
            ),
            ("[[plans]]\nname = \"A\"", "plans: one plan is the default"),
        ] {
            let (plans, faults) = resolved(text);
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{text}: {faults:?}");
            assert_eq!(plans, Plans::default());
        }
    }
}
