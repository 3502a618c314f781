//! From a file's tree to its actions: each must render only requests that are its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    action::{Action, Answer, Effect, Measure, Method, Reported},
    fault::{At, Faults},
    field::{Field, FieldKind, Goes, IntegerRules, Pattern, TextRules},
    place::{Place, Pointer, QUERY_NAME, Scalar, is_query_name},
    predicate::When,
    read::{Declared, declared_scopes, pointer},
    section::{Entry, Section},
    template::PathTemplate,
    tree::Kind,
};
use crate::budget::Unit;

const ACTIONS: usize = 256;
const FIELDS: usize = 64;
const ALLOWED: usize = 64;

/// An action that was read, and where its key stands.
pub(super) struct Read {
    pub(super) action: Action,
    pub(super) at: At,
    pub(super) path: String,
    /// Whether all that its requests consist of could be read. Where not, its rules cannot be judged against each
    /// other.
    pub(super) clear: bool,
}

/// Something of an action that has a place in the request, and where the file says so.
struct Placed {
    goes: Goes,
    at: At,
    path: String,
}

pub(super) fn all(entry: &Entry<'_>, declared: &Declared, faults: &mut Faults<'_>) -> Vec<Read> {
    let members = entry.members(faults, ACTIONS);
    if members.is_empty() {
        entry.fault(faults, "at least one action is needed");
    }
    members.into_iter().filter_map(|(name, entry)| action(name, &entry, declared, faults)).collect()
}

fn action(name: &str, entry: &Entry<'_>, declared: &Declared, faults: &mut Faults<'_>) -> Option<Read> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    if !name.contains('.') || !name.split('.').all(part) || name.len() > 64 {
        entry.fault(faults, "an action's name is like \"post.create\": parts of a-z 0-9 _, joined by dots, at most 64");
    }
    let mut section = entry.section(faults)?;
    let title = section.required("title", faults).and_then(|e| e.title(faults));
    let effects = [("read", Effect::Read), ("write", Effect::Write), ("send", Effect::Send)];
    let effect_entry = section.required("effect", faults);
    let effect = effect_entry.as_ref().and_then(|e| e.choice(faults, &effects));
    let scopes = section.required("scopes", faults).map(|e| declared_scopes(&e, declared, faults));
    let methods = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
    let method = section.required("method", faults).and_then(|e| e.choice(faults, &methods.map(|m| (m.as_str(), m))));
    let host = section.required("host", faults).and_then(|e| host(&e, declared, faults));
    let path_entry = section.required("path", faults);
    let path = path_entry.as_ref().and_then(|e| template(e, faults));

    let before = faults.len();
    let mut placed = Vec::new();
    let query = section.optional("query").map(|e| fixed_query(&e, &mut placed, faults)).unwrap_or_default();
    let body = section.optional("body").map(|e| fixed_body(&e, &mut placed, faults)).unwrap_or_default();
    let input = section.optional("input").map(|e| input(&e, &mut placed, faults)).unwrap_or_default();
    let when_entry = section.optional("when");
    let when = when_entry.as_ref().map(|e| when(e, faults)).unwrap_or_default();
    let clear = faults.len() == before;
    let (units, used) = units(section.optional("units"), &input, faults);
    let answer = answer(section.optional("answer"), faults);
    section.finish(faults);

    collisions(&placed, faults);
    if let (Some(method), Some(effect), Some(e)) = (method, effect, &effect_entry) {
        effect_fits(method, effect, e, faults);
    }
    if let Some(method) = method.filter(|method| !method.may_have_body()) {
        for one in placed.iter().filter(|one| matches!(one.goes, Goes::Body(_))) {
            faults.add(one.at, &one.path, format!("{} has no body", method.as_str()));
        }
    }
    if let (Some(path), Some(e)) = (&path, &path_entry) {
        params(path, e, &placed, faults);
    }
    let action = Action {
        name: name.to_owned(),
        title: title?,
        effect: effect?,
        scopes: scopes?,
        method: method?,
        host: host?,
        path: path?,
        query,
        body,
        when,
        units,
        used,
        input,
        answer,
        request_bytes: declared.request_bytes,
    };
    if let Some(e) = when_entry.as_ref().filter(|_| clear) {
        renders_its_own(&action, e, faults);
    }
    Some(Read { action, at: entry.at, path: entry.path.clone(), clear })
}

fn host(entry: &Entry<'_>, declared: &Declared, faults: &mut Faults<'_>) -> Option<String> {
    let host = entry.text(faults)?;
    if !declared.may_have_host(host) {
        entry.fault(faults, format!("{host:?} is not among `hosts`"));
        return None;
    }
    Some(host.to_owned())
}

fn template(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<PathTemplate> {
    let text = entry.text(faults)?;
    PathTemplate::parse(text).map_err(|words| entry.fault(faults, words)).ok()
}

fn effect_fits(method: Method, effect: Effect, entry: &Entry<'_>, faults: &mut Faults<'_>) {
    match (method, effect) {
        (Method::Get, Effect::Write | Effect::Send) => entry.fault(faults, "GET reads, and nothing else"),
        (Method::Put | Method::Patch | Method::Delete, Effect::Read) => {
            entry.fault(faults, format!("{} does more than read", method.as_str()));
        }
        _ => {}
    }
}

fn fixed_query(entry: &Entry<'_>, placed: &mut Vec<Placed>, faults: &mut Faults<'_>) -> BTreeMap<String, String> {
    let mut query = BTreeMap::new();
    for (name, value) in entry.members(faults, FIELDS) {
        if !is_query_name(name) {
            value.fault(faults, QUERY_NAME);
        }
        if let Some(text) = value.text(faults) {
            if text.len() > 512 || text.contains(char::is_control) {
                value.fault(faults, "must be at most 512 bytes without control characters");
            }
            query.insert(name.to_owned(), text.to_owned());
        }
        placed.push(Placed { goes: Goes::Query(name.to_owned()), at: value.at, path: value.path });
    }
    query
}

fn fixed_body(entry: &Entry<'_>, placed: &mut Vec<Placed>, faults: &mut Faults<'_>) -> BTreeMap<Pointer, Scalar> {
    let mut body = BTreeMap::new();
    for (name, value) in entry.members(faults, FIELDS) {
        let scalar = scalar(&value, faults);
        match Pointer::parse(name) {
            Err(words) => value.fault(faults, words),
            Ok(pointer) => {
                placed.push(Placed { goes: Goes::Body(pointer.clone()), at: value.at, path: value.path });
                body.extend(scalar.map(|scalar| (pointer, scalar)));
            }
        }
    }
    body
}

fn scalar(entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<Scalar> {
    match &entry.node.kind {
        Kind::Text(text) if text.len() <= 512 => Some(Scalar::Text(text.clone())),
        Kind::Integer(integer) => Some(Scalar::Integer(*integer)),
        Kind::Boolean(boolean) => Some(Scalar::Boolean(*boolean)),
        other => {
            entry.fault(
                faults,
                format!("must be text of at most 512 bytes, an integer, true or false, not {}", other.name()),
            );
            None
        }
    }
}

fn input(entry: &Entry<'_>, placed: &mut Vec<Placed>, faults: &mut Faults<'_>) -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    for (name, entry) in entry.members(faults, FIELDS) {
        let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !letters || name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            entry.fault(faults, "a field's name has 1 to 64 of a-z 0-9 _, beginning with a letter");
        }
        // A field whose rules are at fault still has its place, so that the path is not said to lack it.
        let mut goes = None;
        if let Some(field) = field(&entry, &mut goes, faults) {
            fields.insert(name.to_owned(), field);
        }
        placed.extend(goes.map(|goes| Placed { goes, at: entry.at, path: entry.path }));
    }
    fields
}

fn field(entry: &Entry<'_>, place: &mut Option<Goes>, faults: &mut Faults<'_>) -> Option<Field> {
    let mut section = entry.section(faults)?;
    let types = [("string", 0), ("integer", 1), ("boolean", 2), ("strings", 3)];
    let kind = section.required("type", faults).and_then(|e| e.choice(faults, &types));
    let required = section.optional("required").map_or(Some(false), |e| e.boolean(faults));
    let content = section.optional("content").map_or(Some(false), |e| e.boolean(faults));
    let goes = goes(&mut section, faults);
    place.clone_from(&goes);
    let kind = match kind {
        Some(0) => text_rules(&mut section, faults).map(FieldKind::String),
        Some(1) => integer_rules(&mut section, faults).map(FieldKind::Integer),
        Some(2) => Some(FieldKind::Boolean),
        Some(_) => strings(&mut section, faults),
        // Without a type it is not known which other fields belong here, so none is called unknown.
        None => return None,
    };
    section.finish(faults);
    let (field, required) = (Field { kind: kind?, required: required?, content: content?, goes: goes? }, required?);
    if field.content && !matches!(field.kind, FieldKind::String(_) | FieldKind::Strings { .. }) {
        entry.fault(faults, "only text can be content");
    }
    match (&field.goes, &field.kind) {
        (Goes::Path(_), _) if !required => entry.fault(faults, "a field of the path must have `required = true`"),
        (Goes::Path(_), FieldKind::String(rules)) if rules.pattern.is_none() && rules.allowed.is_empty() => {
            entry.fault(faults, "a text in the path needs a `pattern` or `allowed`");
        }
        (Goes::Path(_) | Goes::Query(_), FieldKind::Strings { .. }) => {
            entry.fault(faults, "a list goes into the body only");
        }
        _ => {}
    }
    Some(field)
}

fn goes(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<Goes> {
    let (path, query, body) = (section.optional("path"), section.optional("query"), section.optional("body"));
    match (path, query, body) {
        (Some(e), None, None) => e.text(faults).map(|param| Goes::Path(param.to_owned())),
        (None, Some(e), None) => {
            let name = e.text(faults)?;
            if !is_query_name(name) {
                e.fault(faults, QUERY_NAME);
            }
            Some(Goes::Query(name.to_owned()))
        }
        (None, None, Some(e)) => pointer(&e, faults).map(Goes::Body),
        _ => {
            faults.add(
                section.at,
                &section.path,
                "exactly one of `path`, `query` and `body` says where the value goes",
            );
            None
        }
    }
}

fn text_rules(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<TextRules> {
    let min_entry = section.optional("min_length");
    let min = min_entry.as_ref().map_or(Some(0), |e| e.count(faults, 0..=65_536));
    let max = section.required("max_length", faults).and_then(|e| e.count(faults, 1..=65_536));
    let pattern = section.optional("pattern").map(|e| {
        let pattern = Pattern::parse(e.text(faults)?);
        pattern.map_err(|words| e.fault(faults, words)).ok()
    });
    let allowed = section.optional("allowed").map(|e| e.texts(faults, ALLOWED)).unwrap_or_default();
    ordered(min, max, min_entry.as_ref(), faults);
    // A pattern that was refused leaves the field without rules, not without a pattern.
    let pattern = match pattern {
        Some(None) => return None,
        Some(pattern) => pattern,
        None => None,
    };
    let mut rules = TextRules { min_length: min?, max_length: max?, pattern, allowed: BTreeSet::new() };
    for (text, item) in allowed.iter().filter_map(|(text, item)| Some((rules.refuses(text)?, item))) {
        item.fault(faults, format!("can never be given: it {text}"));
    }
    rules.allowed = allowed.into_iter().map(|(text, _)| text.to_owned()).collect();
    Some(rules)
}

fn integer_rules(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<IntegerRules> {
    let any = i64::MIN..=i64::MAX;
    let min_entry = section.optional("minimum");
    let minimum = min_entry.as_ref().map_or(Some(i64::MIN), |e| e.integer(faults, any.clone()));
    let maximum = section.optional("maximum").map_or(Some(i64::MAX), |e| e.integer(faults, any));
    let list = section.optional("allowed").and_then(|e| e.list(faults, ALLOWED)).unwrap_or_default();
    ordered(minimum, maximum, min_entry.as_ref(), faults);
    let range = minimum?..=maximum?;
    let allowed = list.iter().filter_map(|item| item.integer(faults, range.clone())).collect();
    Some(IntegerRules { minimum: *range.start(), maximum: *range.end(), allowed })
}

fn strings(section: &mut Section<'_>, faults: &mut Faults<'_>) -> Option<FieldKind> {
    let min_entry = section.optional("min_items");
    let min = min_entry.as_ref().map_or(Some(0), |e| e.count(faults, 0..=1000));
    let max = section.required("max_items", faults).and_then(|e| e.count(faults, 1..=1000));
    ordered(min, max, min_entry.as_ref(), faults);
    let each = text_rules(section, faults);
    Some(FieldKind::Strings { each: each?, min_items: min?, max_items: max? })
}

fn ordered<T: PartialOrd>(min: Option<T>, max: Option<T>, min_entry: Option<&Entry<'_>>, faults: &mut Faults<'_>) {
    if let (Some(entry), true) = (min_entry, min.zip(max).is_some_and(|(min, max)| min > max)) {
        entry.fault(faults, "the least is more than the most");
    }
}

fn units(
    entry: Option<Entry<'_>>,
    input: &BTreeMap<String, Field>,
    faults: &mut Faults<'_>,
) -> (BTreeMap<Unit, Measure>, BTreeMap<Unit, Reported>) {
    let mut units = BTreeMap::from([(Unit::Acts, Measure::Fixed(1))]);
    let mut used = BTreeMap::new();
    let Some(entry) = entry else {
        return (units, used);
    };
    for (name, value) in entry.members(faults, Unit::ALL.len()) {
        let Ok(unit) = name.parse::<Unit>() else {
            value.fault(faults, format!("must be {}", Unit::ALL.map(Unit::as_str).join(" or ")));
            continue;
        };
        if let Some((measure, reported)) = measure(unit, &value, input, faults) {
            units.insert(unit, measure);
            used.extend(reported.map(|reported| (unit, reported)));
        }
    }
    (units, used)
}

/// What an act reserves of a unit, and where its answer says what it really used.
fn measure(
    unit: Unit,
    entry: &Entry<'_>,
    input: &BTreeMap<String, Field>,
    faults: &mut Faults<'_>,
) -> Option<(Measure, Option<Reported>)> {
    if unit == Unit::Acts || !matches!(entry.node.kind, Kind::Table(_)) {
        let most = if unit == Unit::Acts { 1 } else { 1_000_000 };
        let units = entry.integer(faults, 1..=most).and_then(|units| u64::try_from(units).ok());
        return units.map(|units| (Measure::Fixed(units), None));
    }
    let mut section = entry.section(faults)?;
    let (count, bytes, value) = (section.optional("count"), section.optional("bytes"), section.optional("value"));
    let (max, used_entry) = (section.optional("max"), section.optional("used"));
    section.finish(faults);
    let reported = match &used_entry {
        Some(e) => Some(reported(unit, e, faults)?),
        None => None,
    };
    let (field_entry, make): (_, fn(String) -> Measure) = match (count, bytes, value, max) {
        (Some(e), None, None, None) => (e, Measure::Count),
        (None, Some(e), None, None) => (e, Measure::Bytes),
        (None, None, Some(e), None) => (e, Measure::Value),
        (None, None, None, Some(e)) => {
            if reported.is_none() {
                entry.fault(faults, "`max` is what is reserved: `used` must say where the answer tells what was used");
            }
            let most = e.integer(faults, 1..=1_000_000_000).and_then(|most| u64::try_from(most).ok())?;
            return Some((Measure::Fixed(most), reported));
        }
        _ => {
            entry.fault(
                faults,
                "exactly one of `count`, `bytes` and `value` names the field that is measured, or `max` is given",
            );
            return None;
        }
    };
    let name = field_entry.text(faults)?;
    let measure = make(name.to_owned());
    let fit = match (&measure, input.get(name).map(|field| &field.kind)) {
        (Measure::Count(_), Some(FieldKind::Strings { .. })) | (Measure::Bytes(_), Some(FieldKind::String(_))) => true,
        (Measure::Value(_), Some(FieldKind::Integer(rules))) => rules.minimum >= 0,
        _ => false,
    };
    if !fit {
        let words =
            "must name an input: `count` a list, `bytes` a text, `value` an integer with a minimum of 0 or more";
        field_entry.fault(faults, words);
    }
    fit.then_some((measure, reported))
}

/// `"answer"`, for bytes, or a pointer into the answer.
fn reported(unit: Unit, entry: &Entry<'_>, faults: &mut Faults<'_>) -> Option<Reported> {
    if entry.text(faults)? != "answer" {
        return pointer(entry, faults).map(Reported::At);
    }
    if unit != Unit::Bytes {
        entry.fault(faults, "only `bytes` are measured by the answer itself");
        return None;
    }
    Some(Reported::Answer)
}

fn when(entry: &Entry<'_>, faults: &mut Faults<'_>) -> When {
    let Some(mut section) = entry.section(faults) else {
        return When::default();
    };
    let places = |e: Entry<'_>, faults: &mut Faults<'_>| {
        let texts = e.texts(faults, 16);
        let place =
            |(text, item): &(&str, Entry<'_>)| Place::parse(text).map_err(|words| item.fault(faults, words)).ok();
        texts.iter().filter_map(place).collect::<BTreeSet<_>>()
    };
    let present = section.optional("present").map(|e| places(e, faults)).unwrap_or_default();
    let absent = section.optional("absent").map(|e| places(e, faults)).unwrap_or_default();
    let mut equals = BTreeMap::new();
    for (name, value) in section.optional("equals").map(|e| e.members(faults, 16)).unwrap_or_default() {
        match (Place::parse(name), scalar(&value, faults)) {
            (Err(words), _) => value.fault(faults, words),
            (Ok(Place::Query(_)), Some(Scalar::Integer(_) | Scalar::Boolean(_))) => {
                value.fault(faults, "a query's value is text");
            }
            (Ok(place), scalar) => equals.extend(scalar.map(|scalar| (place, scalar))),
        }
    }
    section.finish(faults);
    When { present, absent, equals }
}

fn answer(entry: Option<Entry<'_>>, faults: &mut Faults<'_>) -> Answer {
    let mut answer = Answer { types: BTreeSet::from(["application/json".to_owned()]), id: None };
    let Some(entry) = entry else {
        return answer;
    };
    let Some(mut section) = entry.section(faults) else {
        return answer;
    };
    if let Some(types) = section.optional("types") {
        let texts = types.texts(faults, 8);
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&^_.+-".contains(&b))
        };
        for (text, item) in &texts {
            if text.len() > 127 || !text.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub)) {
                item.fault(
                    faults,
                    "must be a content type in lower case without parameters, such as \"application/json\"",
                );
            }
        }
        if texts.is_empty() {
            types.fault(faults, "at least one content type is needed");
        }
        answer.types = texts.into_iter().map(|(text, _)| text.to_owned()).collect();
    }
    answer.id = section.optional("id").and_then(|e| pointer(&e, faults));
    section.finish(faults);
    answer
}

/// No two values may stand in the same place, or one inside the other. Told at both.
fn collisions(placed: &[Placed], faults: &mut Faults<'_>) {
    for (index, one) in placed.iter().enumerate() {
        for (_, other) in placed.iter().enumerate().filter(|(place, _)| *place != index) {
            let collide = match (&one.goes, &other.goes) {
                (Goes::Body(this), Goes::Body(that)) => this.is_within(that) || that.is_within(this),
                (this, that) => this == that,
            };
            if collide {
                let line = faults.line_of(other.at);
                faults.add(one.at, &one.path, format!("has the same place in the request as {} ({line})", other.path));
            }
        }
    }
}

/// Each place of the path has a field, and each field of the path has a place.
fn params(path: &PathTemplate, entry: &Entry<'_>, placed: &[Placed], faults: &mut Faults<'_>) {
    for param in path.params() {
        if !placed.iter().any(|one| one.goes == Goes::Path(param.to_owned())) {
            entry.fault(faults, format!("no input goes to {{{param}}}"));
        }
    }
    for one in placed {
        if let Goes::Path(param) = &one.goes
            && !path.params().any(|other| other == param)
        {
            faults.add(one.at, &one.path, format!("the path has no {{{param}}}"));
        }
    }
}

/// Every request that the action renders must be one that its own `when` speaks of. Otherwise it could render a request
/// that the platform, and the linter's proof, take for another action's.
fn renders_its_own(action: &Action, entry: &Entry<'_>, faults: &mut Faults<'_>) {
    let fixed = action.query.iter().map(|(name, text)| (Place::Query(name.clone()), Scalar::Text(text.clone())));
    let fixed: BTreeMap<Place, Scalar> =
        fixed.chain(action.body.iter().map(|(pointer, value)| (Place::Body(pointer.clone()), value.clone()))).collect();
    let given: Vec<(Place, &Field)> =
        action.input.values().filter_map(|field| Some((field.goes.place()?, field))).collect();

    for place in &action.when.present {
        let sure = given.iter().filter(|(_, field)| field.required).map(|(place, _)| place);
        if !fixed.keys().chain(sure).any(|sure| sure.is_within(place)) {
            entry.fault(faults, format!("says that {place} is present, but no required input or fixed value is there"));
        }
    }
    for place in &action.when.absent {
        if fixed.keys().chain(given.iter().map(|(place, _)| place)).any(|own| own.is_within(place)) {
            entry.fault(faults, format!("says that {place} is absent, but the action puts something there"));
        }
    }
    for (place, value) in &action.when.equals {
        let mut sure = given.iter().filter(|(own, field)| own == place && field.required);
        let always =
            fixed.get(place) == Some(value) || sure.any(|(_, field)| field.only_value() == Some(value.to_json()));
        if !always {
            entry.fault(
                faults,
                format!("says that {place} has one value, but no fixed value or only allowed input is there"),
            );
        }
    }
}
