//! Bad provider files: what is wrong, and on which line it is said to be.

use super::*;

/// A file without fault. Each case spoils it in one place.
pub(super) const SMALL: &str = r#"name = "small"
title = "Small"
hosts = ["small.dev"]
[auth]
kind = "oauth2"
authorize_url = "https://small.dev/authorize"
token_url = "https://small.dev/token"
client_auth = "basic"
pkce = "S256"
scope_separator = " "
scopes = { r = "Read" }
[auth.refresh]
rotates = true
replay = "refused"
access_token_lifetime_s = 600
[account]
action = "me.read"
id = "/id"
name = "/name"
[limits]
request_bytes = 1000
response_bytes = 1000
timeout_ms = 1000
[actions."me.read"]
title = "Me"
effect = "read"
scopes = ["r"]
method = "GET"
host = "small.dev"
path = "/me"
[actions."note.create"]
title = "Note"
effect = "write"
scopes = []
method = "POST"
host = "small.dev"
path = "/notes/{box}"
[actions."note.create".input]
box.type = "string"
box.required = true
box.max_length = 9
box.pattern = "[a-z]+"
box.path = "box"
text = { type = "string", required = true, body = "/text", max_length = 9 }
to = { type = "string", query = "to", max_length = 9 }
"#;

/// What is taken out (`-`), what is put in its place (`+`), and all that is told of the result (`!`).
const CASES: &str = r#"
- name = "small"
+ name = small
! 1:8: not TOML: string values must be quoted, expected literal string

- title = "Small"
+ title = "Small"
+ title = "Twice"
+ colour = "red"
! 3:1: title is given twice
! 4:1: colour: unknown field; known here: name, title, template, hosts, limits, auth, account, actions, extends

- max_length = 9 }
+ max_length = 9, max_length = 10 }
! 44:76: max_length is given twice

- title = "Small"
+ title = "Small"
+ colour = "red"
! 3:1: colour: unknown field; known here: name, title, template, hosts, limits, auth, account, actions, extends

- name = "small"
! 1:1: `name` is missing

- name = "small"
+ name = "Small"
! 1:1: name: must be 1 to 32 of a-z 0-9 -, beginning with a letter and not ending with -

- name = "small"
+ name = 7
! 1:1: name: must be text, not an integer

- name = "small"
+ name = 2024-01-01
! 1:1: name: must be text, not a date

- title = "Small"
+ title = " Sm<invisible>all"
! 2:1: title: must be 1 to 100 visible characters on one line

- title = "Small"
+ title = "Small"
+ template = "no"
! 3:1: template: must be true or false, not text

- title = "Small"
+ title = "Small"
+ extends = "acme"
! 3:1: extends: must be one of the shipped providers: generic-oauth, x

- hosts = ["small.dev"]
+ hosts = []
! 3:1: hosts: at least one host is needed

- hosts = ["small.dev"]
+ hosts = "small.dev"
! 3:1: hosts: must be a list, not text

- hosts = ["small.dev"]
+ hosts = ["small.dev",
+   "small.dev"]
! 4:3: hosts: "small.dev" is given twice

- hosts = ["small.dev"]
+ hosts = ["small.dev", "other.dev"]
! 3:23: hosts: no endpoint and no action is at "other.dev"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "127.0.0.1"]
! 3:23: hosts: must be a hostname, not an address

- hosts = ["small.dev"]
+ hosts = ["small.dev", "0x7f.1"]
! 3:23: hosts: must be a hostname, not an address

- hosts = ["small.dev"]
+ hosts = ["small.dev", "[::1]", "2001:db8::1"]
! 3:23: hosts: must be a hostname, not an address
! 3:32: hosts: must be a hostname, not an address

- hosts = ["small.dev"]
+ hosts = ["small.dev", "*.small.dev"]
! 3:23: hosts: must be an exact public hostname in lower case, such as "api.x.com"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "Api.small.dev"]
! 3:23: hosts: must be an exact public hostname in lower case, such as "api.x.com"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "small.dev."]
! 3:23: hosts: must be an exact public hostname in lower case, such as "api.x.com"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "small.dev:8443"]
! 3:23: hosts: must be an exact public hostname in lower case, such as "api.x.com"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "localhost"]
! 3:23: hosts: must be an exact public hostname in lower case, such as "api.x.com"

- hosts = ["small.dev"]
+ hosts = ["small.dev", "metadata.google.internal"]
! 3:23: hosts: is no name of the public internet

- hosts = ["small.dev"]
+ hosts = ["small.dev", "api.example.com"]
! 3:23: hosts: is reserved for documentation (RFC 2606): only a template may name it

- hosts = ["small.dev"]
+ hosts = ["small.dev", 7]
! 3:23: hosts: must be text, not an integer

- kind = "oauth2"
+ kind = "oauth1"
! 5:1: auth.kind: must be "oauth2"

- https://small.dev/authorize
+ http://small.dev/authorize
! 6:1: auth.authorize_url: must begin with https://

- https://small.dev/authorize
+ http://evil.dev/authorize
! 6:1: auth.authorize_url: its host "evil.dev" is not among `hosts`
! 6:1: auth.authorize_url: must begin with https://

- https://small.dev/token
+ /token
! 7:1: auth.token_url: must be a URL

- https://small.dev/token
+ https://evil.dev/token
! 7:1: auth.token_url: its host "evil.dev" is not among `hosts`

- https://small.dev/token
+ https://small.dev.evil.dev/token
! 7:1: auth.token_url: its host "small.dev.evil.dev" is not among `hosts`

- https://small.dev/token
+ https://small.dev@evil.dev/token
! 7:1: auth.token_url: its host "evil.dev" is not among `hosts`
! 7:1: auth.token_url: may not have a user, a port, a query or a fragment

- https://small.dev/token
+ https://small.dev:8443/token
! 7:1: auth.token_url: may not have a user, a port, a query or a fragment

- https://small.dev/token
+ https://small.dev/token?next=1
! 7:1: auth.token_url: may not have a user, a port, a query or a fragment

- https://small.dev/token
+ https://small.dev/a/../token
! 7:1: auth.token_url: must be written as "https://small.dev/token"

- https://small.dev/token
+ https://127.0.0.1/token
! 7:1: auth.token_url: its host "127.0.0.1" is not among `hosts`

- client_auth = "basic"
+ client_auth = "basic"
+ revoke_url = "https://other.dev/revoke"
! 9:1: auth.revoke_url: its host "other.dev" is not among `hosts`

- client_auth = "basic"
+ client_auth = "basic"
+ issuer = "http://small.dev"
! 9:1: auth.issuer: must be an https URL without query and fragment

- client_auth = "basic"
+ client_auth = "basic"
+ authorize_params = { redirect_uri = "https://evil.dev" }
! 9:22: auth.authorize_params.redirect_uri: is set by Keyholder alone

- client_auth = "basic"
+ client_auth = "mtls"
! 8:1: auth.client_auth: must be "basic" or "body" or "none"

- pkce = "S256"
+ pkce = "plain"
! 9:1: auth.pkce: must be "S256"

- pkce = "S256"
! 4:2: auth: `pkce` is missing

- scope_separator = " "
+ scope_separator = ";"
! 10:1: auth.scope_separator: must be " " or ","

- scope_separator = " "
+ scope_separator = " "
+ scopes_always = ["offline"]
! 11:18: auth.scopes_always: the scope "offline" is not declared in auth.scopes

- scopes = { r = "Read" }
+ scopes = { r = "Read", "a b" = "Both" }
! 11:24: auth.scopes."a b": is no scope: 1 to 128 visible ASCII characters without quotes, backslashes and the separator

- scopes = { r = "Read" }
+ scopes = { r = "Read", q = "" }
! 11:24: auth.scopes.q: must be 1 to 100 visible characters on one line

- rotates = true
+ rotates = false
! 14:1: auth.refresh.replay: must be "repeatable", since a token that does not rotate is never spent

- replay = "refused"
+ replay = "maybe"
! 14:1: auth.refresh.replay: must be "reuse_detected" or "refused" or "repeatable"

- access_token_lifetime_s = 600
+ access_token_lifetime_s = 1
! 15:1: auth.refresh.access_token_lifetime_s: must be from 60 to 632448000

- action = "me.read"
+ action = "you.read"
! 17:1: account.action: there is no action "you.read"

- action = "me.read"
+ action = "note.create"
! 17:1: account.action: must be an action that reads

- id = "/id"
+ id = "id"
! 18:1: account.id: a pointer begins with a slash, such as "/data/id"

- timeout_ms = 1000
+ timeout_ms = 0
! 23:1: limits.timeout_ms: must be from 100 to 60000

- timeout_ms = 1000
+ timeout_ms = 1000
+ reset_header = "X-Reset: 1"
! 24:1: limits.reset_header: must be a header's name: 1 to 64 of a-z, 0-9 and -

- request_bytes = 1000
+ request_bytes = 99999999999
! 21:1: limits.request_bytes: must be from 64 to 1048576

- [actions."note.create"]
+ [actions.note]
! 31:10: actions.note: an action's name is like "post.create": parts of a-z 0-9 _, joined by dots, at most 64
! 37:1: actions.note.path: no input goes to {box}
! 38:10: actions."note.create": `effect` is missing
! 38:10: actions."note.create": `host` is missing
! 38:10: actions."note.create": `method` is missing
! 38:10: actions."note.create": `path` is missing
! 38:10: actions."note.create": `scopes` is missing
! 38:10: actions."note.create": `title` is missing

- effect = "write"
+ effect = "writes"
! 33:1: actions."note.create".effect: must be "read" or "write" or "send"

- effect = "read"
+ effect = "send"
! 17:1: account.action: must be an action that reads
! 26:1: actions."me.read".effect: GET reads, and nothing else

- method = "POST"
+ method = "DELETE"
! 44:1: actions."note.create".input.text: DELETE has no body

- method = "GET"
+ method = "HEAD"
! 28:1: actions."me.read".method: must be "GET" or "POST" or "PUT" or "PATCH" or "DELETE"

- host = "small.dev"
- path = "/me"
+ host = "evil.dev"
+ path = "/me"
! 29:1: actions."me.read".host: "evil.dev" is not among `hosts`

- scopes = ["r"]
+ scopes = ["r", "w"]
! 27:16: actions."me.read".scopes: the scope "w" is not declared in auth.scopes

- path = "/notes/{box}"
+ path = "notes/{box}"
! 37:1: actions."note.create".path: a path begins with a slash

- path = "/notes/{box}"
+ path = "/notes/../{box}"
! 37:1: actions."note.create".path: the segment ".." is neither fixed (A-Z a-z 0-9 - . _ ~ : @, not a dot segment) nor a {name} of a-z 0-9 _

- path = "/notes/{box}"
+ path = "/notes/{box}/"
! 37:1: actions."note.create".path: the segment "" is neither fixed (A-Z a-z 0-9 - . _ ~ : @, not a dot segment) nor a {name} of a-z 0-9 _

- path = "/notes/{box}"
+ path = "/notes/x{box}"
! 37:1: actions."note.create".path: the segment "x{box}" is neither fixed (A-Z a-z 0-9 - . _ ~ : @, not a dot segment) nor a {name} of a-z 0-9 _

- path = "/notes/{box}"
+ path = "/notes/{box}/{box}"
! 37:1: actions."note.create".path: {box} is in the path twice

- path = "/notes/{box}"
+ path = "/notes/{box}/{id}"
! 37:1: actions."note.create".path: no input goes to {id}

- path = "/notes/{box}"
+ path = "/notes"
! 39:1: actions."note.create".input.box: the path has no {box}

- path = "/notes/{box}"
+ path = "/notes/{box}?a=b"
! 37:1: actions."note.create".path: the segment "{box}?a=b" is neither fixed (A-Z a-z 0-9 - . _ ~ : @, not a dot segment) nor a {name} of a-z 0-9 _

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ query = { to = "all" }
! 38:11: actions."note.create".query.to: has the same place in the request as actions."note.create".input.to (bad.toml:46)
! 46:1: actions."note.create".input.to: has the same place in the request as actions."note.create".query.to (bad.toml:38)

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ query = { "a b" = 1 }
! 38:11: actions."note.create".query."a b": a query's name has 1 to 64 of A-Z a-z 0-9 . _ ~ - [ ] :
! 38:11: actions."note.create".query."a b": must be text, not an integer

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ body = { "/text" = "x", "kind" = 1.5 }
! 38:10: actions."note.create".body."/text": has the same place in the request as actions."note.create".input.text (bad.toml:45)
! 38:25: actions."note.create".body.kind: a pointer begins with a slash, such as "/data/id"
! 38:25: actions."note.create".body.kind: must be text of at most 512 bytes, an integer, true or false, not a fraction
! 45:1: actions."note.create".input.text: has the same place in the request as actions."note.create".body."/text" (bad.toml:38)

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ body = { "/text/kind" = "x" }
! 38:10: actions."note.create".body."/text/kind": has the same place in the request as actions."note.create".input.text (bad.toml:45)
! 45:1: actions."note.create".input.text: has the same place in the request as actions."note.create".body."/text/kind" (bad.toml:38)

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ units = { acts = 2, likes = 1, posts = 0 }
! 38:11: actions."note.create".units.acts: must be 1
! 38:21: actions."note.create".units.likes: must be acts or posts or messages or recipients or tokens or bytes or cents
! 38:32: actions."note.create".units.posts: must be from 1 to 1000000

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ units = { recipients = { count = "text" }, tokens = { value = "nothing" }, cents = {} }
! 38:26: actions."note.create".units.recipients.count: must name an input: `count` a list, `bytes` a text, `value` an integer with a minimum of 0 or more
! 38:55: actions."note.create".units.tokens.value: must name an input: `count` a list, `bytes` a text, `value` an integer with a minimum of 0 or more
! 38:76: actions."note.create".units.cents: exactly one of `count`, `bytes` and `value` names the field that is measured, or `max` is given

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ answer = { types = ["JSON"], id = "" }
! 38:21: actions."note.create".answer.types: must be a content type in lower case without parameters, such as "application/json"
! 38:30: actions."note.create".answer.id: a pointer begins with a slash, such as "/data/id"

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ when = { present = ["/tags"] }
! 38:1: actions."note.create".when: says that /tags is present, but no required input or fixed value is there

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ when = { absent = ["/text"] }
! 38:1: actions."note.create".when: says that /text is absent, but the action puts something there

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ when = { equals = { "/text" = "x", "?to" = 1, "y" = 2 } }
! 38:36: actions."note.create".when.equals."?to": a query's value is text
! 38:47: actions."note.create".when.equals.y: a pointer begins with a slash, such as "/data/id"

- box.path = "box"
+ box.path = "bin"
! 37:1: actions."note.create".path: no input goes to {box}
! 39:1: actions."note.create".input.box: the path has no {bin}

- box.path = "box"
+ box.query = "q"
! 37:1: actions."note.create".path: no input goes to {box}

- box.pattern = "[a-z]+"
+ box.pattern = "[a-z"
! 42:5: actions."note.create".input.box.pattern: not a regular expression of the regex crate's syntax

- box.pattern = "[a-z]+"
+ box.pattern = "a)|(b"
! 42:5: actions."note.create".input.box.pattern: not a regular expression of the regex crate's syntax

- box.pattern = "[a-z]+"
+ box.pattern = "(\\\\w{99}){99}"
! 42:5: actions."note.create".input.box.pattern: the pattern is too big when compiled

- box.pattern = "[a-z]+"
! 39:1: actions."note.create".input.box: a text in the path needs a `pattern` or `allowed`

- box.required = true
+ box.required = false
! 39:1: actions."note.create".input.box: a field of the path must have `required = true`

- type = "string", required = true, body = "/text", max_length = 9
+ type = "strings", query = "text", max_items = 2, max_length = 9
! 44:1: actions."note.create".input.text: a list goes into the body only

- type = "string", required = true, body = "/text", max_length = 9
+ type = "text", body = "/text"
! 44:10: actions."note.create".input.text.type: must be "string" or "integer" or "boolean" or "strings"

- type = "string", required = true, body = "/text", max_length = 9
+ type = "integer", body = "/text", max_length = 9
! 44:44: actions."note.create".input.text.max_length: unknown field; known here: type, required, content, path, query, body, minimum, maximum, allowed

- type = "string", required = true, body = "/text", max_length = 9
+ type = "boolean", body = "/text", content = true
! 44:1: actions."note.create".input.text: only text can be content

- body = "/text", max_length
+ max_length
! 44:1: actions."note.create".input.text: exactly one of `path`, `query` and `body` says where the value goes

- body = "/text", max_length
+ body = "/text", query = "text", max_length
! 44:1: actions."note.create".input.text: exactly one of `path`, `query` and `body` says where the value goes

- body = "/text", max_length = 9
+ body = "/text"
! 44:1: actions."note.create".input.text: `max_length` is missing

- body = "/text", max_length = 9
+ body = "/text", max_length = 9, min_length = 10
! 44:76: actions."note.create".input.text.min_length: the least is more than the most

- body = "/text", max_length = 9
+ body = "/text", max_length = 9, allowed = ["much too long", "ok", "ok"]
! 44:87: actions."note.create".input.text.allowed: can never be given: it may have at most 9 characters
! 44:110: actions."note.create".input.text.allowed: "ok" is given twice

- [account]
- action = "me.read"
- id = "/id"
- name = "/name"
! 1:1: `account` is missing

- input]
- box
+ input]
+ Box = 7
+ box
! 39:1: actions."note.create".input.Box: a field's name has 1 to 64 of a-z 0-9 _, beginning with a letter
! 39:1: actions."note.create".input.Box: must be a table, not an integer

- [actions."note.create"]
+ [actions.Note]
+ [actions."note.create"]
! 31:10: actions.Note: `effect` is missing
! 31:10: actions.Note: `host` is missing
! 31:10: actions.Note: `method` is missing
! 31:10: actions.Note: `path` is missing
! 31:10: actions.Note: `scopes` is missing
! 31:10: actions.Note: `title` is missing
! 31:10: actions.Note: an action's name is like "post.create": parts of a-z 0-9 _, joined by dots, at most 64

- path = "/notes/{box}"
+ path = "/notes/{box}"
+ when = { equals = { "/text" = "x" } }
! 38:1: actions."note.create".when: says that /text has one value, but no fixed value or only allowed input is there
"#;

pub(super) fn told(text: &str) -> Vec<String> {
    let faults = Provider::parse("bad.toml", text).err().unwrap_or_default();
    let told = |fault: &Fault| fault.to_string().trim_start_matches("bad.toml:").to_owned();
    faults.iter().map(told).collect()
}

#[test]
fn every_fault_is_told_at_its_line() {
    assert_eq!(told(SMALL), Vec::<String>::new());
    let (mut count, mut wrong) = (0, Vec::new());
    for case in CASES.trim().split("\n\n") {
        let lines = |mark: &str| case.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>();
        let (out, into) = (lines("- ").join("\n"), lines("+ ").join("\n").replace("<invisible>", "\u{200b}"));
        assert!(SMALL.contains(&out), "{out} is not in the file");
        let faults = told(&SMALL.replacen(&out, &into, 1));
        if faults.is_empty() || faults != lines("! ") {
            wrong.push(format!("{case}\nbut told was\n{}", faults.join("\n")));
        }
        count += 1;
    }
    assert!(count > 90, "the cases were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
