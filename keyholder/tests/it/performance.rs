//! The benchmark: that its harness measures what it says, and that the page shows the outcome that lies beside it. No time is judged here.

#[path = "../../benches/act/commit.rs"]
mod commit;
#[path = "../../benches/grounds/mod.rs"]
mod grounds;
#[path = "../../benches/act/load.rs"]
mod load;
#[path = "../../benches/act/measure.rs"]
mod measure;
#[path = "../../benches/act/nginx.rs"]
mod nginx;
#[path = "../../benches/act/process.rs"]
mod process;
#[path = "../../benches/act/render.rs"]
mod render;
#[path = "../../benches/act/report.rs"]
mod report;
#[path = "../../benches/act/stage.rs"]
mod stage;

use std::{fs, path::Path};

use serde_json::Value;

use measure::Effort;
use report::Report;

/// The keys of one run's line, as the issue that asked for it has them.
const KEYS: [&str; 13] = [
    "commit",
    "commit_hash",
    "cpu",
    "cpu_us_per_act",
    "direct",
    "idle_rss_mib",
    "nginx",
    "nginx_conf_sha256",
    "ratios",
    "read",
    "up_again_s",
    "up_first_s",
    "write",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_measures_every_series_and_accounts_for_every_post() {
    let report = Box::pin(measure::run(Effort::SMOKE)).await.unwrap();
    let line = serde_json::to_value(&report).unwrap();
    let mut keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, KEYS);
    for series in ["direct", "commit", "read", "write"] {
        for level in ["1", "16", "64"] {
            let point = &line[series][level];
            for value in ["p50_us", "p99_us", "rps"] {
                assert!(point[value].as_f64().unwrap() > 0.0, "{series} {level} {value}: {line}");
            }
        }
    }
    assert_eq!(line["nginx"].is_null(), line["nginx_conf_sha256"].is_null());
    assert_eq!(line["nginx"].is_null(), line["ratios"]["read_vs_nginx_64"].is_null());
    assert!(line["idle_rss_mib"].as_f64().unwrap() > 0.0);
    assert_eq!(serde_json::from_str::<Report>(&line.to_string()).unwrap(), report);
}

#[test]
fn the_page_is_what_the_raw_outcome_renders_to() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let raw = fs::read_to_string(docs.join("performance.json")).unwrap();
    assert_eq!(raw.lines().count(), 1, "the raw outcome is one line");
    let report: Report = serde_json::from_str(&raw).unwrap();
    let page = fs::read_to_string(docs.join("performance.md")).unwrap();
    assert_eq!(page, render::page(&report).unwrap(), "run the benchmark again, or render its outcome");
    let hash = serde_json::from_str::<Value>(&raw).unwrap()["nginx_conf_sha256"].clone();
    assert!(hash.is_null() || hash == nginx::configuration_sha256(), "nginx was measured under another configuration");
}
