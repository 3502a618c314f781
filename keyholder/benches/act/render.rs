//! The page that belongs to a run: tables, and each aim with what was reached. Everything in it comes from the run's one line.

use std::fmt::{self, Write};

use super::report::{Report, Series};

const HEAD: &str = "\
# Performance

What an act costs, beside what it can be compared with. This page is made from [the raw outcome](performance.json) of one run:

```sh
cargo bench --workspace --bench act -- --json > docs/performance.json
cargo bench --workspace --bench act -- --render docs/performance.json > docs/performance.md
```

A test fails where the two differ. The run takes about seven minutes with four seconds a figure (`--seconds`), and wants the machine to itself.

";

const METHOD: &str = "\
## What is measured

Five rounds; in each, every series at 1, 16 and 64 connections, some seconds each after half a second that does not count. The series of one
number of connections stand next to each other, in one order and then in the other, so that what drifts meets all alike. Figures are
the medians of the rounds. The load generator keeps its connections open, and asks again as soon as it was answered. It shares the machine's
cores with everything else: the platform's double (the sandbox, without quirks), PostgreSQL, nginx and Keyholder.

| series | what happens once |
|---|---|
| direct | `GET /2/users/me` at the platform, over TLS, with a valid token |
| nginx | the same request in the clear to nginx on the loopback address, which sends it on over verified TLS and kept connections ([configuration](../keyholder/benches/act/nginx.conf), no log) |
| commit | one row of 200 bytes inserted and on the disk, on the same cluster |
| read | `POST /v1/acts` for `profile.read`: to the platform the same request as direct. No budget binds it, so it passes without the ledger |
| write | `POST /v1/acts` for `post.create` with an idempotency key of its own and a budget of posts: admitted in the ledger, sent, settled, its answer sealed and kept, before it is answered |

Keyholder runs as it serves: a release build in a process of its own, plain HTTP on the loopback address, with its log (a line a request,
redacted and masked; it goes to the null device) and its metrics, all acts under one mandate of one workspace. Only the cheap limits a
minute are out of the way. At the end posts asked for, posts that the platform has seen, settled acts and the budget's count are compared: one that
differs is a failed run, and so is any answer that is no success.

*Added* is the difference of medians to a direct call. *CPU an act* is the time that Keyholder's process computes, in user and kernel mode, at 64
connections; nothing of PostgreSQL, sandbox or load generator is in it. *Idle memory* is the resident memory of `keyholder up` three
seconds after it is ready, the sandbox within it, PostgreSQL's processes not. *Ready* is the time from the start of `keyholder up --json` to its
line: on a folder that does not exist yet (a cluster is made, migrated and started), and on the same folder again. Both are medians of
five.

## What bounds it

- A **read** asks the database each time whether its mandate and its connection are in force, and for the sealed credential: one statement,
  shared by all reads that wait at that moment. With one connection nobody shares it; nginx
  asks nobody. The rest of what a read adds there is work and the hand-offs between tasks, not yet told apart. To keep the answer in memory would take it away, and with it that a revocation binds the very next read at every node
  ([decision 0021](decisions/0021-measuring-an-act.md)).
- At 64 connections the **processor** is the bound: what an act costs Keyholder's process, plus what PostgreSQL, the platform's double and the
  load generator cost, divided into the cores. The difference to nginx is what nginx does not do: two permits, the mandate's terms, an
  action's schema, an opened credential, a search of the answer for it in every encoding, a log line that was redacted and masked.
- A **write** waits for two durable commits, one before the call and one after it, and each is a call of a function that does the work of
  several statements. With many connections a commit is shared by up to 64 acts.
";

/// The page.
pub(crate) fn page(report: &Report) -> Result<String, fmt::Error> {
    let mut page = HEAD.to_owned();
    writeln!(page, "Commit `{}`, on {}.\n", report.commit_hash, report.cpu)?;
    aims(&mut page, report)?;
    series(&mut page, report)?;
    page.push_str(METHOD);
    Ok(page)
}

/// An aim: in words, what was reached, and whether that is it. Nothing is reached where nginx was not there.
struct Aim {
    words: String,
    reached: Option<(String, bool)>,
}

fn at_most(words: &str, most: f64, reached: Option<f64>, unit: &str) -> Aim {
    let reached = reached.map(|value| (format!("{value:.2}{unit}"), value <= most));
    Aim { words: words.to_owned(), reached }
}

fn at_least(words: &str, least: f64, reached: Option<f64>, unit: &str) -> Aim {
    let reached = reached.map(|value| (format!("{value:.2}{unit}"), value >= least));
    Aim { words: words.to_owned(), reached }
}

fn aims(page: &mut String, report: &Report) -> fmt::Result {
    let ratios = &report.ratios;
    let write = report.write.sixty_four.rps;
    let lower = report.nginx.map(|nginx| (nginx.sixty_four.rps / 5.0).min(report.commit.sixty_four.rps * 5.0));
    let words =
        "a write at 64 connections: at least the lower of 5 times the bare inserts and a fifth of nginx's throughput";
    let aims = [
        at_most(
            "a read at one connection adds at most twice what nginx adds",
            2.0,
            ratios.read_added_vs_nginx_added_1,
            " times",
        ),
        at_least(
            "a read at 64 connections: at least half of nginx's throughput",
            0.5,
            ratios.read_vs_nginx_64,
            " of it",
        ),
        at_least(words, 1.0, lower.map(|lower| write / lower), " of it"),
        at_most(
            "a write at one connection adds at most 4 bare inserts",
            4.0,
            Some(ratios.write_added_p50_in_commits),
            "",
        ),
        at_most("idle memory at most 60 MiB", 60.0, Some(report.idle_rss_mib), " MiB"),
        at_most("`up` ready within 3 s the first time", 3.0, Some(report.up_first_s), " s"),
        at_most("`up` ready within 1 s later", 1.0, Some(report.up_again_s), " s"),
    ];
    page.push_str("## Aims\n\nOn two cores, which carry everything.\n\n| aim | reached | |\n|---|---|---|\n");
    for Aim { words, reached } in aims {
        let (value, met) = match reached {
            Some((value, true)) => (value, "met"),
            Some((value, false)) => (value, "**falls short**"),
            None => ("nginx was not there".to_owned(), "not measured"),
        };
        writeln!(page, "| {words} | {value} | {met} |")?;
    }
    writeln!(
        page,
        "\nCPU an act: {:.0} µs for a read, {:.0} µs for a write.\n",
        report.cpu_us_per_act.read, report.cpu_us_per_act.write
    )
}

fn series(page: &mut String, report: &Report) -> fmt::Result {
    page.push_str("## Figures\n\nMedian and 99th percentile in microseconds, and exchanges a second.\n\n");
    page.push_str("| series | 1: p50 | p99 | a second | 16: p50 | p99 | a second | 64: p50 | p99 | a second |\n");
    page.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    let rows = [
        ("direct", Some(&report.direct)),
        ("nginx", report.nginx.as_ref()),
        ("commit", Some(&report.commit)),
        ("read", Some(&report.read)),
        ("write", Some(&report.write)),
    ];
    for (name, series) in rows {
        let Some(Series { one, sixteen, sixty_four }) = series else { continue };
        write!(page, "| {name} |")?;
        for point in [one, sixteen, sixty_four] {
            write!(page, " {:.0} | {:.0} | {:.0} |", point.p50_us, point.p99_us, point.rps)?;
        }
        page.push('\n');
    }
    page.push('\n');
    Ok(())
}
