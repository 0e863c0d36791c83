//! Tests the pages in headless Chromium, as the people who use them would see them.
//!
//! Needs `chromedriver` in the path, and the accessibility checker axe: `npm install --no-save axe-core`.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rollmark_portal::{Failure, Portal};
use serde_json::json;
use thirtyfour::prelude::*;
use tokio::net::{TcpListener, TcpStream};

/// A Friday after school.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_197_600, 0).expect("2026-11-20T18:00:00Z")
}

/// A process that ends with the test, however the test ends.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn browser() -> Result<(Driver, WebDriver), Failure> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut command = Command::new("chromedriver");
    let driver = Driver(command.arg(format!("--port={port}")).stdout(Stdio::null()).spawn()?);
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut wanted = DesiredCapabilities::chrome();
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] {
        wanted.add_arg(argument)?;
    }
    Ok((driver, WebDriver::new(&format!("http://127.0.0.1:{port}"), wanted).await?))
}

async fn serve(portal: &Arc<Portal>) -> Result<String, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = portal.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// The problems that axe finds in the page as it is shown now.
async fn complaints(page: &WebDriver) -> Result<Vec<String>, Failure> {
    let axe = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/node_modules/axe-core/axe.min.js"))?;
    page.execute(axe, Vec::new()).await?;
    let run = "axe.run().then(found => arguments[0](found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')))); ";
    Ok(page.execute_async(run, Vec::new()).await?.convert()?)
}

/// The width of a phone or of a desktop; light or dark; screen or paper.
async fn look(page: &WebDriver, width: u32, scheme: &str, media: &str) -> Result<(), Failure> {
    let size = json!({"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false});
    page.cdp().send_raw("Emulation.setDeviceMetricsOverride", size).await?;
    let features = json!({"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]});
    page.cdp().send_raw("Emulation.setEmulatedMedia", features).await?;
    Ok(())
}

/// The text of the page once it contains the expected text: a click does not wait for the page that it leads to.
async fn text_with(page: &WebDriver, expected: &str) -> Result<String, Failure> {
    let asked = std::time::Instant::now();
    loop {
        // The old page can go away while it is read.
        let text = match page.find(By::Tag("main")).await {
            Ok(main) => main.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        if text.contains(expected) {
            return Ok(text);
        }
        if asked.elapsed() > Duration::from_secs(60) {
            return Err(format!("the page does not say {expected:?}: {text}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn is_within_its_width(page: &WebDriver) -> Result<bool, Failure> {
    let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
    Ok(page.execute(fits, Vec::new()).await?.convert()?)
}

#[tokio::test]
#[ignore = "needs chromedriver and axe"]
async fn parents_see_a_month_with_reasons_and_the_office_what_to_do() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let portal = Portal::start(folder.path(), now).await?;
    let url = serve(&portal).await?;
    let (_driver, page) = browser().await?;

    // A student whose PM register of today was not taken.
    page.goto(format!("{url}/students/4733683207")).await?;
    assert_eq!(page.find(By::Tag("h1")).await?.text().await?, "Attendance of student 4733683207");
    assert_eq!(page.find_all(By::Css("td button")).await?.len(), 30, "15 school days");
    assert!(page.find(By::Css(".figure")).await?.text().await?.ends_with(" %"));
    let text = page.find(By::Tag("main")).await?.text().await?;
    assert!(text.contains("1 left out: register not taken"), "{text}");

    // Reasons show when a mark is chosen, including by keyboard.
    let absence = page.find(By::Css("td button.authorised")).await?;
    let name = absence.attr("aria-label").await?.unwrap_or_default();
    let reason = page.find(By::Id(absence.attr("popovertarget").await?.unwrap_or_default())).await?;
    assert!(!reason.is_displayed().await?);
    absence.send_keys(Key::Enter).await?;
    assert!(reason.is_displayed().await?);
    let words = reason.text().await?;
    assert!(words.starts_with(&name) && words.contains("Why: the registration"), "{words}");
    assert_eq!(complaints(&page).await?, Vec::<String>::new());
    absence.click().await?;

    // A mark that is not confirmed says nothing else.
    let open = page.find(By::Css("td button.unconfirmed")).await?;
    assert_eq!(open.text().await?, "?");
    assert_eq!(open.attr("aria-label").await?.as_deref(), Some("PM, 20 November: not confirmed yet"));

    for (width, scheme) in [(360, "light"), (360, "dark"), (1000, "light"), (1000, "dark")] {
        for path in ["/students/4733683207", "/", "/why?student=4733683221&date=2026-11-20&expected=V"] {
            look(&page, width, scheme, "").await?;
            page.goto(format!("{url}{path}")).await?;
            assert!(is_within_its_width(&page).await?, "{path} at {width}");
            assert_eq!(complaints(&page).await?, Vec::<String>::new(), "{path} at {width}, {scheme}");
        }
    }
    page.goto(format!("{url}/students/4733683207")).await?;
    look(&page, 360, "light", "").await?;
    page.screenshot(&folder.path().join("parent.png")).await?;
    if let Some(picture) = std::env::var_os("PORTAL_PICTURE") {
        std::fs::copy(folder.path().join("parent.png"), picture)?;
    }
    look(&page, 1000, "light", "print").await?;
    assert!(!page.find(By::Tag("nav")).await?.is_displayed().await?, "links are not printed");
    assert!(page.find(By::Css("td button.authorised")).await?.is_displayed().await?);
    look(&page, 1000, "light", "").await?;

    // The office sees which registers were not taken, and that they are taken after the next sync.
    page.goto(&url).await?;
    let main = page.find(By::Tag("main")).await?.text().await?;
    assert!(main.contains("13:30 (PM): not taken for 6 of 40 students"), "{main}");
    portal.system.change(|school| {
        school.demo_changes(now().date_naive());
        school.remove_registrations(|row| row.student.as_str() == "4733683473");
    });
    let (synced, shown) = tokio::join!(portal.sync(), page.goto(format!("{url}/students/4733683207")));
    synced?;
    shown?;
    assert_eq!(page.find_all(By::Css("td button")).await?.len(), 30, "a whole month while a sync runs");
    page.goto(&url).await?;
    page.find(By::Css("form button")).await?.click().await?;
    let main = text_with(&page, "Every register that was read is taken.").await?;
    assert!(main.contains("Nothing was read of 1 student"), "{main}");
    page.quit().await?;
    Ok(())
}
