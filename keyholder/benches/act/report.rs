//! The outcome: one line of JSON, whose shape is fixed, and what is worked out from it.

use serde::{Deserialize, Serialize};

/// How many connections there are at a time.
pub(crate) const LEVELS: [usize; 3] = [1, 16, 64];

/// One series at one number of connections: medians of the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    /// Half of the exchanges took no longer, in microseconds.
    pub(crate) p50_us: f64,
    /// All but a hundredth took no longer, in microseconds.
    pub(crate) p99_us: f64,
    /// Exchanges a second.
    pub(crate) rps: f64,
}

/// One series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Series {
    /// At one connection.
    #[serde(rename = "1")]
    pub(crate) one: Point,
    /// At 16.
    #[serde(rename = "16")]
    pub(crate) sixteen: Point,
    /// At 64.
    #[serde(rename = "64")]
    pub(crate) sixty_four: Point,
}

/// What the aims are stated in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ratios {
    /// Throughput of reads by nginx's, at 64 connections.
    pub(crate) read_vs_nginx_64: Option<f64>,
    /// What a read adds to the median of a direct call, by what nginx adds, at one connection.
    pub(crate) read_added_vs_nginx_added_1: Option<f64>,
    /// Throughput of writes by that of bare inserts, at 64 connections each.
    pub(crate) write_vs_commit_64: f64,
    /// Throughput of writes by nginx's, at 64 connections.
    pub(crate) write_vs_nginx_64: Option<f64>,
    /// What a write adds to the median of a direct call, in medians of a bare insert, at one connection.
    pub(crate) write_added_p50_in_commits: f64,
}

/// What an act costs Keyholder's own process, at 64 connections, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CpuPerAct {
    pub(crate) read: f64,
    pub(crate) write: f64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) direct: Series,
    pub(crate) nginx: Option<Series>,
    pub(crate) commit: Series,
    pub(crate) read: Series,
    pub(crate) write: Series,
    pub(crate) ratios: Ratios,
    pub(crate) cpu_us_per_act: CpuPerAct,
    pub(crate) idle_rss_mib: f64,
    pub(crate) up_first_s: f64,
    pub(crate) up_again_s: f64,
    pub(crate) commit_hash: String,
    pub(crate) cpu: String,
    pub(crate) nginx_conf_sha256: Option<String>,
}

impl Ratios {
    /// The ratios of a run's series.
    pub(crate) fn of(
        direct: &Series,
        nginx: Option<&Series>,
        commit: &Series,
        (read, write): (&Series, &Series),
    ) -> Self {
        let added = |series: &Series| series.one.p50_us - direct.one.p50_us;
        Self {
            read_vs_nginx_64: nginx.map(|nginx| rounded(read.sixty_four.rps / nginx.sixty_four.rps)),
            read_added_vs_nginx_added_1: nginx.map(|nginx| rounded(added(read) / added(nginx))),
            write_vs_commit_64: rounded(write.sixty_four.rps / commit.sixty_four.rps),
            write_vs_nginx_64: nginx.map(|nginx| rounded(write.sixty_four.rps / nginx.sixty_four.rps)),
            write_added_p50_in_commits: rounded(added(write) / commit.one.p50_us),
        }
    }
}

/// The points of one series over the rounds, a list for each of [`LEVELS`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds([Vec<Point>; 3]);

impl Rounds {
    /// Notes a round's point at the level of this place.
    pub(crate) fn note(&mut self, level: usize, point: Point) {
        if let Some(points) = self.0.get_mut(level) {
            points.push(point);
        }
    }

    /// The medians; nothing, where nothing was measured.
    pub(crate) fn medians(&self) -> Option<Series> {
        let of = |points: &Vec<Point>| {
            let middle = |value: fn(&Point) -> f64| median(&points.iter().map(value).collect::<Vec<_>>()).map(rounded);
            Some(Point {
                p50_us: middle(|point| point.p50_us)?,
                p99_us: middle(|point| point.p99_us)?,
                rps: middle(|point| point.rps)?,
            })
        };
        let [one, sixteen, sixty_four] = &self.0;
        Some(Series { one: of(one)?, sixteen: of(sixteen)?, sixty_four: of(sixty_four)? })
    }
}

/// Three places behind the point: more would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The middle of an odd number of values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
