//! The trust page in a real browser: at a phone's and a desktop's width, light and dark, read as a person and as a screen reader would.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    process::{Child, Command, Stdio},
};

use fantoccini::{Client, ClientBuilder, Locator, key::Key, wd::PrintConfiguration};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{operator, publish, statement};
use crate::harness::{TestApp, variable};

/// The driver, and the folder in which its browsers keep what they write.
struct Driver {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Driver {
    /// `None` where there is no browser, which is a failure on the machines that judge.
    fn start() -> Option<Self> {
        let started = Command::new("chromedriver")
            .args(["--port=0", "--log-level=WARNING"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert_ne!(variable("CI").as_deref(), Some("true"), "there is no chromedriver on this machine");
                // Past the harness, which would swallow the line of a test that passes.
                let mut out = std::io::stderr();
                writeln!(out, "not run: there is no chromedriver on this machine").unwrap();
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("ChromeDriver was started successfully on port ")?.trim_end_matches('.').parse().ok()
        });
        Some(Self { process, port: port.unwrap(), folder: tempfile::tempdir().unwrap() })
    }

    async fn open(&self, sight: &Sight) -> Client {
        let profile = self.folder.path().join(sight.name);
        let mut arguments = vec![
            "--headless".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.display()),
            format!("--window-size={},{}", sight.width.max(600), sight.height),
            // 0 is dark, 1 is light.
            format!("--blink-settings=preferredColorScheme={}", u8::from(!sight.dark)),
        ];
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let mut options = json!({ "args": arguments });
        if sight.width < 600 {
            let metrics = json!({ "width": sight.width, "height": sight.height, "pixelRatio": 2.0, "touch": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": options }) else { unreachable!() };
        let address = format!("http://127.0.0.1:{}", self.port);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities).connect(&address).await.unwrap()
    }
}

/// How somebody looks at the page.
struct Sight {
    name: &'static str,
    width: u32,
    height: u32,
    dark: bool,
}

const SIGHTS: [Sight; 4] = [
    Sight { name: "phone-light", width: 390, height: 844, dark: false },
    Sight { name: "phone-dark", width: 390, height: 844, dark: true },
    Sight { name: "desktop-light", width: 1280, height: 900, dark: false },
    Sight { name: "desktop-dark", width: 1280, height: 900, dark: true },
];

/// What a reader's software finds in the page, and what a reader sees.
const FINDINGS: &str = r##"
    const channel = (value) => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    const numbers = (text) => text.match(/[\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    let worst = [21, ''];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.getClientRects().length) continue;
        const [one, other] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 120)];
    }
    const levels = [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((it) => Number(it.tagName[1]));
    const targets = [...document.querySelectorAll('[aria-labelledby]')].map((it) => it.getAttribute('aria-labelledby'));
    const links = [...document.querySelectorAll('a[href^="#"]')].map((it) => it.getAttribute('href').slice(1));
    const root = document.documentElement;
    return {
        language: root.lang,
        landmarks: ['header', 'nav', 'main', 'footer'].map((name) => document.querySelectorAll('body > ' + name).length),
        first: levels[0], ones: levels.filter((level) => level === 1).length,
        jumps: levels.filter((level, place) => place > 0 && level > levels[place - 1] + 1).length,
        nowhere: targets.concat(links).filter((id) => !document.getElementById(id)),
        twice: [...document.querySelectorAll('[id]')].map((it) => it.id).filter((id, place, all) => all.indexOf(id) !== place),
        wider: root.scrollWidth - root.clientWidth,
        scripts: document.scripts.length,
        styled: getComputedStyle(document.querySelector('.state')).borderTopStyle,
        paper: luminance(numbers(getComputedStyle(document.body).backgroundColor)),
        open: document.querySelectorAll('details[open]').length,
        folded: document.querySelectorAll('details').length,
        regions: [...document.querySelectorAll('.wide')].filter((it) => it.tabIndex !== 0 || !it.getAttribute('aria-label')).length,
        worst,
    };
"##;

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_good_on_a_phone_and_a_desktop_in_light_and_in_dark() {
    let Some(driver) = Driver::start() else { return };
    let app = TestApp::start().await;
    let person = operator(&app).await;
    publish(&person, &statement(&app)).await;
    let address = app.instance.url().join("/trust").unwrap();
    for sight in &SIGHTS {
        let browser = driver.open(sight).await;
        browser.goto(address.as_str()).await.unwrap();
        let found = browser.execute(FINDINGS, Vec::new()).await.unwrap();
        let what = format!("{}: {found}", sight.name);
        assert_eq!((&found["language"], &found["landmarks"]), (&json!("en"), &json!([1, 1, 1, 1])), "{what}");
        assert_eq!((&found["first"], &found["ones"], &found["jumps"]), (&json!(1), &json!(1), &json!(0)), "{what}");
        assert_eq!(
            (&found["nowhere"], &found["twice"], &found["regions"]),
            (&json!([]), &json!([]), &json!(0)),
            "{what}"
        );
        assert_eq!((&found["wider"], &found["scripts"]), (&json!(0), &json!(0)), "{what}");
        assert_eq!(found["styled"], "solid", "{what}");
        // WCAG 2.2, success criterion 1.4.3, level AA.
        assert!(found["worst"][0].as_f64().unwrap() >= 4.5, "{what}");
        let paper = found["paper"].as_f64().unwrap();
        assert!(if sight.dark { paper < 0.1 } else { paper > 0.8 }, "{what}");
        assert!(found["open"] == 0 && found["folded"].as_u64().unwrap() > 5, "{what}");

        // By the keyboard: the first stop leads past the navigation.
        browser.find(Locator::Css("body")).await.unwrap().send_keys(&char::from(Key::Tab).to_string()).await.unwrap();
        let focused = browser.active_element().await.unwrap().attr("class").await.unwrap();
        assert_eq!(focused.as_deref(), Some("skip"), "{}", sight.name);

        // Evidence is folded away, and opens without a script of ours.
        let evidence = browser.find(Locator::Css("details dl")).await.unwrap();
        assert!(!evidence.is_displayed().await.unwrap(), "{}", sight.name);
        browser.find(Locator::Css("details summary")).await.unwrap().click().await.unwrap();
        assert!(evidence.is_displayed().await.unwrap(), "{}", sight.name);
        let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.execute(wider, Vec::new()).await.unwrap(), json!(0), "{} with its evidence", sight.name);
        if sight.name == "desktop-light" {
            let printed = browser.print(PrintConfiguration::default()).await.unwrap();
            assert!(printed.starts_with(b"%PDF-") && printed.len() > 10_000, "{} bytes", printed.len());
        }
        browser.close().await.unwrap();
    }
    app.stop().await;
}
