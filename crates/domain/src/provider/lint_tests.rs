//! Faults between the parts of a file, and between files.

use super::{
    fault_tests::{SMALL, told},
    *,
};

/// A pair of actions at given paths, each with more lines of its own.
fn pair(one: (&str, &str), other: (&str, &str)) -> String {
    let action = |name: &str, (path, more): (&str, &str)| {
        let head = format!("[actions.\"pair.{name}\"]\ntitle = \"A\"\neffect = \"write\"\nscopes = []\n");
        format!("{head}method = \"POST\"\nhost = \"small.dev\"\npath = \"{path}\"\n{more}\n")
    };
    [SMALL, &action("a", one), &action("b", other)].concat()
}

#[test]
fn two_actions_that_one_request_could_be_are_faults_of_both() {
    const NUMBER: &str = r#"input.p = { type = "integer", required = true, path = "p" }"#;
    const WORD: &str =
        r#"input.p = { type = "string", required = true, max_length = 9, pattern = "[a-z]+", path = "p" }"#;
    const CHOICE: &str =
        r#"input.p = { type = "string", required = true, max_length = 9, allowed = ["x", "y"], path = "p" }"#;
    const FREE: &str = r#"input.t = { type = "string", max_length = 9, body = "/t" }"#;
    const WITH: &str = r#"
when = { present = ["/t"] }
input.t = { type = "string", required = true, max_length = 9, body = "/t" }"#;
    const WITHOUT: &str = r#"when = { absent = ["/t"] }"#;
    const ONE: &str = "when = { equals = { \"?k\" = \"1\" } }\nquery = { k = \"1\" }";
    const TWO: &str = "when = { equals = { \"?k\" = \"2\" } }\nquery = { k = \"2\" }";
    const LIST: &str = r#"
when = { present = ["/t"] }
input.t = { type = "strings", required = true, max_items = 2, max_length = 9, body = "/t" }"#;
    for (both, one, other) in [
        (true, ("/p", ""), ("/p", "")),
        (true, ("/p", ""), ("/p", FREE)),
        (true, ("/p", WITH), ("/p", FREE)),
        (true, ("/p", WITH), ("/p", LIST)),
        (true, ("/p", WITH), ("/p", ONE)),
        (true, ("/{p}", WORD), ("/p", "")),
        (true, ("/{p}", WORD), ("/{p}", NUMBER)),
        (true, ("/{p}/a/c", WORD), ("/b/a/c", "")),
        (true, ("/{p}", CHOICE), ("/x", "")),
        (false, ("/p", WITH), ("/p", WITHOUT)),
        (false, ("/p", ONE), ("/p", TWO)),
        (false, ("/{p}", NUMBER), ("/p", "")),
        (false, ("/{p}", CHOICE), ("/z", "")),
        (false, ("/{p}", WORD), ("/P", "")),
        (false, ("/p", ""), ("/p/q", "")),
        (false, ("/p", ""), ("/q", "")),
    ] {
        let text = pair(one, other);
        let lines: Vec<_> = (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("[actions.\"pair")).collect();
        let faults = Provider::parse("bad.toml", &text).err().unwrap_or_default();
        let at: Vec<_> =
            faults.iter().map(|fault| (fault.line, fault.message.contains("a request could be this"))).collect();
        let wanted: Vec<_> = lines.iter().filter(|_| both).map(|(line, _)| (*line, true)).collect();
        assert_eq!(at, wanted, "{one:?} {other:?} {faults:#?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = SMALL
        .replace("title = \"Small\"", "title = \"Small\"\nowner = \"nobody\"")
        .replace("https://small.dev/token", "http://10.0.0.1/token")
        .replace("pkce = \"S256\"", "pkce = \"plain\"")
        .replace("scopes = []", "scopes = [\"w\"]")
        .replace("path = \"/me\"", "path = \"/notes/me\"\nbody = { \"/a\" = true }")
        .replace("box.pattern = \"[a-z]+\"", "box.pattern = \"(\"")
        + &pair(("/p", ""), ("/p", "")).replace(SMALL, "");
    insta::assert_snapshot!(told(&text).join("\n"), @r#"
    3:1: owner: unknown field; known here: name, title, template, hosts, limits, auth, account, actions, extends
    8:1: auth.token_url: its host "10.0.0.1" is not among `hosts`
    8:1: auth.token_url: must begin with https://
    10:1: auth.pkce: must be "S256"
    32:10: actions."me.read".body."/a": GET has no body
    36:11: actions."note.create".scopes: the scope "w" is not declared in auth.scopes
    44:5: actions."note.create".input.box.pattern: not a regular expression of the regex crate's syntax
    48:10: actions."pair.a": a request could be this and also pair.b (bad.toml:56): give it a `when`
    56:10: actions."pair.b": a request could be this and also pair.a (bad.toml:48): give it a `when`
    "#);
}

#[test]
fn a_fault_of_an_extension_names_the_file_that_has_it() {
    let text = "extends = \"generic-oauth\"\nname = \"acme\"\nhosts = [\"acme.dev\"]\n[auth]\npkce = \"plain\"\n";
    let faults = Provider::parse("acme.toml", text).unwrap_err();
    let told: Vec<_> = faults.iter().map(Fault::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    acme.toml:1:1: `title` is missing
    acme.toml:5:1: auth.pkce: must be "S256"
    providers/generic-oauth.toml:10:1: auth.authorize_url: its host "login.example.com" is not among `hosts`
    providers/generic-oauth.toml:11:1: auth.token_url: its host "login.example.com" is not among `hosts`
    providers/generic-oauth.toml:40:1: actions."account.read".host: "api.example.com" is not among `hosts`
    "#);
}

#[test]
fn two_providers_of_one_name_are_faults_of_both() {
    let files = [("a.toml", SMALL.to_owned()), ("b.toml", format!("# again\n{SMALL}"))];
    let told: Vec<_> = Catalogue::load(files).unwrap_err().iter().map(Fault::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    a.toml:1:1: name: Small has the same name (b.toml:2)
    b.toml:2:1: name: Small has the same name (a.toml:1)
    ");
    let x = Catalogue::shipped_files().chain(Catalogue::shipped_files());
    assert_eq!(Catalogue::load(x).unwrap_err().len(), 4);
}

#[test]
fn the_size_of_a_file_and_of_its_parts_is_bounded() {
    assert_eq!(told(&"#".repeat(300_000)), ["1:1: the file is longer than 262144 bytes"]);
    let scopes = (0..65).map(|n| format!("s{n} = \"S\"")).collect::<Vec<_>>().join(", ");
    let text = SMALL.replace("scopes = { r = \"Read\" }", &format!("scopes = {{ {scopes} }}"));
    assert!(told(&text).contains(&"11:1: auth.scopes: has more than 64 members".to_owned()));
    let deep = format!("{SMALL}\nx = {}1{}", "[".repeat(200), "]".repeat(200));
    assert!(!told(&deep).is_empty());
}

#[test]
fn the_files_in_the_guide_are_without_fault() {
    let guide = include_str!("../../../../docs/guides/providers.md");
    let examples: Vec<_> = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let whole: Vec<_> = examples.iter().filter(|text| text.contains("name = \"acme\"")).collect();
    assert_eq!(whole.len(), 2);
    for text in whole {
        assert_eq!(told(text), Vec::<String>::new());
    }
}
