//! The memory of a serving process: whether an opened credential is there when no call needs it.
//!
//! Reads what only root may read of a process that lets nobody look in: another account finds that door shut, and the claim unproven.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    time::Duration,
};

use domain::random;
use memchr::memmem::Finder;
use sandbox::{Call, Quirk, Route, Scope};
use serde_json::json;

use crate::{
    entrusted::Entrusted,
    evidence::{Evidence, Failure, Outcome, sha256},
    ground::Ground,
    owner::{expect, text},
    probe::{Attack, Probe},
    probes::{at_rest::connection_id, leaks::line_with},
};

/// Whether an opened credential outlives its call.
pub(super) const OPENED_FOR_ONE_CALL: Probe = Probe {
    name: "opened-for-one-call",
    points: &["opened-for-one-call"],
    tries: "a credential in the memory of a node whose calls are over, and in its log",
    attack: Attack::Rehearsed(|ground| Box::pin(opened_for_one_call(ground))),
};

const ACCOUNT: &str = "probe_memory";
const OTHER: &str = "probe_memory_other";
/// How many acts are done before the memory is read.
const ACTS: u32 = 12;
/// How often another account's calls pass before what is still there counts as kept.
const ROUNDS: u32 = 24;
/// How many of those calls are on their way at once: as many as one account may have at a host.
const ABREAST: u32 = 4;
/// The copies that the HTTP library may still hold: one in the buffer of each connection that rests. What keeps a copy of each call, or of
/// each of its own openings, keeps more.
const AT_REST: usize = 4;
/// How much is read at once.
const CHUNK: usize = 1 << 20;

async fn opened_for_one_call(ground: &Ground) -> Outcome {
    let mut evidence = Evidence::new();
    let entrusted = ground.entrust(ACCOUNT).await?;
    let other = ground.entrust(OTHER).await?;
    let node = ground.node().await?;
    let memory = Memory { pid: node.pid().unwrap_or_default() };
    entrusted.refresh(ground).await?;
    for number in 0..ACTS {
        let done = entrusted.post(&format!("act {number}")).await?;
        evidence.tried("acts", "an act with the credential", number.to_string(), done.to_string());
    }
    opened_each_time(ground, &entrusted, &mut evidence).await?;
    let platform = ground.platform();
    let live = platform.last_access_token(ACCOUNT).ok_or_else(|| Failure::unproven("there is no token"))?;
    let during = during_a_call(ground, &entrusted, &memory, &live).await?;
    if during.copies == 0 {
        return Err(Failure::unproven("the token was not found during its call: the search is blind"));
    }
    evidence.saw("the memory during a call: the token is there", sha256(live.as_bytes()), format!("{during:?}"));
    for token in platform.tokens(ACCOUNT) {
        let what = format!("the {} token of calls that are over", format!("{:?}", token.kind).to_lowercase());
        let found = left_of(&token.text, &other, &memory).await?;
        if found.copies > AT_REST {
            let obtained =
                json!({ "sha256": sha256(token.text.as_bytes()), "copies": found.copies, "in_bytes": found.bytes });
            return Err(Failure::broken(format!("{what} is still in the node's memory"), obtained));
        }
        evidence.tried("process-memory", what, sha256(token.text.as_bytes()), format!("{found:?}"));
    }
    let log = node.log_text()?;
    for needle in ground.needles(ACCOUNT) {
        if let Some((line, form)) = line_with(&log, &needle) {
            let obtained = json!({ "sha256": needle.sha256, "line": line, "form": form });
            return Err(Failure::broken(format!("{} is in the log", needle.name), obtained));
        }
    }
    for line in log.lines() {
        evidence.tried("log-lines", "a line of the node's log", "", sha256(line.as_bytes()));
    }
    Ok(evidence)
}

/// Directly after its use a credential is no more at hand: with what is sealed spoiled, the next act has none. However short a time a
/// node kept it opened, it would act with that.
async fn opened_each_time(ground: &Ground, entrusted: &Entrusted, evidence: &mut Evidence) -> Result<(), Failure> {
    let owner = ground.owner().await?;
    owner.client.batch_execute("set session_replication_role = replica").await?;
    let id = connection_id(entrusted)?;
    let read = "select sealed from keyholder.credentials where connection_id = $1 and field = 'access'";
    let write = "update keyholder.credentials set sealed = $2 where connection_id = $1 and field = 'access'";
    entrusted.post("with the credential, a moment before").await?;
    let sealed: Vec<u8> = owner.client.query_one(read, &[&id]).await?.try_get(0)?;
    let mut spoiled = sealed.clone();
    if let Some(last) = spoiled.last_mut() {
        *last ^= 1;
    }
    owner.client.execute(write, &[&id, &spoiled]).await?;
    let words = "with nothing that opens";
    let tried = entrusted.try_to_post(words).await;
    // Also where that failed: the acts that follow need it.
    owner.client.execute(write, &[&id, &sealed]).await?;
    let reply = tried?;
    if reply.status.is_success() || ground.platform().posts_by(ACCOUNT).iter().any(|post| post.text == words) {
        let obtained = json!({ "status": reply.status.as_u16(), "answer_sha256": sha256(&reply.body) });
        return Err(Failure::broken("an act was done with a credential that was kept opened", obtained));
    }
    if !text(&reply.json(), "/type").ends_with(":credential-unavailable") {
        return Err(Failure::unproven(format!("an act without a credential was answered {}", reply.status)));
    }
    evidence.tried(
        "acts",
        "an act whose credential does not open any more, directly after another",
        words,
        &reply.body,
    );
    entrusted.post("with the credential again").await?;
    Ok(())
}

/// What is left of a token when others have called after it. A connection's buffers are used again, and hold what passed last: they are
/// the HTTP library's, and the next call writes over them. Our own copies, and a cache, nothing writes over.
async fn left_of(token: &str, other: &Entrusted, memory: &Memory) -> Result<Found, Failure> {
    let mut found = memory.look_for(token)?;
    for _ in 0..ROUNDS {
        if found.copies == 0 {
            break;
        }
        // At once, so that each connection that rests is used again, and longer than what passed before.
        let posts =
            (0..ABREAST).map(|_| async { other.post(&format!("after them, {}", random::token().repeat(5))).await });
        futures_util::future::try_join_all(posts).await?;
        found = memory.look_for(token)?;
    }
    Ok(found)
}

async fn during_a_call(ground: &Ground, entrusted: &Entrusted, memory: &Memory, token: &str) -> Result<Found, Failure> {
    let platform = ground.platform();
    platform.switch(Quirk::HoldAnswer, Scope::once(Route::Only(Call::ReadProfile)))?;
    let input = json!({});
    let met = platform.fired();
    let (answer, found) =
        tokio::join!(entrusted.agent.caller.act(&entrusted.agent.mandate, "profile.read", &input, None), async {
            for _ in 0..2_000 {
                if platform.fired() > met {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let found = memory.look_for(token);
            platform.clear();
            found
        });
    expect(&answer?, 200)?;
    Ok(found?)
}

/// The memory of a process.
struct Memory {
    pid: u32,
}

/// What a look at it found.
#[derive(Debug, Clone, Copy)]
struct Found {
    bytes: u64,
    copies: usize,
}

impl Memory {
    /// Counts the copies of a text in everything that the process can write to.
    fn look_for(&self, text: &str) -> io::Result<Found> {
        let finder = Finder::new(text);
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        let mut found = Found { bytes: 0, copies: 0 };
        let mut chunk = vec![0; CHUNK + text.len() - 1];
        for (begins, ends) in writable(&fs::read_to_string(format!("/proc/{}/maps", self.pid))?) {
            let mut at = begins;
            while at < ends {
                let wanted = usize::try_from(ends - at).unwrap_or(usize::MAX).min(chunk.len());
                // A page that was given back since is no page to look at.
                let read = memory.read_at(chunk.get_mut(..wanted).unwrap_or_default(), at).unwrap_or(0);
                found.copies += finder.find_iter(chunk.get(..read).unwrap_or_default()).count();
                found.bytes += u64::try_from(read.min(CHUNK)).unwrap_or_default();
                at += CHUNK as u64;
            }
        }
        Ok(found)
    }
}

/// The writable regions of a process, by its list of them (proc(5)).
fn writable(maps: &str) -> Vec<(u64, u64)> {
    let regions = maps.lines().filter_map(|line| line.split_once(' ')).filter(|(_, rest)| rest.starts_with("rw"));
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    regions
        .filter_map(|(span, _)| span.split_once('-'))
        .filter_map(|(begins, ends)| Some((address(begins)?, address(ends)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_written_is_read() {
        let maps = "55d0c0000000-55d0c0001000 r-xp 00000000 08:01 1 /keyholder\n\
                    55d0c0002000-55d0c0003000 rw-p 00000000 00:00 0 [heap]\n\
                    7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]\nnonsense\n";
        assert_eq!(writable(maps), [(0x55d0_c000_2000, 0x55d0_c000_3000), (0x7ffd_0000_0000, 0x7ffd_0002_1000)]);
    }

    #[test]
    fn a_text_is_counted_once_wherever_it_lies_and_a_text_that_is_not_there_is_not() {
        let planted = format!("planted {}", random::token()).into_bytes();
        let memory = Memory { pid: std::process::id() };
        // Whoever may not read it even of himself cannot see that the search works.
        let Ok(found) = memory.look_for(std::str::from_utf8(&planted).unwrap()) else { return };
        assert!(found.copies >= 1 && found.bytes > 0, "{found:?}");
    }
}
