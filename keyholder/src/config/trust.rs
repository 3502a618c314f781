//! The rules of the trust page: whose statements count, what the operator attests, where vulnerabilities are reported.

use std::path::Path;

use domain::{
    blueprint::{self, Blueprint},
    claim::Ledger,
    environment::Environment,
    security_txt,
};
use seal::signature::VerifyingKey;
use service::trust::{Claims, TrustOptions};

use super::{
    ConfigFaults,
    fault::{Fault, Kind},
    provider_files,
    resolve::Resolver,
};
use crate::program;

/// The most keys that may be trusted at a time: one, and its successor during a change, in two places.
const KEYS: usize = 4;

/// What an instance shows that runs a blueprint as it is.
pub fn shown(blueprint: Option<Blueprint>) -> TrustOptions {
    let security = blueprint.as_ref().and_then(|blueprint| blueprint.security.clone());
    let claims = blueprint.and_then(|blueprint| Some(Claims { ledger: Ledger::embedded().ok()?, blueprint }));
    TrustOptions { keys: Vec::new(), claims, security, program: program::sha256 }
}

/// Takes an operator's own words into a blueprint: attestations, review, certificates and ways to report. `place` is who names the file.
///
/// # Errors
/// Everything that is wrong with the file; then nothing was taken in.
pub(crate) fn attest(blueprint: &mut Blueprint, file: &str, place: String) -> Result<(), ConfigFaults> {
    let fault = |place: String, message: String| Fault { place, message, kind: Kind::Setting };
    let said = |faults: Vec<blueprint::Fault>| {
        ConfigFaults(faults.iter().map(|it| fault(String::new(), it.to_string())).collect())
    };
    let text = provider_files::text(Path::new(file)).map_err(|wrong| ConfigFaults(vec![fault(place, wrong)]))?;
    blueprint.attest(file, &text, &Ledger::embedded().map_err(said)?).map_err(said)
}

impl Resolver {
    /// What the trust page shows of this installation, and whom it believes.
    pub(super) fn trust(&mut self, environment: Option<Environment>) -> TrustOptions {
        let mut blueprint = self.gathered.blueprint.clone();
        if environment != Some(Environment::Local) {
            blueprint.iter_mut().for_each(Blueprint::drop_examples);
        }
        self.attest(blueprint.as_mut());
        let mut options = TrustOptions { keys: self.trust_keys(), ..shown(blueprint) };
        // A shipped blueprint's address of documents is no way to report anything: better none than one that reaches nobody.
        if environment != Some(Environment::Local) {
            options.security = options.security.filter(|security| !security_txt::is_for_documents(security));
        }
        options
    }

    fn trust_keys(&mut self) -> Vec<VerifyingKey> {
        let Some((origin, text)) = self.text("trust.key") else { return Vec::new() };
        let read: Result<Vec<VerifyingKey>, _> = text.split(',').map(|key| key.trim().parse()).collect();
        match read {
            Ok(keys) if keys.len() <= KEYS => keys,
            Ok(_) => {
                self.gathered.fault(origin, format!("there are more than {KEYS} keys"));
                Vec::new()
            }
            Err(error) => {
                self.gathered.fault(origin, error.to_string());
                Vec::new()
            }
        }
    }

    /// Takes in the operator's own attestations, review, certificates and ways to report.
    fn attest(&mut self, blueprint: Option<&mut Blueprint>) {
        let Some((origin, file)) = self.text("trust.attestations") else { return };
        let Some(blueprint) = blueprint else {
            return self.gathered.fault(origin, "attests claims, and there are none: no blueprint is set");
        };
        if let Err(ConfigFaults(faults)) = attest(blueprint, &file, origin.to_string()) {
            self.gathered.faults.extend(faults);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use seal::signature::SigningKey;

    use super::*;
    use crate::config::{Sources, gather::gather};

    fn resolver(settings: &[(&str, &str)]) -> Resolver {
        let environment = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let sources = Sources { environment, ..Sources::default() };
        Resolver { gathered: gather(&sources), secrets: Vec::new() }
    }

    fn faults(from: &Resolver) -> Vec<String> {
        from.gathered.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn public_keys_are_taken_and_a_private_one_is_refused_unread() {
        let (one, other) = (SigningKey::generate(), SigningKey::generate());
        let both = format!("{}, {}", one.verifying_key(), other.verifying_key());
        let mut from = resolver(&[("KEYHOLDER_TRUST_KEY", &both)]);
        let keys = from.trust(Some(Environment::Production)).keys;
        assert_eq!((keys, faults(&from)), (vec![one.verifying_key(), other.verifying_key()], Vec::new()));

        let private = one.to_text();
        let mut from = resolver(&[("KEYHOLDER_TRUST_KEY", &private)]);
        assert!(from.trust(Some(Environment::Local)).keys.is_empty());
        let said = faults(&from).concat();
        assert!(said.starts_with("KEYHOLDER_TRUST_KEY") && said.contains("private half"), "{said}");
        assert!(!said.contains(private.split_once(':').unwrap().1));

        let many = vec![one.verifying_key().to_string(); KEYS + 1].join(",");
        let mut from = resolver(&[("KEYHOLDER_TRUST_KEY", &many)]);
        assert!(from.trust(Some(Environment::Local)).keys.is_empty());
        assert_eq!(faults(&from), ["KEYHOLDER_TRUST_KEY: there are more than 4 keys"]);
    }

    #[test]
    fn an_operators_own_words_take_the_place_of_the_blueprints() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attestations.toml");
        let own = "not_held = [\"SOC 2 Type II\"]\n[review]\nby = \"Acme\"\non = 2030-01-01\nevery_days = 30\n\
             [security]\ncontact = [\"mailto:security@acme.dev\"]\nexpires = 2030-12-31\n";
        fs::write(&file, own).unwrap();
        let settings =
            [("KEYHOLDER_BLUEPRINT", "social-agent"), ("KEYHOLDER_TRUST_ATTESTATIONS", file.to_str().unwrap())];
        let mut from = resolver(&settings);
        let options = from.trust(Some(Environment::Production));
        assert_eq!(faults(&from), Vec::<String>::new());
        assert_eq!(options.security.unwrap().contact, ["mailto:security@acme.dev"]);
        let blueprint = options.claims.unwrap().blueprint;
        assert_eq!(
            (blueprint.review.unwrap().by.as_str(), blueprint.not_held),
            ("Acme", vec!["SOC 2 Type II".to_owned()])
        );
        assert!(blueprint.attestations.is_empty(), "an example is nobody's word");

        // Without it, the shipped address of documents is shown on this machine alone.
        for (environment, shown) in [(Environment::Local, true), (Environment::Production, false)] {
            let mut from = resolver(&settings[..1]);
            let options = from.trust(Some(environment));
            assert_eq!(options.security.is_some(), shown, "{environment}");
            // Nor does anybody stand behind a customer's installation who never saw it.
            let blueprint = options.claims.unwrap().blueprint;
            assert_eq!((!blueprint.attestations.is_empty(), blueprint.review.is_some()), (shown, shown));
        }
    }

    #[test]
    fn faults_of_attestations_are_told_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attestations.toml");
        fs::write(&file, "\nreviewed = true\n").unwrap();
        let path = file.to_str().unwrap();
        let mut from = resolver(&[("KEYHOLDER_BLUEPRINT", "social-agent"), ("KEYHOLDER_TRUST_ATTESTATIONS", path)]);
        from.trust(Some(Environment::Local));
        let said = faults(&from).concat();
        assert!(said.contains("attestations.toml:2") && said.contains("reviewed"), "{said}");
        let mut from = resolver(&[("KEYHOLDER_TRUST_ATTESTATIONS", path)]);
        from.trust(Some(Environment::Local));
        assert!(faults(&from).concat().contains("no blueprint is set"));
        let mut from =
            resolver(&[("KEYHOLDER_BLUEPRINT", "social-agent"), ("KEYHOLDER_TRUST_ATTESTATIONS", "/nowhere")]);
        from.trust(Some(Environment::Local));
        assert_eq!(faults(&from), ["KEYHOLDER_TRUST_ATTESTATIONS: /nowhere cannot be read: it does not exist"]);
    }
}
