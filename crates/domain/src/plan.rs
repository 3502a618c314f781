//! Plans and the features that they open, as an installation is configured.
//!
//! Owns the names and how they fit together. Which workspace has which plan is a fact of the workspace, and not known here.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// How many plans, and how many features over all of them, one installation may have: each is a fact in every snapshot.
const PLANS: usize = 32;
const FEATURES: usize = 200;

/// A name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(&'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $most:literal, $first:expr, $letter:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let (first, letter): (fn(u8) -> bool, fn(u8) -> bool) = ($first, $letter);
                let sound = text.len() <= $most && text.bytes().next().is_some_and(first) && text.bytes().all(letter);
                if sound { Ok(Self(text.to_owned())) } else { Err(NameError($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a plan: `PRO`.
    PlanName,
    32,
    |byte| byte.is_ascii_alphabetic(),
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
    "a plan's name is a letter and up to 31 more letters, digits, - and _"
);

name!(
    /// The name of a feature: `content-sync`.
    FeatureName,
    64,
    |byte| byte.is_ascii_lowercase(),
    |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-',
    "a feature's name is a small letter and up to 63 more small letters, digits and -"
);

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: PlanName,
    /// What it opens.
    pub features: BTreeSet<FeatureName>,
    /// Whether a workspace has it to which nobody gave one.
    pub is_default: bool,
}

/// Plans that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlansError {
    /// Two of one name, whatever the case of their letters.
    #[error("there are two plans of the name {0}")]
    Twice(PlanName),
    /// None, or several.
    #[error("one plan is the default: it has `default = true`, and no other has")]
    Default,
    /// More than an installation may have.
    #[error("there are more than {PLANS} plans or {FEATURES} features")]
    TooMany,
}

/// The plans of an installation; none where it sells none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plans(Vec<Plan>);

impl Plans {
    /// Takes plans, in the order in which they are shown.
    ///
    /// # Errors
    /// [`PlansError`].
    pub fn new(plans: Vec<Plan>) -> Result<Self, PlansError> {
        let mut names = BTreeSet::new();
        for plan in &plans {
            if !names.insert(plan.name.as_str().to_ascii_lowercase()) {
                return Err(PlansError::Twice(plan.name.clone()));
            }
        }
        if !plans.is_empty() && plans.iter().filter(|plan| plan.is_default).count() != 1 {
            return Err(PlansError::Default);
        }
        let all = Self(plans);
        if all.0.len() > PLANS || all.features().len() > FEATURES {
            return Err(PlansError::TooMany);
        }
        Ok(all)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> {
        self.0.iter()
    }

    /// The one of a name.
    pub fn get(&self, name: &str) -> Option<&Plan> {
        self.0.iter().find(|plan| plan.name.as_str() == name)
    }

    /// The one of a workspace to which nobody gave one.
    pub fn default_plan(&self) -> Option<&Plan> {
        self.0.iter().find(|plan| plan.is_default)
    }

    /// Every feature that some plan opens.
    pub fn features(&self) -> BTreeSet<&FeatureName> {
        self.0.iter().flat_map(|plan| &plan.features).collect()
    }

    /// The plans that open a feature; none where there is no such feature.
    pub fn opening(&self, feature: &str) -> Vec<&PlanName> {
        let opens = |plan: &&Plan| plan.features.iter().any(|known| known.as_str() == feature);
        self.0.iter().filter(opens).map(|plan| &plan.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, features: &[&str], is_default: bool) -> Plan {
        let features = features.iter().map(|name| name.parse().unwrap()).collect();
        Plan { name: name.parse().unwrap(), features, is_default }
    }

    #[test]
    fn names_are_of_a_closed_form() {
        for good in ["FREE", "pro", "Team-2", "a_b"] {
            assert!(good.parse::<PlanName>().is_ok(), "{good}");
        }
        for bad in ["", "2", "-a", "a b", "a:b", "a#b", "a*", "é", &"a".repeat(33)] {
            assert!(bad.parse::<PlanName>().is_err(), "{bad}");
        }
        for good in ["content-sync", "a", "v2"] {
            assert!(good.parse::<FeatureName>().is_ok(), "{good}");
        }
        for bad in ["", "Content", "content_sync", "2fa", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<FeatureName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn plans_fit_together_or_are_refused() {
        let plans =
            Plans::new(vec![plan("FREE", &[], true), plan("PRO", &["sync"], false), plan("MAX", &["sync"], false)]);
        let plans = plans.unwrap();
        assert_eq!(plans.default_plan().unwrap().name.as_str(), "FREE");
        assert_eq!(plans.opening("sync").iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["PRO", "MAX"]);
        assert!(plans.opening("other").is_empty() && plans.get("pro").is_none() && plans.get("PRO").is_some());
        assert!(Plans::new(Vec::new()).unwrap().default_plan().is_none());
        let twice = Plans::new(vec![plan("FREE", &[], true), plan("free", &[], false)]);
        assert_eq!(twice, Err(PlansError::Twice("free".parse().unwrap())));
        for several in [[true, true], [false, false]] {
            let plans = Plans::new(vec![plan("A", &[], several[0]), plan("B", &[], several[1])]);
            assert_eq!(plans, Err(PlansError::Default));
        }
        let many = (0..=PLANS).map(|at| plan(&format!("P{at}"), &[], at == 0)).collect();
        assert_eq!(Plans::new(many), Err(PlansError::TooMany));
        let wide: Vec<String> = (0..=FEATURES).map(|at| format!("f{at}")).collect();
        let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
        assert_eq!(Plans::new(vec![plan("A", &wide, true)]), Err(PlansError::TooMany));
    }
}
