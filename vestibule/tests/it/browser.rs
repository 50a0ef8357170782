//! Chromium, driven through ChromeDriver as a visitor would use it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, free_port, peer};

/// A browser window of its own, with a new profile.
pub struct Browser {
    client: Client,
    driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A window of this width and height, in CSS pixels; a phone has touch and shows no scroll bars.
    pub async fn open(width: u32, height: u32, phone: bool) -> Self {
        let port = free_port();
        let driver = Command::new(peer("VESTIBULE_CHROMEDRIVER", &["/usr/bin/chromedriver"]))
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ChromeDriver runs");
        let profile = tempfile::tempdir().expect("a directory");
        let args = [
            "--headless".into(),
            // Chromium refuses its sandbox to root, as which tests run in containers.
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-dev-shm-usage".into(),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--window-size={width},{height}"),
        ];
        let mut options = json!({"args": args, "binary": peer("VESTIBULE_CHROMIUM", &["/usr/bin/chromium"])});
        if phone {
            options["mobileEmulation"] = json!({"deviceMetrics":
                {"width": width, "height": height, "pixelRatio": 2.0, "touch": true, "mobile": true}});
        }
        let capabilities =
            [("goog:chromeOptions".to_owned(), options), ("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"}))];
        let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(capabilities.into_iter().collect());
        let mut tries = 0;
        let client = loop {
            match builder.connect(&format!("http://127.0.0.1:{port}")).await {
                Ok(client) => break client,
                Err(error) if tries > 300 => panic!("no browser: {error}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        Self { client, driver, _profile: profile }
    }

    /// Opens a page.
    pub async fn goto(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// What an expression gives on the page.
    pub async fn read(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.expect(expression)
    }

    /// Waits until an expression is true on the page.
    pub async fn wait_for(&self, expression: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while self.read(&format!("Boolean({expression})")).await != json!(true) {
            assert!(tokio::time::Instant::now() < until, "never true on the page: {expression}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Clicks on the first element that fits a CSS selector.
    pub async fn click(&self, css: &str) {
        self.client.find(Locator::Css(css)).await.expect(css).click().await.expect(css);
    }

    /// Closes the window.
    pub async fn close(self) {
        let _ = self.client.clone().close().await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The text of an element, as an expression.
pub fn text(css: &str) -> String {
    format!("document.querySelector({}).textContent", json!(css))
}

/// Titles of the demands and the verdict on each.
pub async fn verdicts(browser: &Browser) -> BTreeMap<String, String> {
    let cards = browser
        .read(
            "[...document.querySelectorAll('#demand-cards .card')].map((c) => \
             [c.querySelector('h3').textContent, c.querySelector('.verdict').textContent])",
        )
        .await;
    let cards: Vec<(String, String)> = serde_json::from_value(cards).expect("pairs of texts");
    cards.into_iter().collect()
}
