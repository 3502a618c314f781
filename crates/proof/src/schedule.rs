//! Schedules: what a shipped systemd timer runs of the program, what it waits between, and how often.
//!
//! Read from the unit files themselves, so that what a probe rehearses is what an operator enables.

use std::{path::Path, time::Duration};

use crate::{evidence::Failure, source::SourceTree};

/// Where a unit expects the program.
const PROGRAM: &str = "/usr/local/bin/keyholder";
/// By which it waits.
const SLEEP: &str = "/bin/sleep";

/// What a service does, one after the other.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Runs the program with these arguments.
    Run(Vec<String>),
    /// Waits for so long.
    Rest(Duration),
}

/// A timer and its service.
#[derive(Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What the service does, in its order. What it runs of the system beside is not told.
    pub steps: Vec<Step>,
    /// After how many days at most it runs again.
    pub days: u64,
}

impl Schedule {
    /// The shipped schedule of a name.
    ///
    /// # Errors
    /// `Unproven` where there is none, or it cannot be understood.
    pub fn shipped(tree: &SourceTree, name: &str) -> Result<Self, Failure> {
        let unit = |kind: &str| tree.read(Path::new(&format!("packaging/{name}.{kind}")));
        let (service, timer) = (unit("service")?, unit("timer")?);
        Self::read(&service, &timer).ok_or_else(|| Failure::unproven(format!("the timer {name} cannot be understood")))
    }

    fn read(service: &str, timer: &str) -> Option<Self> {
        let mut steps = Vec::new();
        for line in settings(service, "ExecStart") {
            // A mark before the program says how a failure is taken (systemd.service(5)).
            let mut words = line.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace();
            match words.next() {
                Some(PROGRAM) => steps.push(Step::Run(words.map(str::to_owned).collect())),
                Some(SLEEP) => steps.push(Step::Rest(Duration::from_secs(words.next()?.parse().ok()?))),
                _ => {}
            }
        }
        // The words of systemd.time(7). The last setting counts least: the timer runs at each of them.
        let days = settings(timer, "OnCalendar").map(|word| match word {
            "hourly" | "daily" => Some(1),
            "weekly" => Some(7),
            "monthly" => Some(31),
            "quarterly" => Some(92),
            "semiannually" => Some(184),
            "yearly" | "annually" => Some(366),
            _ => None,
        });
        let days = days.collect::<Option<Vec<u64>>>()?.into_iter().min()?;
        Some(Self { steps, days })
    }
}

/// The values of a setting, in their order.
fn settings<'u>(unit: &'u str, name: &'u str) -> impl Iterator<Item = &'u str> {
    unit.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_what_its_units_say() {
        let service = "[Service]\n# ExecStart=/usr/local/bin/keyholder nothing\nExecStart=-/usr/local/bin/keyholder migrate --a\n\
                       ExecStart=/bin/sleep 60\nExecStart=/usr/local/bin/keyholder migrate --b /x\n";
        let read = Schedule::read(service, "[Timer]\nOnCalendar=monthly\nPersistent=yes\n").unwrap();
        let run = |arguments: &[&str]| Step::Run(arguments.iter().map(|it| (*it).to_owned()).collect());
        let rest = Step::Rest(Duration::from_mins(1));
        assert_eq!(read.steps, [run(&["migrate", "--a"]), rest, run(&["migrate", "--b", "/x"])]);
        assert_eq!(read.days, 31);
        assert_eq!(Schedule::read("ExecStart=/bin/sleep a while\n", "OnCalendar=monthly\n"), None);
        assert_eq!(Schedule::read(service, "[Timer]\n"), None);
        assert_eq!(Schedule::read(service, "OnCalendar=*-*-01\n"), None);
    }
}
