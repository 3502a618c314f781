//! From a name to addresses: one question a name at a time, however many ask, and an answer that is good for a little while.
//!
//! A question to the machine's resolver cannot be taken back: it holds a thread until the resolver gives up, which can take half a
//! minute. So nobody asks what is being asked already, and a name that is never answered holds one thread and keeps nobody but its own
//! callers waiting. What is remembered are addresses as the resolver gave them: whether one may be connected to is asked of
//! [`crate::address`] each time, never remembered.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::clock::Clock;
use tokio::sync::watch;

use crate::{connector::Resolver, host::Host};

/// For how long an answer is good. Platforms move by changing names, and a name that was turned to the inside must not stay usable.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// A resolver's answer. Its error is told to all who wait.
type Answer = Result<Arc<[IpAddr]>, Arc<io::Error>>;

enum Known {
    /// Somebody has asked, and the answer will come this way.
    Asked(watch::Receiver<Option<Answer>>),
    Found {
        addresses: Arc<[IpAddr]>,
        until: Duration,
    },
}

/// The names that one policy declares. There are no others, so that this does not grow.
#[derive(Clone)]
pub(crate) struct Names {
    resolver: Resolver,
    known: Arc<Mutex<HashMap<Host, Known>>>,
    clock: Clock,
}

impl Names {
    pub(crate) fn new(resolver: Resolver, clock: Clock) -> Self {
        Self { resolver, known: Arc::default(), clock }
    }

    /// The addresses of a name, unfiltered. Giving up the wait gives up nothing but the wait.
    ///
    /// # Errors
    /// What the resolver said.
    pub(crate) async fn look_up(&self, host: &Host) -> io::Result<Arc<[IpAddr]>> {
        let mut coming = {
            let mut known = self.lock();
            match known.get(host) {
                Some(Known::Found { addresses, until }) if self.clock.since_boot() < *until => {
                    return Ok(Arc::clone(addresses));
                }
                Some(Known::Asked(coming)) => coming.clone(),
                Some(Known::Found { .. }) | None => {
                    let (tell, coming) = watch::channel(None);
                    known.insert(host.clone(), Known::Asked(coming.clone()));
                    drop(known);
                    self.ask(host.clone(), tell);
                    coming
                }
            }
        };
        let answer = coming.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        // A question that ended without an answer is none: the next caller asks anew.
        let answer = answer.unwrap_or_else(|| {
            self.lock().remove(host);
            Err(Arc::new(io::ErrorKind::Interrupted.into()))
        });
        answer.map_err(|error| io::Error::new(error.kind(), error))
    }

    /// Asks, in a task that ends with the resolver's answer and with nobody's patience.
    fn ask(&self, host: Host, tell: watch::Sender<Option<Answer>>) {
        let names = self.clone();
        #[expect(clippy::disallowed_methods, reason = "a question outlives whoever asked it, and ends with its answer")]
        let _asking = tokio::spawn(async move {
            let answer = names.resolver.look_up(host.as_str()).await.map(Arc::from).map_err(Arc::new);
            match &answer {
                Ok(addresses) => {
                    let until = names.clock.since_boot() + GOOD_FOR;
                    names.lock().insert(host, Known::Found { addresses: Arc::clone(addresses), until });
                }
                // The next who needs it asks again.
                Err(_) => drop(names.lock().remove(&host)),
            }
            tell.send_replace(Some(answer));
        });
    }

    /// Forgets a name's addresses: none of them could be connected to. A question that is on its way stays.
    pub(crate) fn forget(&self, host: &Host) {
        let mut known = self.lock();
        if matches!(known.get(host), Some(Known::Found { .. })) {
            known.remove(host);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Host, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use time::OffsetDateTime;

    use super::*;
    use crate::connector::Script;

    #[tokio::test]
    async fn one_question_serves_all_who_ask_and_a_name_without_an_answer_holds_up_no_other() {
        let script = Arc::new(Script::default());
        let clock = Clock::set(OffsetDateTime::UNIX_EPOCH);
        let names = Names::new(Resolver::Scripted(Arc::clone(&script)), clock.clone());
        let [dead, well] = ["dead.example.dev", "well.example.dev"].map(|name| Host::parse(name).unwrap());
        let asking: Vec<_> = (0..64)
            .map(|_| {
                let (names, dead) = (names.clone(), dead.clone());
                #[expect(clippy::disallowed_methods, reason = "a test's tasks")]
                tokio::spawn(async move { names.look_up(&dead).await })
            })
            .collect();
        // Who gives up takes nothing with it.
        drop(tokio::time::timeout(Duration::ZERO, names.look_up(&dead)).await);
        for _ in 0..3 {
            assert_eq!(names.look_up(&well).await.unwrap().len(), 1);
        }
        assert_eq!(script.asked.load(Ordering::SeqCst), 2, "each name once");
        script.answers.notify_one();
        for answer in asking {
            assert_eq!(answer.await.unwrap().unwrap().len(), 1);
        }
        assert_eq!(script.asked.load(Ordering::SeqCst), 2);

        clock.advance(GOOD_FOR);
        assert!(names.look_up(&well).await.is_ok());
        assert_eq!(script.asked.load(Ordering::SeqCst), 3, "an answer is good for a little while");
        names.forget(&well);
        assert!(names.look_up(&well).await.is_ok());
        assert_eq!(script.asked.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_wait_and_not_remembered() {
        let names = Names::new(Resolver::Fixed(HashMap::new()), Clock::system());
        let host = Host::parse("nowhere.example.dev").unwrap();
        for _ in 0..2 {
            assert_eq!(names.look_up(&host).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            assert!(names.lock().is_empty());
        }
    }
}
