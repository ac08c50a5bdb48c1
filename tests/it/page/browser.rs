//! A headless browser, driven by the DevTools protocol over a pair of pipes.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use base64::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A browser that is silent for this long hangs.
pub(super) const NEVER: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];

/// A browser with one page.
pub(super) struct Browser {
    process: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    session: Value,
    last: u64,
    messages: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser; `None` if there is none, or if `BROWSER_TESTS` is `skip`. If it is `required`,
    /// a missing browser is a failure.
    pub(super) fn start() -> Option<Self> {
        let wish = env::var("BROWSER_TESTS").unwrap_or_default();
        if wish == "skip" {
            return None;
        }
        let paths = env::var_os("PATH").unwrap_or_default();
        let is_there = |name: &&str| env::split_paths(&paths).any(|it| it.join(name).is_file());
        let Some(program) = PROGRAMS.into_iter().find(is_there) else {
            let advice = "install chromium-headless-shell, on Debian by hack/setup browser";
            assert!(wish != "required", "there is none of {PROGRAMS:?}: {advice}");
            eprintln!("skipped: there is none of {PROGRAMS:?}: {advice}");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The protocol's pipes are the descriptors 3 and 4. A container has no sandbox of its own, and
        // little shared memory.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh", program])
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--window-size=1200,1400"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let requests = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON of the browser");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            process,
            requests,
            answers,
            session: Value::Null,
            last: 0,
            messages: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", target)["sessionId"].take();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the page, or of the browser before there is a page.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut request = json!({"id": self.last, "method": method, "params": parameters});
        if self.session.is_string() {
            request["sessionId"] = self.session.clone();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        loop {
            let mut answer = self.answers.recv_timeout(NEVER).expect("an answer of the browser");
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    /// Keeps what the console of a developer would show.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let is_message = match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => parameters["type"] != "log",
            _ => false,
        };
        if is_message {
            self.messages.push(parameters.to_string());
        }
    }

    /// The messages of the console so far.
    pub(super) fn messages(&self) -> &[String] {
        &self.messages
    }

    pub(super) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{opened}");
        self.until("the page is loaded", "document.readyState === 'complete'");
    }

    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let question = json!({"expression": expression, "returnByValue": true});
        self.call("Runtime.evaluate", question)["result"]["value"].take()
    }

    pub(super) fn until(&mut self, what: &str, condition: &str) {
        let start = Instant::now();
        while self.evaluate(condition) != true {
            let page = || "document.body.innerText.slice(0, 4000)";
            assert!(
                start.elapsed() < NEVER,
                "{what}: {}\n{:?}",
                self.evaluate(page()),
                self.messages
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an element has a text.
    pub(super) fn until_text(&mut self, selector: &str, text: &str) {
        let (selector, quoted) = (json!(selector), json!(text));
        let found = format!("document.querySelector({selector})?.textContent.includes({quoted})");
        self.until(text, &found);
    }

    /// Sets the colour scheme that the user prefers.
    pub(super) fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Focuses a field and selects what is in it.
    pub(super) fn focus(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({}).select()", json!(selector)));
    }

    /// Writes into the field that has the focus.
    pub(super) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses `Tab` or `Enter`.
    pub(super) fn press(&mut self, key: &str) {
        let (code, text) = if key == "Enter" { (13, "\r") } else { (9, "") };
        for kind in ["keyDown", "keyUp"] {
            let mut event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    pub(super) fn screenshot(&mut self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({}));
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        fs::write(file, picture).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The program may be a script that has started the browser; the script ends with it.
        let close = json!({"id": 0, "method": "Browser.close"});
        let _ = self.requests.write_all(format!("{close}\0").as_bytes());
        let start = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if start.elapsed() > NEVER {
                let _ = self.process.kill();
            }
            sleep(Duration::from_millis(50));
        }
    }
}
